//! A client that does as much of the client-server API as the tests need, and takes nothing for granted.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::RECOVERY;

/// A logged-in user.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base_url: String,
    token: String,
    /// The user.
    pub user_id: String,
    /// The device.
    pub device_id: String,
}

/// A message and the event that it became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The transaction id.
    pub transaction_id: String,
    /// The body.
    pub body: String,
    /// The event id, when the server acknowledged.
    pub event_id: Option<String>,
}

impl Client {
    /// Registers a user.
    pub async fn register(base_url: &str, name: &str) -> Self {
        let http = reqwest::Client::new();
        let (token, user_id, device_id) = (String::new(), String::new(), String::new());
        let mut client = Self { http, base_url: base_url.to_owned(), token, user_id, device_id };
        let body = json!({ "username": name, "password": "correct horse", "auth": { "type": "m.login.dummy" } });
        let answer = client.ok(Method::POST, "/_matrix/client/v3/register", &body).await;
        client.token = text(&answer, "access_token");
        client.user_id = text(&answer, "user_id");
        client.device_id = text(&answer, "device_id");
        client
    }

    /// An application service as its own user.
    pub async fn of_service(base_url: &str, as_token: &str) -> Self {
        let (http, base_url, token) = (reqwest::Client::new(), base_url.to_owned(), as_token.to_owned());
        let mut client = Self { http, base_url, token, user_id: String::new(), device_id: String::new() };
        client.user_id = text(&client.get("/_matrix/client/v3/account/whoami").await, "user_id");
        client
    }

    /// The same device, of a server that is somewhere else now.
    #[must_use]
    pub fn at(&self, base_url: &str) -> Self {
        Self { base_url: base_url.to_owned(), ..self.clone() }
    }

    /// The access token, for what this client cannot do.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Another device of the same user.
    pub async fn log_in_again(&self, name: &str) -> Self {
        let identifier = json!({ "type": "m.id.user", "user": name });
        let body = json!({ "type": "m.login.password", "identifier": identifier, "password": "correct horse" });
        let answer = self.ok(Method::POST, "/_matrix/client/v3/login", &body).await;
        let (token, device_id) = (text(&answer, "access_token"), text(&answer, "device_id"));
        Self { token, device_id, ..self.clone() }
    }

    /// Creates a public room.
    pub async fn create_room(&self) -> String {
        let answer = self.ok(Method::POST, "/_matrix/client/v3/createRoom", &json!({ "preset": "public_chat" })).await;
        text(&answer, "room_id")
    }

    /// Joins a room.
    pub async fn join(&self, room_id: &str) {
        self.ok(Method::POST, &format!("/_matrix/client/v3/rooms/{room_id}/join"), &json!({})).await;
    }

    /// Sends a message; `None` when there was no answer, or one that is not a 200.
    pub async fn send(&self, room_id: &str, transaction_id: &str, body: &str) -> Option<String> {
        let path = format!("/_matrix/client/v3/rooms/{room_id}/send/m.room.message/{transaction_id}");
        let content = json!({ "msgtype": "m.text", "body": body });
        match self.request(Method::PUT, &path, Some(&content)).await {
            Ok((StatusCode::OK, answer)) => Some(text(&answer, "event_id")),
            _ => None,
        }
    }

    /// The same, for who wants to know what the answer is; `None` when there is none.
    pub async fn try_to_send(&self, room_id: &str, transaction_id: &str, body: &str) -> Option<StatusCode> {
        let path = format!("/_matrix/client/v3/rooms/{room_id}/send/m.room.message/{transaction_id}");
        let content = json!({ "msgtype": "m.text", "body": body });
        self.request(Method::PUT, &path, Some(&content)).await.ok().map(|(status, _)| status)
    }

