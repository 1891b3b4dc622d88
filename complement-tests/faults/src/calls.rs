//! Calls of the system that fail, as far as a server can see.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use tokio::process::{Child, Command};

use crate::RECOVERY;

/// What stands between a process and the kernel: `strace`. Once it is dropped, calls succeed again.
pub struct FailingCalls(Child);

impl FailingCalls {
    /// From now on, these calls of a process fail with an error, such as `EIO`; `None` where there is no `strace`, or it may
    /// not look at other processes.
    pub async fn of(pid: u32, calls: &str, error: &str) -> Option<Self> {
        let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:error={error}"));
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject, "-p", &pid.to_string()]);
        let mut child = command.stderr(Stdio::null()).kill_on_drop(true).spawn().ok()?;
        let threads = || std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let is_traced = |entry: std::fs::DirEntry| {
            let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
            !status.contains("TracerPid:\t0")
        };
        let since = Instant::now();
        while !threads().all(is_traced) {
            if child.try_wait().ok()?.is_some() || since.elapsed() > RECOVERY {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(Self(child))
    }

    /// From now on they succeed again.
    pub async fn stop(mut self) {
        self.0.kill().await.expect("it can be stopped");
    }
}
