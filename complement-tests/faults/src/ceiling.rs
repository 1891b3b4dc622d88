//! A limit to the memory of a server that the kernel sees to: who needs more is killed.
//!
//! Unlike a limit of addresses (`ulimit -v`), it counts what is really used, files that were just written included: those
//! are given back first.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// Where control groups are mounted, and what a group's limit is called there: of the second version, and of the first.
const MOUNTS: [(&str, &str); 2] =
    [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")];
/// The files that count who was killed for want of memory: of the second version, and of the first.
const COUNTERS: [&str; 2] = ["memory.events", "memory.oom_control"];

/// A control group with a limit; taken away when dropped, which is to be after the end of the server in it.
pub struct Ceiling {
    folder: PathBuf,
}

impl Ceiling {
    /// A group whose members together have no more than so much memory; `None` where none can be made, which takes root
    /// and control groups that count memory.
    pub fn of(bytes: u64) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("nudge-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        for (mount, limit) in MOUNTS {
            for group in own_groups(&groups, mount) {
                let folder = group.join(&name);
                if fs::create_dir(&folder).is_err() {
                    continue;
                }
                let ceiling = Self { folder };
                // Only where there is such a file already: elsewhere nobody would read it.
                if ceiling.folder.join(limit).exists() && ceiling.write(limit, &bytes.to_string()) {
                    // There may be no swap to limit.
                    ceiling.write("memory.swap.max", "0");
                    return Some(ceiling);
                }
            }
        }
        None
    }

    /// The file that takes in who writes its number there.
    pub(crate) fn members(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    /// How many were killed because there was not enough.
    pub fn killed(&self) -> u64 {
        let read = |name| fs::read_to_string(self.folder.join(name)).ok();
        let text = COUNTERS.into_iter().find_map(read).expect("a group that limits memory counts who was killed");
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|count| count.trim().parse().ok()).unwrap_or_else(|| panic!("no oom_kill in {text}"))
    }

    fn write(&self, file: &str, text: &str) -> bool {
        fs::write(self.folder.join(file), text).is_ok()
    }
}

impl Drop for Ceiling {
    fn drop(&mut self) {
        // What stays, if there is still somebody in it, is an empty name.
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Our own group and those around it, below a mount: in the second version, a group that has members and lends its
/// controllers to groups below it is not allowed.
fn own_groups(groups: &str, mount: &str) -> Vec<PathBuf> {
    let is_of_mount = |controllers: &str| match Path::new(mount).file_name() {
        Some(name) if name == "memory" => controllers.split(',').any(|controller| controller == "memory"),
        _ => controllers.is_empty(),
    };
    // Such as `0::/user.slice` or `4:memory:/user.slice`.
    let paths = groups.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        is_of_mount(controllers).then_some(path)
    });
    let own = paths.map(|path| Path::new(mount).join(path.trim_start_matches('/')));
    own.flat_map(|own| {
        own.ancestors().take_while(|group| group.starts_with(mount)).map(PathBuf::from).collect::<Vec<_>>()
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_looked_for_from_our_own_one_on() {
        let found = |groups, mount| -> Vec<String> {
            own_groups(groups, mount).iter().map(|path| path.display().to_string()).collect()
        };
        let both = "5:cpu,memory:/jobs/one\n1:name=systemd:/x\n0::/a/b\n";
        assert_eq!(found(both, "/sys/fs/cgroup"), ["/sys/fs/cgroup/a/b", "/sys/fs/cgroup/a", "/sys/fs/cgroup"]);
        let first = ["/sys/fs/cgroup/memory/jobs/one", "/sys/fs/cgroup/memory/jobs", "/sys/fs/cgroup/memory"];
        assert_eq!(found(both, "/sys/fs/cgroup/memory"), first);
    }
}
