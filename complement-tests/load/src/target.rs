//! A homeserver under load, and what it has used.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use faults::{Client, Database, Server, server::free_port};
use futures_util::future::join_all;
use tokio::time::sleep;

use crate::peers;

/// Ticks of the kernel's clock in a second: the same on all of its ports for what it tells programs.
const TICKS_PER_SECOND: u64 = 100;
/// For how long a server has to do next to nothing to be at rest, and for how much of that it may be busy.
const REST: Duration = Duration::from_secs(1);
const BUSY_AT_REST_MAX: Duration = Duration::from_millis(50);
/// How long one is waited for that never rests.
const REST_LATE_MAX: Duration = Duration::from_mins(1);

/// A homeserver that runs.
pub(crate) struct Target {
    /// What the table calls it.
    pub(crate) name: String,
    /// Where its client API answers.
    pub(crate) base_url: String,
    pid: u32,
    /// Ours, on its database. With full durability: an answer is on the disk.
    ours: Option<(Server, Database)>,
    registered: AtomicU32,
}

impl Target {
    /// Ours on SQLite.
    pub(crate) async fn nudge_on_sqlite() -> Self {
        Self::nudge("Nudge, SQLite", Database::sqlite()).await
    }

    /// Ours on a new database in the cluster at `NUDGE_TEST_POSTGRES_URL`, if that is set.
    pub(crate) async fn nudge_on_postgres() -> Option<Self> {
        let database = Database::postgres("load").await?;
        Some(Self::nudge("Nudge, PostgreSQL", database).await)
    }

    async fn nudge(name: &str, database: Database) -> Self {
        Self::nudge_with(name, database, &[]).await
    }

    async fn nudge_with(name: &str, database: Database, more: &[(&str, &str)]) -> Self {
        let authority = peers::authority();
        let authority = authority.to_str().expect("the folder of this repository has a name of letters");
        // It is to find the other servers of this machine.
        let federation = [
            ("NUDGE_FEDERATION__EXTRA_CERTIFICATE_AUTHORITIES", authority),
            ("NUDGE_FEDERATION__ALLOW_PRIVATE_ADDRESSES", "127.0.0.0/8"),
        ];
        let server = Server::start_with(&database, free_port(), &[&federation, more].concat()).await;
        let (base_url, pid) = (server.base_url.clone(), server.pid());
        Self { ours: Some((server, database)), ..Self::running(name.to_owned(), base_url, pid) }
    }

    /// One more of the same kind with a setting of its own, if this one is ours: a file in its folder of data, with this
    /// in it.
    pub(crate) async fn another(&self, purpose: &str, variable: &str, file: &str, content: &str) -> Option<Self> {
        let (_, database) = self.ours.as_ref()?;
        let database = if database.url().starts_with("sqlite:") {
            Database::sqlite()
        } else {
            Database::postgres(&format!("load_{purpose}_{}", self.registered.fetch_add(1, Ordering::Relaxed))).await?
        };
        let path = database.data_dir().join(file);
        std::fs::write(&path, content).expect("the folder of data can be written to");
        let path = path.to_str().expect("the folder of data has a name of letters").to_owned();
        Some(Self::nudge_with(&self.name, database, &[(variable, &path)]).await)
    }

    /// One that somebody else has started.
    pub(crate) fn running(name: String, base_url: String, pid: u32) -> Self {
        Self { name, base_url, pid, ours: None, registered: AtomicU32::new(0) }
    }

    /// Its host and port.
    pub(crate) fn address(&self) -> &str {
        self.base_url.trim_start_matches("http://").trim_end_matches('/')
    }

    /// Registers so many users, a few at a time.
    pub(crate) async fn people(&self, count: usize) -> Vec<Client> {
        const AT_ONCE: usize = 4;
        let mut people = Vec::with_capacity(count);
        while people.len() < count {
            let some = (0..AT_ONCE.min(count - people.len())).map(|_| self.person());
            people.extend(join_all(some).await);
        }
        people
    }

    /// Registers a user of a new name.
    pub(crate) async fn person(&self) -> Client {
        let number = self.registered.fetch_add(1, Ordering::Relaxed);
        Client::register(&self.base_url, &format!("load-{}-{number}", std::process::id())).await
    }

    /// The processor time that the server has used since it started, its kernel's part included. Of PostgreSQL's
    /// processes it knows nothing.
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(self.proc("stat")).expect("the server runs");
        // The name in parentheses, which may hold anything, comes before the fields that count.
        let (_, fields) = stat.rsplit_once(')').expect("a process has a name");
        let ticks =
            fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks are numbers"));
        Duration::from_millis(ticks.sum::<u64>() * 1000 / TICKS_PER_SECOND)
    }

    /// The memory that the server has now, in KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        self.of_status("VmRSS:")
    }

    /// The memory that is its own, in KiB: without the parts of SQLite's file that are mapped, which grow with the file.
    pub(crate) fn own_memory_kib(&self) -> u64 {
        self.of_status("RssAnon:")
    }

    /// The most memory that the server had since that was forgotten, in KiB.
    pub(crate) fn memory_peak_kib(&self) -> u64 {
        self.of_status("VmHWM:")
    }

    /// The most memory that it had until now counts no more.
    pub(crate) fn forget_memory_peak(&self) {
        std::fs::write(self.proc("clear_refs"), "5").expect("the server is of the same user");
    }

    /// Waits until the server has done what there is to do.
    pub(crate) async fn until_at_rest(&self) {
        let since = Instant::now();
        while since.elapsed() < REST_LATE_MAX {
            let before = self.processor_time();
            sleep(REST).await;
            if self.processor_time().saturating_sub(before) <= BUSY_AT_REST_MAX {
                return;
            }
        }
    }

    fn of_status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(self.proc("status")).expect("the server runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).expect("a process has memory")
    }

    /// Stops it, if it is ours.
    pub(crate) async fn stop(self) {
        if let Some((server, _database)) = self.ours {
            server.stop().await;
        }
    }

    fn proc(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.pid))
    }
}
