//! As much of a homeserver as the bots call: one room whose members and messages it remembers, and everything that was
//! asked of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aibots::{Configuration, Running, ServiceSettings, registration, start_at, system};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

pub(crate) const ROOM: &str = "!room:test";
pub(crate) const ALICE: &str = "@alice:test";

/// Longer than anything takes, on however busy a machine.
const DEADLINE: Duration = Duration::from_mins(1);

/// What the homeserver knows.
#[derive(Default)]
pub(crate) struct Known {
    members: BTreeMap<String, Value>,
    /// Oldest first.
    pub(crate) timeline: Vec<Value>,
    transactions: BTreeMap<String, String>,
    pub(crate) typing: Vec<(String, bool)>,
    pub(crate) receipts: Vec<String>,
    /// How many further sends are answered with 429.
    pub(crate) busy: u32,
    /// How many further questions for the state a proxy refuses.
    pub(crate) shut: u32,
    /// How many further sends are done without saying so.
    pub(crate) lost: u32,
    /// What was set of the room's state but memberships: type and content.
    pub(crate) set: Vec<(String, Value)>,
    /// The body of each new room.
    pub(crate) made: Vec<Value>,
}

/// The homeserver, and the bots beside it.
pub(crate) struct Stage {
    pub(crate) known: Arc<Mutex<Known>>,
    pub(crate) configuration: Configuration,
    running: Option<Running>,
    http: reqwest::Client,
    hs_token: String,
    _folder: TempDir,
}

