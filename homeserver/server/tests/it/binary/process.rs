//! The program as a child process, and a client that asks it one thing at a time.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

/// A server that is up. It is killed when dropped.
pub(crate) struct Nudge {
    child: Child,
    /// Kept, since a program whose output nobody reads may stumble.
    _output: BufReader<std::process::ChildStdout>,
    /// Where clients connect.
    pub(crate) client: SocketAddr,
    /// Where metrics are.
    pub(crate) metrics: SocketAddr,
}

impl Nudge {
    /// Starts a server with its data in `directory`.
    pub(crate) fn start(directory: &TempDir, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = command(directory, variables);
        command.args(arguments);
        Self::spawn(command)
    }

    /// Starts a server that may open only so many files and connections: what `ulimit` is told.
    pub(crate) fn start_with_descriptors(directory: &TempDir, limit: &str) -> Self {
        let program = command(directory, &[]);
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("ulimit {limit}; exec \"$0\"")).arg(program.get_program());
        shell.env_clear().envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Self::spawn(shell)
    }

    fn spawn(mut command: Command) -> Self {
        // Nobody asks for bots but the test of them.
        if command.get_envs().all(|(name, _)| name != "NUDGE_BOTS__ENABLED") {
            command.env("NUDGE_BOTS__ENABLED", "false");
        }
        command.env("NUDGE_LISTEN", "127.0.0.1:0").env("NUDGE_METRICS__LISTEN", "127.0.0.1:0");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut address = |name: &str| loop {
            let mut line = String::new();
            assert_ne!(output.read_line(&mut line).unwrap(), 0, "the server did not start");
            if let Some(url) = line.trim().strip_prefix(name) {
                let address = url.trim().trim_start_matches("http://").split('/').next().unwrap();
                break address.parse().unwrap();
            }
        };
        let (client, metrics) = (address("clients"), address("metrics"));
        Self { child, _output: output, client, metrics }
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "the server does not stop");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a request without waiting for the answer.
    pub(crate) fn begin(&self, method: &str, path: &str, token: Option<&str>, body: &str) -> TcpStream {
        begin(self.client, method, path, token, body)
    }

    pub(crate) fn get(&self, path: &str, token: Option<&str>) -> (u16, Value) {
        finish(self.begin("GET", path, token, ""))
    }

    pub(crate) fn post(&self, path: &str, token: Option<&str>, body: &Value) -> (u16, Value) {
        finish(self.begin("POST", path, token, &body.to_string()))
    }
}

impl Drop for Nudge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn begin(address: SocketAddr, method: &str, path: &str, token: Option<&str>, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{authorization}");
    stream.write_all(format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes()).unwrap();
    stream
}

/// Waits for the answer: its status and its JSON.
pub(crate) fn finish(mut stream: TcpStream) -> (u16, Value) {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("an answer");
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

/// The whole answer as text.
pub(crate) fn text(address: SocketAddr, path: &str) -> String {
    let mut answer = String::new();
    begin(address, "GET", path, None, "").read_to_string(&mut answer).unwrap();
    answer
}

/// Runs a command to its end.
pub(crate) fn nudge(directory: &TempDir, arguments: &[&str], variables: &[(&str, &str)], input: &str) -> Output {
    let mut command = command(directory, variables);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that does not read its input has ended by now, which is its right.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn command(directory: &TempDir, variables: &[(&str, &str)]) -> Command {
    let data: PathBuf = directory.path().join("data");
    let mut command = Command::new(env!("CARGO_BIN_EXE_nudge"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
        .env("NUDGE_DATA_DIR", data)
        .env("NUDGE_ACCOUNTS__PASSWORD_HASHING", "cheap")
        .env("NUDGE_LOG__FILTER", "error");
    command.envs(variables.iter().copied());
    command
}

/// Creates an account in the way the server proposes when it starts; returns the access token.
pub(crate) fn register(server: &Nudge, name: &str, password: &str) -> String {
    let body = json!({ "username": name, "password": password, "auth": { "type": "m.login.dummy" } });
    let (status, answer) = server.post("/_matrix/client/v3/register", None, &body);
    assert_eq!(status, 200, "{answer}");
    answer["access_token"].as_str().unwrap().to_owned()
}
