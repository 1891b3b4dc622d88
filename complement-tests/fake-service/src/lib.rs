//! An application service that says whatever a test wants, and is strict about what it is told: it remembers all that a
//! homeserver must not do, and [`FakeService::violations`] has to be empty in the end.
//!
//! It listens on the loopback, on a port of the system's choice, so that the HTTP of the homeserver is tested too.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// The longest that [`FakeService::wait_for_events`] waits, for a machine that is very busy.
const PATIENCE: Duration = Duration::from_mins(1);

/// What is done when it is asked whether a user or an alias exists.
pub type Query = Arc<dyn Fn(String) -> BoxFuture<'static, bool> + Send + Sync>;

/// How it answers transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// 200.
    Accept,
    /// This status.
    Refuse(u16),
    /// Not at all.
    Hang,
    /// It takes what comes, but breaks off before it says so.
    LoseAnswer,
}

/// A transaction that was taken.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// Its id.
    pub id: String,
    /// Its body.
    pub body: Value,
}

/// The service.
pub struct FakeService {
    address: SocketAddr,
    state: Arc<State>,
    listener: JoinHandle<()>,
}

struct State {
    hs_token: String,
    seen: Mutex<Seen>,
    query: Mutex<Option<Query>>,
    changed: watch::Sender<()>,
}

struct Seen {
    behaviour: Behaviour,
    /// Every attempt: the id, and whether it was answered by 200.
    attempts: Vec<(String, bool)>,
    bodies: HashMap<String, Bytes>,
    taken: Vec<Transaction>,
    others: Vec<String>,
    answers: BTreeMap<String, (u16, Value)>,
    violations: Vec<String>,
}

impl FakeService {
    /// Starts a service that expects that token of the homeserver.
    ///
    /// # Panics
    ///
    /// When there is no free port on the loopback.
    pub async fn start(hs_token: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port on the loopback");
        let address = listener.local_addr().expect("it is bound");
        let seen = Seen {
            behaviour: Behaviour::Accept,
            attempts: Vec::new(),
            bodies: HashMap::new(),
            taken: Vec::new(),
            others: Vec::new(),
            answers: BTreeMap::new(),
            violations: Vec::new(),
        };
        let state = Arc::new(State {
            hs_token: hs_token.to_owned(),
            seen: Mutex::new(seen),
            query: Mutex::default(),
            changed: watch::Sender::new(()),
        });
        let listener = tokio::spawn(listen(listener, Arc::clone(&state)));
        Self { address, state, listener }
    }

    /// Its URL, for the registration.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on it answers transactions like that.
    pub fn behave(&self, behaviour: Behaviour) {
        self.state.seen().behaviour = behaviour;
    }

    /// From now on it answers a request, such as `GET /_matrix/app/v1/thirdparty/protocol/irc`, with this.
    pub fn answer(&self, request: &str, status: u16, body: Value) {
        self.state.seen().answers.insert(request.to_owned(), (status, body));
    }

    /// From now on it does this when it is asked whether a user or an alias exists.
    pub fn on_query(&self, query: Query) {
        *self.state.query.lock().unwrap_or_else(PoisonError::into_inner) = Some(query);
    }

    /// The transactions that were taken, each once.
    pub fn transactions(&self) -> Vec<Transaction> {
        self.state.seen().taken.clone()
    }

    /// The ids of all transactions that came, as often as they came, and whether they were answered by 200.
    pub fn attempts(&self) -> Vec<(String, bool)> {
        self.state.seen().attempts.clone()
    }

    /// All other requests, as method and path with query.
    pub fn others(&self) -> Vec<String> {
        self.state.seen().others.clone()
    }

    /// What stands under a name in all transactions that were taken, in order.
    pub fn all(&self, name: &str) -> Vec<Value> {
        let taken = self.transactions();
        taken.iter().flat_map(|transaction| transaction.body[name].as_array().cloned().unwrap_or_default()).collect()
    }

    /// The events of all transactions that were taken, in order.
    pub fn events(&self) -> Vec<Value> {
        self.all("events")
    }

    /// How many events of a type the transactions that were taken had. Nothing is copied for that.
    pub fn count(&self, kind: &str) -> usize {
        let seen = self.state.seen();
        let events = seen.taken.iter().filter_map(|transaction| transaction.body["events"].as_array()).flatten();
        events.filter(|event| event["type"] == kind).count()
    }

    /// What the homeserver did that it must not do.
    pub fn violations(&self) -> Vec<String> {
        self.state.seen().violations.clone()
    }