    /// Sends a message, again and again until it is acknowledged.
    pub async fn send_until_acknowledged(&self, room_id: &str, transaction_id: &str, body: &str) -> String {
        let since = Instant::now();
        loop {
            if let Some(event_id) = self.send(room_id, transaction_id, body).await {
                return event_id;
            }
            assert!(since.elapsed() < RECOVERY, "{transaction_id} is not taken");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Has the server send a message after a while.
    pub async fn send_later(&self, room_id: &str, transaction_id: &str, body: &str, delay: Duration) {
        let path = format!("/_matrix/client/v3/rooms/{room_id}/send/m.room.message/{transaction_id}");
        let path = format!("{path}?org.matrix.msc4140.delay={}", delay.as_millis());
        self.ok(Method::PUT, &path, &json!({ "msgtype": "m.text", "body": body })).await;
    }

    /// What the answer to a message is, and when to come back, if it says so; `None` when there is none.
    pub async fn refusal(&self, room_id: &str, transaction_id: &str, body: &str) -> Option<(StatusCode, Option<u64>)> {
        let path = format!("/_matrix/client/v3/rooms/{room_id}/send/m.room.message/{transaction_id}");
        let content = json!({ "msgtype": "m.text", "body": body });
        let request = self.http.put(format!("{}{path}", self.base_url)).bearer_auth(&self.token);
        let answer = request.body(content.to_string()).send().await.ok()?;
        let retry_after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        Some((answer.status(), retry_after))
    }

    /// Somebody without an account.
    pub fn stranger(base_url: &str) -> Self {
        let (token, user_id, device_id) = ("nobody's".to_owned(), String::new(), String::new());
        Self { http: reqwest::Client::new(), base_url: base_url.to_owned(), token, user_id, device_id }
    }

    /// What the status of the answer at a path is; `None` when there is none.
    pub async fn status(&self, path: &str) -> Option<StatusCode> {
        self.request(Method::GET, path, None).await.ok().map(|(status, _)| status)
    }

    /// Waits until `/sync` from a token shows as many messages of a room, and returns their texts.
    pub async fn wait_for_messages(&self, since: &str, room_id: &str, count: usize) -> Vec<String> {
        let begun = Instant::now();
        loop {
            let messages = self.messages_since(since).await.remove(room_id).unwrap_or_default();
            if messages.len() >= count {
                return messages.into_iter().map(|(_, body)| body).collect();
            }
            assert!(begun.elapsed() < RECOVERY, "{} of {count} messages were told of", messages.len());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Fails unless what was acknowledged is in the history of a room, once and in order, and besides it nothing but what
    /// was not acknowledged.
    pub async fn check_history(&self, room_id: &str, acknowledged: &[String], uncertain: &[String]) {
        let bodies = self.history(room_id).await.into_iter().map(|(_, body)| body);
        let (certain, others): (Vec<_>, Vec<_>) = bodies.partition(|body| acknowledged.contains(body));
        assert!(certain == acknowledged, "{} of {} messages are there in order", certain.len(), acknowledged.len());
        assert!(others.iter().all(|body| uncertain.contains(body)), "messages that nobody has sent");
    }

    /// Uploads a file, and returns what the answer is; `None` when there is none.
    pub async fn upload(&self, content: Vec<u8>) -> Option<StatusCode> {
        let url = format!("{}/_matrix/media/v3/upload", self.base_url);
        // On a connection of its own: one on which an upload was refused is closed by the server, perhaps while it is used.
        let request = reqwest::Client::new().post(url).bearer_auth(&self.token);
        let request = request.header("Content-Type", "application/octet-stream");
        request.body(content).send().await.ok().map(|answer| answer.status())
    }

    /// Uploads an image, and returns the path of its thumbnails.
    pub async fn upload_image(&self, png: Vec<u8>) -> String {
        let request = self.http.post(format!("{}/_matrix/media/v3/upload", self.base_url)).bearer_auth(&self.token);
        let answer = request.header("Content-Type", "image/png").body(png).send().await.expect("the server answers");
        let uri =
            text(&serde_json::from_slice(&answer.bytes().await.expect("it is read")).expect("JSON"), "content_uri");
        format!("/_matrix/client/v1/media/thumbnail/{}", uri.trim_start_matches("mxc://"))
    }

    /// The sync token of now. Nobody hears that it was asked for.
    pub async fn now(&self) -> String {
        let filter = encoded(r#"{"room":{"state":{"types":[]},"timeline":{"limit":1}}}"#);
        let path = format!("/_matrix/client/v3/sync?timeout=0&set_presence=offline&filter={filter}");
        let answer = self.get(&path).await;
        text(&answer, "next_batch")
    }

    /// All messages of each room since a token, in order: event id and body, by `/sync`, and by `/messages` where a
    /// timeline is limited.
    pub async fn messages_since(&self, since: &str) -> BTreeMap<String, Vec<(String, String)>> {
        let answer = self.get(&format!("/_matrix/client/v3/sync?timeout=0&since={since}")).await;
        let mut rooms = BTreeMap::new();
        for (room_id, room) in answer["rooms"]["join"].as_object().into_iter().flatten() {
            let mut messages = Vec::new();
            if room["timeline"]["limited"] == true {
                messages = self.messages_between(room_id, &text(&room["timeline"], "prev_batch"), since).await;
            }
            messages.extend(messages_of(&room["timeline"]["events"]));
            rooms.insert(room_id.clone(), messages);
        }
        rooms
    }

    /// All messages of a room, oldest first.
    pub async fn history(&self, room_id: &str) -> Vec<(String, String)> {
        let mut pages = Vec::new();
        let mut from = String::new();
        loop {
            let path = format!("/_matrix/client/v3/rooms/{room_id}/messages?dir=b&limit=100{from}");
            let page = self.get(&path).await;
            pages.push(messages_of(&page["chunk"]));
            match page["end"].as_str() {
                Some(end) => from = format!("&from={end}"),
                None => return pages.into_iter().flatten().rev().collect(),
            }
        }
    }

    /// Uploads one-time keys with these numbers.
    pub async fn upload_one_time_keys(&self, numbers: impl IntoIterator<Item = u32>) {
        let key = |number: u32| {
            let signatures = json!({ &self.user_id: { format!("ed25519:{}", self.device_id): "of no matter" } });
            // Thirty-two bytes in base64, which nobody looks into.
            let key = json!({ "key": format!("A{number:042}"), "signatures": signatures });
            (format!("signed_curve25519:{number:06}"), key)
        };
        let keys: serde_json::Map<String, Value> = numbers.into_iter().map(key).collect();
        self.ok(Method::POST, "/_matrix/client/v3/keys/upload", &json!({ "one_time_keys": keys })).await;
    }

    /// Claims a one-time key of another's device: its name, nothing when there is none left, or an error when there was
    /// no answer.
    ///
    /// # Errors
    ///
    /// When the server does not answer.
    pub async fn claim(&self, other: &Self) -> Result<Option<String>, reqwest::Error> {
        let body = json!({ "one_time_keys": { &other.user_id: { &other.device_id: "signed_curve25519" } } });
        let (status, answer) = self.request(Method::POST, "/_matrix/client/v3/keys/claim", Some(&body)).await?;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let keys = answer["one_time_keys"][&other.user_id][&other.device_id].as_object();
        Ok(keys.and_then(|keys| keys.keys().next().cloned()))
    }

    /// Sends a number to another's device; `false` when there was no answer.
    pub async fn send_to_device(&self, other: &Self, transaction_id: &str, number: u64) -> bool {
        let path = format!("/_matrix/client/v3/sendToDevice/m.test/{transaction_id}");
        let body = json!({ "messages": { &other.user_id: { &other.device_id: { "number": number } } } });
        matches!(self.request(Method::PUT, &path, Some(&body)).await, Ok((StatusCode::OK, _)))
    }

    /// One `/sync`: the numbers sent to this device, and the next token. `None` when there was no answer.
    pub async fn received(&self, since: Option<&str>) -> Option<(Vec<u64>, String)> {
        let since = since.map(|since| format!("&since={since}")).unwrap_or_default();
        let path = format!("/_matrix/client/v3/sync?timeout=500{since}");
        let Ok((StatusCode::OK, answer)) = self.request(Method::GET, &path, None).await else { return None };
        let events = answer["to_device"]["events"].as_array().into_iter().flatten();
        let numbers = events.map(|event| event["content"]["number"].as_u64().expect("a number was sent"));
        Some((numbers.collect(), text(&answer, "next_batch")))
    }

    async fn messages_between(&self, room_id: &str, from: &str, since: &str) -> Vec<(String, String)> {
        let mut pages = Vec::new();
        let mut from = from.to_owned();
        loop {
            let path = format!("/_matrix/client/v3/rooms/{room_id}/messages?dir=b&limit=100&from={from}&to={since}");
            let page = self.get(&path).await;
            pages.push(messages_of(&page["chunk"]));
            match page["end"].as_str() {
                Some(end) if page["chunk"].as_array().is_some_and(|chunk| !chunk.is_empty()) => {
                    end.clone_into(&mut from);
                }
                _ => return pages.into_iter().flatten().rev().collect(),
            }
        }
    }

    /// What is at a path.
    pub async fn get(&self, path: &str) -> Value {
        match self.request(Method::GET, path, None).await {
            Ok((StatusCode::OK, answer)) => answer,
            other => panic!("GET {path}: {other:?}"),
        }
    }

    /// What the answer to a body is.
    pub async fn post(&self, path: &str, body: &Value) -> Value {
        self.ok(Method::POST, path, body).await
    }

    async fn ok(&self, method: Method, path: &str, body: &Value) -> Value {
        match self.request(method, path, Some(body)).await {
            Ok((StatusCode::OK, answer)) => answer,
            other => panic!("{path}: {other:?}"),
        }
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value), reqwest::Error> {
        let mut request = self.http.request(method, format!("{}{path}", self.base_url));
        // Synapse lets nobody register who shows a token, and be it empty.
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        let answer = request.send().await?;
        let status = answer.status();
        let bytes = answer.bytes().await?;
        Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }
}

fn messages_of(events: &Value) -> Vec<(String, String)> {
    let events = events.as_array().into_iter().flatten();
    let messages = events.filter(|event| event["type"] == "m.room.message");
    messages.map(|event| (text(event, "event_id"), text(&event["content"], "body"))).collect()
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("no {field} in {value}")).to_owned()
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |encoded, byte| encoded + &format!("%{byte:02X}"))
}
