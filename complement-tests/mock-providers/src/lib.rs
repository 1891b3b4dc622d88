//! A server that answers like a provider of completions, well or badly: one scripted reply for each request, byte by byte
//! if a test wants, and a journal of what was asked. It speaks HTTP/1.1 by hand, because most of what is to be tried is
//! what a proper server would not do.

pub mod anthropic;
pub mod openai;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::sleep,
};

/// The largest request that is read; a conversation with two pictures is below.
const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A scripted reply.
#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    steps: Vec<Step>,
}

/// What happens next to the body of a reply.
#[derive(Clone, Debug)]
pub enum Step {
    /// These bytes are sent, as one piece.
    Bytes(Vec<u8>),
    /// Nothing, for so long.
    Pause(Duration),
    /// Nothing ever again, on an open connection.
    Hang,
    /// The connection breaks.
    Break,
}

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `POST /v1/messages`.
    pub line: String,
    /// Headers by their name in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body, `Null` if it is not JSON.
    pub body: Value,
}

/// The server. It ends when it is dropped.
pub struct MockProvider {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    script: VecDeque<Reply>,
    otherwise: Option<Reply>,
    asked: Vec<Asked>,
}

impl Reply {
    /// A body in one piece.
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::steps(status, content_type, vec![Step::Bytes(body.into())])
    }

    /// A body in steps.
    pub fn steps(status: u16, content_type: &str, steps: Vec<Step>) -> Self {
        Self { status, headers: vec![("content-type".to_owned(), content_type.to_owned())], steps }
    }

    /// JSON.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::new(status, "application/json", body.to_string())
    }

    /// Events, each a piece of its own.
    pub fn events(events: impl IntoIterator<Item = String>) -> Self {
        Self::steps(200, "text/event-stream", events.into_iter().map(|event| Step::Bytes(event.into_bytes())).collect())
    }

    /// With a further header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With further steps of the body.
    #[must_use]
    pub fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// The same bytes in pieces of this size.
    #[must_use]
    pub fn in_pieces(mut self, bytes: usize) -> Self {
        let cut = |step: Step| match step {
            Step::Bytes(whole) => whole.chunks(bytes.max(1)).map(|piece| Step::Bytes(piece.to_vec())).collect(),
            other => vec![other],
        };
        self.steps = self.steps.into_iter().flat_map(cut).collect();
        self
    }
}

impl MockProvider {
    /// A server on a port of its own that gives these replies in turn, and then a failure that says so.
    pub async fn start(script: impl IntoIterator<Item = Reply>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State { script: script.into_iter().collect(), ..State::default() }));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // One that goes away in the middle is part of the play.
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Ok(Self { address, state, task })
    }

    /// Further replies.
    pub fn add(&self, reply: Reply) {
        self.with(|state| state.script.push_back(reply));
    }

    /// What is answered when the script is at its end.
    pub fn otherwise(&self, reply: Reply) {
        self.with(|state| state.otherwise = Some(reply));
    }

    /// The base URL, with the version.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// All that was asked, the oldest first.
    pub fn asked(&self) -> Vec<Asked> {
        self.with(|state| state.asked.clone())
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().expect("no test panics with it"))
    }
}

impl Drop for MockProvider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) -> io::Result<()> {
    let Some(asked) = read(&mut stream).await? else { return Ok(()) };
    let reply = {
        let mut state = state.lock().expect("no test panics with it");
        state.asked.push(asked);
        let unscripted = || Reply::json(500, &json!({ "error": { "message": "the script is at its end" } }));
        state.script.pop_front().or_else(|| state.otherwise.clone()).unwrap_or_else(unscripted)
    };
    let mut head = format!("HTTP/1.1 {} Scripted\r\nconnection: close\r\ntransfer-encoding: chunked\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&[name, ": ", value, "\r\n"].concat());
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await?;
    stream.set_nodelay(true)?;
    for step in reply.steps {
        match step {
            Step::Bytes(bytes) if bytes.is_empty() => {}
            Step::Bytes(bytes) => {
                stream.write_all(format!("{:x}\r\n", bytes.len()).as_bytes()).await?;
                stream.write_all(&bytes).await?;
                stream.write_all(b"\r\n").await?;
                stream.flush().await?;
            }
            Step::Pause(duration) => sleep(duration).await,
            Step::Hang => std::future::pending().await,
            Step::Break => return Ok(()),
        }
    }
    stream.write_all(b"0\r\n\r\n").await?;
    stream.shutdown().await
}

async fn read(stream: &mut TcpStream) -> io::Result<Option<Asked>> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await? == 0 || bytes.len() > REQUEST_BYTES_MAX {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = bytes.split_off(head_end + 4);
    while body.len() < length.min(REQUEST_BYTES_MAX) {
        if stream.read_buf(&mut body).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(Asked { line, headers, body: serde_json::from_slice(&body).unwrap_or_default() }))
}
