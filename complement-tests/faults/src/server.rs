//! The binary as a child process.

use std::{
    ffi::OsStr,
    net::TcpListener,
    path::PathBuf,
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use tokio::process::{Child, Command};

use crate::{Ceiling, Database, LONG};

/// How long a start may take. Generous: the machine may be busy with other tests.
const START_DEADLINE: Duration = Duration::from_mins(1);

/// A running server on a data folder that outlives it.
pub struct Server {
    child: Child,
    /// Where the client API answers.
    pub base_url: String,
}

/// The binary under test: `NUDGE_BINARY`, or the one that was built into the same target folder.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("NUDGE_BINARY") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a test knows where it is");
    let profile = test.ancestors().nth(2).expect("a test lies in <target>/<profile>/deps");
    profile.join("nudge")
}

/// A port of the loopback address that nobody uses now. It is none of those from 32,768 on, which the system gives to
/// connections: somebody's could have it before the server does.
pub fn free_port() -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let ports = std::iter::repeat_with(|| {
        let number = std::process::id().wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        10_000 + (number % 20_000) as u16
    });
    let mut free = ports.take(20_000).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.next().expect("there is a free port")
}

impl Server {
    /// Starts the binary and waits until it answers.
    pub async fn start(database: &Database, port: u16) -> Self {
        Self::start_with(database, port, &[]).await
    }

    /// The same with more settings, by their variables.
    pub async fn start_with(database: &Database, port: u16, more: &[(&str, &str)]) -> Self {
        let mut server = Self::spawn(database, port, more);
        server.wait_until_it_answers(database).await;
        server
    }

    /// The same below a ceiling, from its first byte on.
    pub async fn start_below(ceiling: &Ceiling, database: &Database, port: u16, more: &[(&str, &str)]) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(ceiling.members()).arg(binary());
        let mut server = Self::spawn_by(shell, database, port, more);
        server.wait_until_it_answers(database).await;
        server
    }

    /// Starts the binary, and does not wait until it answers.
    pub fn spawn(database: &Database, port: u16, more: &[(&str, &str)]) -> Self {
        Self::spawn_by(Command::new(binary()), database, port, more)
    }

    fn spawn_by(mut command: Command, database: &Database, port: u16, more: &[(&str, &str)]) -> Self {
        command
            .args(["serve", "--server-name", database.server_name()])
            .args(["--registration", "open", "--rate-limits", "off"])
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(["--data-dir".as_ref(), database.data_dir().as_os_str()])
            .args(["--database-url", &database.url()])
            .env("NUDGE_ACCOUNTS__PASSWORD_HASHING", "cheap")
            .env("NUDGE_BOTS__ENABLED", "false")
            .envs(more.iter().copied())
            .env_remove(LONG)
            .stdout(Stdio::null())
            .stderr(Stdio::from(database.log_file()))
            .kill_on_drop(true);
        let child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", binary().display()));
        Self { child, base_url: format!("http://127.0.0.1:{port}") }
    }

    /// Waits for a server that refuses to start; fails if it does not, or starts after all.
    pub async fn refuses(mut self, database: &Database) -> String {
        let begun = Instant::now();
        while begun.elapsed() < START_DEADLINE {
            if let Some(status) = self.child.try_wait().expect("a child can be asked") {
                assert!(!status.success(), "the server ended with {status}");
                return database.log();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the server does not refuse to start: {}", database.log());
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("the server runs")
    }

    /// How much memory it has now, in KiB.
    pub fn memory_kib(&self) -> u64 {
        self.of_status("VmRSS")
    }

    /// How much it had at most, in KiB.
    pub fn memory_peak_kib(&self) -> u64 {
        self.of_status("VmHWM")
    }

    /// How many connections it has to a port of the loopback address at which it is a client, as far as it knows.
    pub fn connections_to(&self, port: u16) -> usize {
        const ESTABLISHED: &str = "01";
        let remote = format!("0100007F:{port:04X}");
        let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", self.pid())).expect("there is a /proc");
        let fields = table.lines().map(|line| line.split_whitespace().skip(2).take(2).collect::<Vec<_>>());
        fields.filter(|fields| *fields == [remote.as_str(), ESTABLISHED]).count()
    }

    /// A line of what the kernel tells of the process.
    fn of_status(&self, name: &str) -> u64 {
        let pid = self.pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("there is a /proc");
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.unwrap_or_else(|| panic!("no {name} in {status}"))
    }

    /// Kills it on the spot: nothing is flushed, nothing is closed.
    pub async fn kill(mut self) {
        self.child.start_kill().expect("the server runs");
        self.child.wait().await.expect("a killed process ends");
    }

    /// Asks it to stop and waits; fails unless it exits with success.
    pub async fn stop(mut self) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().await;
        assert!(sent.expect("`kill` is there").success());
        let status = self.child.wait().await.expect("a stopped process ends");
        assert!(status.success(), "the server ended with {status}");
    }

    /// Runs `nudge fsck` on a stopped server's database and fails unless it finds nothing.
    pub async fn check(database: &Database) {
        Self::run(database, &["fsck".as_ref()]).await;
    }

    /// Runs a command of the binary beside a server on a database, or in its stead, and fails unless it succeeds.
    pub async fn run(database: &Database, arguments: &[&OsStr]) {
        let output = Command::new(binary())
            .args(arguments)
            .args(["--server-name", database.server_name()])
            .args(["--data-dir".as_ref(), database.data_dir().as_os_str()])
            .args(["--database-url", &database.url()])
            .env_remove(LONG)
            .output()
            .await
            .expect("the binary is there");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {out}{err}");
    }

    async fn wait_until_it_answers(&mut self, database: &Database) {
        let since = Instant::now();
        let url = format!("{}/_matrix/client/versions", self.base_url);
        loop {
            if reqwest::get(&url).await.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            if let Some(status) = self.child.try_wait().expect("a child can be asked") {
                panic!("the server ended with {status}: {}", database.log());
            }
            assert!(since.elapsed() < START_DEADLINE, "the server does not answer: {}", database.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