    /// Waits until what was taken is as wanted.
    ///
    /// # Panics
    /// When that does not happen in time.
    pub async fn wait_until(&self, what: &str, is_there: impl Fn(&Self) -> bool) {
        let mut changed = self.state.changed.subscribe();
        let waiting = async {
            while !is_there(self) {
                changed.changed().await.expect("the sender lives as long as this");
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, waiting).await.is_ok();
        assert!(in_time, "{what}: did not come; came: {}", self.last_taken());
    }

    /// Waits for that many events.
    ///
    /// # Panics
    /// When they do not come in time.
    pub async fn wait_for_events(&self, count: usize) -> Vec<Value> {
        self.wait_until("events", |service| service.events().len() >= count).await;
        self.events()
    }

    /// The end of what was taken, for whoever reads why a test fails.
    fn last_taken(&self) -> String {
        const SHOWN: usize = 20;
        let taken = self.transactions();
        let left_out = taken.len().saturating_sub(SHOWN);
        format!("{left_out} transactions, and {:#?}", &taken[left_out..])
    }

    /// Waits for that many attempts to deliver something.
    ///
    /// # Panics
    /// When they do not come in time.
    pub async fn wait_for_attempts(&self, count: usize) {
        self.wait_until("attempts", |service| service.attempts().len() >= count).await;
    }
}

impl Drop for FakeService {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl State {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn listen(listener: TcpListener, state: Arc<State>) {
    // With the service its connections end, also those that are kept for later.
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let serve = service_fn(move |request| answer(Arc::clone(&state), request));
            // A connection that breaks off is nobody's business.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), serve).await;
        });
    }
}

/// A connection is broken off by an error.
async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let path = head.uri.path().to_owned();
    let line = format!("{} {}", head.method, head.uri.path_and_query().map_or("", |path| path.as_str()));
    let expected = format!("Bearer {}", state.hs_token);
    let tokens: Vec<_> = head.headers.get_all("authorization").iter().collect();
    if tokens.len() != 1 || tokens[0] != expected.as_str() {
        state.seen().violations.push(format!("{line}: authorization {tokens:?}"));
        return Ok(reply(403, &json!({ "errcode": "M_FORBIDDEN" })));
    }
    match path.strip_prefix("/_matrix/app/v1/transactions/") {
        Some(id) if head.method == Method::PUT => transaction(&state, id, body).await,
        _ => Ok(other(&state, line, &path).await),
    }
}

async fn transaction(state: &State, id: &str, body: Bytes) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let behaviour = state.take(id, &body);
    state.changed.send_replace(());
    match behaviour {
        Behaviour::Accept => Ok(reply(200, &json!({}))),
        Behaviour::Refuse(status) => Ok(reply(status, &json!({ "errcode": "M_UNKNOWN" }))),
        Behaviour::Hang => std::future::pending().await,
        Behaviour::LoseAnswer => Err(std::io::Error::other("the answer is lost")),
    }
}

impl State {
    fn take(&self, id: &str, body: &Bytes) -> Behaviour {
        let mut seen = self.seen();
        let behaviour = seen.behaviour;
        let parsed: Value = serde_json::from_slice(body).unwrap_or_default();
        if !parsed["events"].is_array() {
            seen.violations.push(format!("transaction {id} has no events: {parsed}"));
        }
        let is_new = !seen.bodies.contains_key(id);
        let before = seen.bodies.entry(id.to_owned()).or_insert_with(|| body.clone()).clone();
        if before != *body {
            seen.violations.push(format!("transaction {id} came again with another body"));
        }
        if seen.attempts.iter().any(|(other, taken)| other == id && *taken) {
            seen.violations.push(format!("transaction {id} came again after it was taken"));
        }
        seen.attempts.push((id.to_owned(), behaviour == Behaviour::Accept));
        // As services do, one whose answer was lost is known by its id when it comes again.
        let takes = matches!(behaviour, Behaviour::Accept | Behaviour::LoseAnswer);
        if takes && (is_new || !seen.taken.iter().any(|taken| taken.id == id)) {
            seen.taken.push(Transaction { id: id.to_owned(), body: parsed });
        }
        behaviour
    }
}

async fn other(state: &State, line: String, path: &str) -> Response<Full<Bytes>> {
    let known = {
        let mut seen = state.seen();
        seen.others.push(line.clone());
        seen.answers.get(&line).cloned()
    };
    state.changed.send_replace(());
    if let Some((status, body)) = known {
        return reply(status, &body);
    }
    let query = state.query.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let asked = ["/_matrix/app/v1/users/", "/_matrix/app/v1/rooms/"].iter().find_map(|start| path.strip_prefix(start));
    if let (Some(query), Some(asked)) = (query, asked)
        && query(decoded(asked)).await
    {
        return reply(200, &json!({}));
    }
    reply(404, &json!({ "errcode": "M_NOT_FOUND" }))
}

fn decoded(text: &str) -> String {
    text.replace("%23", "#").replace("%40", "@").replace("%3A", ":")
}

fn reply(status: u16, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}