impl Stage {
    pub(crate) async fn new(change: impl FnOnce(&mut Configuration)) -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let known = Arc::new(Mutex::new(Known::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let router = Router::new().fallback(answer).with_state(known.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = TowerToHyperService::new(router.clone());
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let service = ServiceSettings { data_dir: folder.path().to_owned(), ..ServiceSettings::default() };
        let mut configuration = Configuration::offline(url, "test".to_owned(), service).unwrap();
        configuration.conversation.encryption = false;
        configuration.conversation.lobby = false;
        change(&mut configuration);
        let path = registration::write(&configuration, &system::world()).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let hs_token =
            text.lines().find_map(|line| line.strip_prefix("hs_token: ")).unwrap().trim_matches('"').to_owned();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut stage = Self { known, configuration, running: None, http, hs_token, _folder: folder };
        stage.start().await;
        stage
    }

    pub(crate) async fn start(&mut self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.configuration.service.listen = listener.local_addr().unwrap();
        self.running = Some(start_at(listener, self.configuration.clone(), system::world()).await.unwrap());
    }

    pub(crate) async fn stop(&mut self) {
        self.running.take().unwrap().stop().await;
    }

    pub(crate) async fn put(&self, transaction_id: &str, token: &str, events: &[Value]) -> StatusCode {
        let url = format!("http://{}/_matrix/app/v1/transactions/{transaction_id}", self.configuration.service.listen);
        let request = self.http.put(url).bearer_auth(token).body(json!({ "events": events }).to_string());
        request.send().await.unwrap().status()
    }

    /// Tells the bots of events, which happen at the same time.
    pub(crate) async fn tell(&self, transaction_id: &str, events: &[Value]) {
        {
            let mut known = self.known.lock().unwrap();
            for event in events.iter().filter(|event| event.get("state_key").is_none()) {
                known.timeline.push(event.clone());
            }
        }
        self.tell_again(transaction_id, events).await;
    }

    /// Tells the bots of events that have happened before.
    pub(crate) async fn tell_again(&self, transaction_id: &str, events: &[Value]) {
        assert_eq!(self.put(transaction_id, &self.hs_token, events).await, StatusCode::OK);
    }

    /// Has a user join, as the room's state says.
    pub(crate) fn join(&self, user_id: &str) {
        let mut known = self.known.lock().unwrap();
        known.members.insert(user_id.to_owned(), member(user_id, "join"));
    }

    /// Gives a user the power to set the room's state.
    pub(crate) fn empower(&self, user_id: &str) {
        let event = json!({ "type": "m.room.power_levels", "state_key": "", "sender": user_id, "room_id": ROOM,
            "event_id": "$power", "origin_server_ts": 1, "content": { "users": { user_id: 100 } } });
        self.known.lock().unwrap().members.insert("m.room.power_levels".to_owned(), event);
    }

    /// Has the room be encrypted, as its state says. Gives the event.
    pub(crate) fn encrypt(&self) -> Value {
        let event = json!({ "type": "m.room.encryption", "state_key": "", "sender": ALICE, "room_id": ROOM,
            "event_id": "$encryption", "origin_server_ts": 1, "content": { "algorithm": "m.megolm.v1.aes-sha2" } });
        self.known.lock().unwrap().members.insert("m.room.encryption".to_owned(), event.clone());
        event
    }

    /// Has a user leave, as the room's state says.
    pub(crate) fn leave(&self, user_id: &str) {
        self.known.lock().unwrap().members.remove(user_id);
    }

    /// Waits until something holds.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Known) -> bool) {
        let wait = async {
            while !holds(&self.known.lock().unwrap()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let came_true = tokio::time::timeout(DEADLINE, wait).await.is_ok();
        assert!(came_true, "never came true: {what}: {:#?}", self.known.lock().unwrap().timeline);
    }
}

impl Known {
    /// Who has answered an event, in order.
    pub(crate) fn answers(&self, event_id: &str) -> Vec<&str> {
        let is_new = |event: &&Value| event["content"]["m.relates_to"]["rel_type"] != "m.replace";
        let answers = self.timeline.iter().filter(is_new);
        let answers = answers.filter(|event| event["content"]["chat.nudge.ai"]["in_reply_to"] == event_id);
        answers.map(|event| event["sender"].as_str().unwrap()).collect()
    }

    pub(crate) fn is_joined(&self, user_id: &str) -> bool {
        self.members.get(user_id).is_some_and(|member| member["content"]["membership"] == "join")
    }
}

fn member(user_id: &str, membership: &str) -> Value {
    json!({ "type": "m.room.member", "state_key": user_id, "sender": user_id, "room_id": ROOM, "event_id": format!("$of-{user_id}"),
        "origin_server_ts": 1, "content": { "membership": membership } })
}

/// An invitation, as it comes in a transaction.
pub(crate) fn invitation(event_id: &str, user_id: &str) -> Value {
    let mut event = member(user_id, "invite");
    event["event_id"] = json!(event_id);
    event["sender"] = json!(ALICE);
    event
}

/// A message of now.
pub(crate) fn message(event_id: &str, body: &str) -> Value {
    json!({ "type": "m.room.message", "sender": ALICE, "room_id": ROOM, "event_id": event_id,
        "origin_server_ts": system::world().clock.now_ms(), "content": { "msgtype": "m.text", "body": body } })
}

async fn answer(State(known): State<Arc<Mutex<Known>>>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let query = parts.uri.query().unwrap_or_default();
    let caller = form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "user_id")
        .map(|(_, value)| value.into_owned());
    let caller = caller.unwrap_or_else(|| "@nudge-aibots:test".to_owned());
    let path = parts.uri.path().replace("%21", "!").replace("%3A", ":").replace("%40", "@").replace("%24", "$");
    let path: Vec<&str> = path.trim_start_matches("/_matrix/").split('/').collect();
    let mut known = known.lock().unwrap();
    let (status, answer) = known.handle(&parts.method, &path, &caller, &body);
    (status, answer.to_string()).into_response()
}

impl Known {
    fn handle(&mut self, method: &Method, path: &[&str], caller: &str, body: &Value) -> (StatusCode, Value) {
        let found = |value: Value| (StatusCode::OK, value);
        match (method.as_str(), path) {
            ("POST", ["media", ..]) => found(json!({ "content_uri": "mxc://test/picture" })),
            ("POST", ["client", "v3", "join", _]) => {
                self.members.insert(caller.to_owned(), member(caller, "join"));
                found(json!({ "room_id": ROOM }))
            }
            ("POST", ["client", "v3", "rooms", _, "leave"]) => {
                self.members.remove(caller);
                found(json!({}))
            }
            ("POST", ["client", "v3", "createRoom"]) => {
                self.made.push(body.clone());
                self.members.insert(caller.to_owned(), member(caller, "join"));
                found(json!({ "room_id": ROOM }))
            }
            ("GET", ["client", "v3", "rooms", _, "state"]) if self.shut > 0 => {
                self.shut -= 1;
                (StatusCode::FORBIDDEN, json!("a proxy says no"))
            }
            ("GET", ["client", "v3", "rooms", _, "state"]) if self.is_joined(caller) => {
                found(Value::Array(self.members.values().cloned().collect()))
            }
            ("GET", ["client", "v3", "rooms", _, "state"]) => {
                (StatusCode::FORBIDDEN, json!({ "errcode": "M_FORBIDDEN" }))
            }
            ("GET", ["client", "v3", "rooms", _, "messages"]) => {
                found(json!({ "chunk": self.timeline.iter().rev().collect::<Vec<_>>() }))
            }
            ("PUT", ["client", "v3", "rooms", _, "send", kind, transaction_id]) => {
                self.send(caller, kind, transaction_id, body)
            }
            ("PUT", ["client", "v3", "rooms", _, "state", kind, ..]) if *kind != "m.room.member" => {
                self.set.push(((*kind).to_owned(), body.clone()));
                found(json!({ "event_id": "$set" }))
            }
            ("PUT", ["client", "v3", "rooms", _, "typing", user_id]) => {
                self.typing.push(((*user_id).to_owned(), body["typing"] == true));
                found(json!({}))
            }
            ("POST", ["client", "v3", "rooms", _, "receipt", "m.read", event_id]) => {
                self.receipts.push((*event_id).to_owned());
                found(json!({}))
            }
            _ => found(json!({})),
        }
    }

    fn send(&mut self, caller: &str, kind: &str, transaction_id: &str, body: &Value) -> (StatusCode, Value) {
        if self.busy > 0 {
            self.busy -= 1;
            return (StatusCode::TOO_MANY_REQUESTS, json!({ "errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 10 }));
        }
        let key = format!("{caller} {transaction_id}");
        if let Some(event_id) = self.transactions.get(&key) {
            return (StatusCode::OK, json!({ "event_id": event_id }));
        }
        let event_id = format!("$sent-{}", self.transactions.len());
        self.transactions.insert(key, event_id.clone());
        self.timeline.push(json!({ "type": kind, "sender": caller, "room_id": ROOM, "event_id": event_id,
            "origin_server_ts": 1, "content": body }));
        if self.lost > 0 {
            self.lost -= 1;
            return (StatusCode::OK, json!({}));
        }
        (StatusCode::OK, json!({ "event_id": event_id }))
    }
}
