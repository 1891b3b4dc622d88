//! Pushers: where users want to be told, and what gateways are told.

mod delivery;
mod gateways;
mod letters;
mod quiet;
mod running;

use std::{path::Path, sync::Arc};

use axum::http::Method;
use push_gateway::{PushGateways, Told};
use serde_json::{Value, json};

use crate::server::{PASSWORD, Reply, Session, Setup, TestServer};

/// The host of most pushers.
pub(crate) const GATEWAY: &str = "push.test";

/// A server in a network of push gateways, with two users who talk.
pub(crate) struct Stage {
    pub(crate) server: TestServer,
    pub(crate) gateways: PushGateways,
    pub(crate) alice: Session,
    pub(crate) bob: Session,
    pub(crate) room_id: String,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        Self::with(PushGateways::new(), None).await
    }

    pub(crate) async fn with(gateways: PushGateways, directory: Option<&Path>) -> Self {
        let server = server(&gateways, directory).await;
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room_id = shared_room(&server, &alice, &bob).await;
        Self { server, gateways, alice, bob, room_id }
    }

    /// Tells what is due, and returns what arrived.
    pub(crate) async fn told(&self) -> Vec<Told> {
        self.server.engine.flush_pushers().await.unwrap();
        self.gateways.take()
    }

    pub(crate) async fn say(&self, text: &str) -> String {
        let path = format!("/_matrix/client/v3/rooms/{}/send/m.room.message/{}", self.room_id, text.len());
        let path = format!("{path}-{}", text.replace(' ', "-"));
        let body = json!({ "msgtype": "m.text", "body": text });
        event_id(&self.server.put_as(&self.alice, &path, body).await.ok())
    }

    pub(crate) async fn send(&self, event_type: &str, content: Value) -> String {
        let path = format!("/_matrix/client/v3/rooms/{}/send/{event_type}/{event_type}", self.room_id);
        event_id(&self.server.put_as(&self.alice, &path, content).await.ok())
    }

    pub(crate) async fn read(&self, user: &Session, event_id: &str) {
        let path = format!("/_matrix/client/v3/rooms/{}/receipt/m.read/{event_id}", self.room_id);
        self.server.post_as(user, &path, json!({})).await.ok();
    }
}

pub(crate) async fn server(gateways: &PushGateways, directory: Option<&Path>) -> TestServer {
    TestServer::start_as(Setup { transport: Some(Arc::new(gateways.clone())), directory, ..Setup::default() }).await
}

pub(crate) async fn shared_room(server: &TestServer, alice: &Session, bob: &Session) -> String {
    let room_id = server.private_room(alice).await;
    let invite = json!({ "user_id": bob.user_id });
    server.post_as(alice, &format!("/_matrix/client/v3/rooms/{room_id}/invite"), invite).await.ok();
    server.post_as(bob, &format!("/_matrix/client/v3/rooms/{room_id}/join"), json!({})).await.ok();
    room_id
}

pub(crate) fn pusher(pushkey: &str, host: &str) -> Value {
    json!({
        "app_id": "org.example.app",
        "pushkey": pushkey,
        "kind": "http",
        "app_display_name": "App",
        "device_display_name": "Phone",
        "profile_tag": "tag",
        "lang": "en",
        "data": { "url": push_gateway::url(host), "custom": { "a": 1 } },
    })
}

pub(crate) async fn set(server: &TestServer, user: &Session, pusher: Value) -> Reply {
    server.post_as(user, "/_matrix/client/v3/pushers/set", pusher).await
}

async fn list(server: &TestServer, user: &Session) -> Value {
    server.get_as(user, "/_matrix/client/v3/pushers").await.ok()["pushers"].clone()
}

fn event_id(reply: &Value) -> String {
    reply["event_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn pushers_are_set_changed_listed_and_deleted() {
    let Stage { server, alice, bob, .. } = Stage::new().await;
    assert_eq!(list(&server, &alice).await, json!([]));
    set(&server, &alice, pusher("key", GATEWAY)).await.ok();
    assert_eq!(list(&server, &alice).await, json!([pusher("key", GATEWAY)]));
    let mut changed = pusher("key", "other.test");
    changed["lang"] = json!("de");
    set(&server, &alice, changed.clone()).await.ok();
    assert_eq!(list(&server, &alice).await, json!([changed]));
    // With `append` two users may have the same; without it there is one.
    let mut shared = pusher("key", GATEWAY);
    shared["append"] = json!(true);
    set(&server, &bob, shared).await.ok();
    assert_eq!(list(&server, &alice).await.as_array().unwrap().len(), 1);
    set(&server, &bob, pusher("key", GATEWAY)).await.ok();
    assert_eq!(list(&server, &alice).await, json!([]));
    let gone = json!({ "app_id": "org.example.app", "pushkey": "key", "kind": null });
    set(&server, &alice, gone.clone()).await.ok();
    assert_eq!(list(&server, &bob).await.as_array().unwrap().len(), 1, "of another user");
    set(&server, &bob, gone).await.ok();
    assert_eq!(list(&server, &bob).await, json!([]));
}

#[tokio::test]
async fn s_095_what_no_pusher_can_be() {
    let Stage { server, alice, .. } = Stage::new().await;
    let with = |name: &str, value: Value| {
        let mut pusher = pusher("key", GATEWAY);
        pusher[name] = value;
        pusher
    };
    for url in [
        "http://push.test/_matrix/push/v1/notify",
        "https://push.test/",
        "https://push.test/_matrix/push/v1/notify/",
        "https://push.test/_matrix/push/v1/../v1/other",
        "https://user:password@push.test/_matrix/push/v1/notify",
        "https://push.test/_matrix/push/v1/notify#x",
        "file:///_matrix/push/v1/notify",
        "push.test",
    ] {
        set(&server, &alice, with("data", json!({ "url": url }))).await.assert_error(400, "M_INVALID_PARAM");
    }
    for (name, value) in [
        ("app_id", json!("")),
        ("app_id", json!("x".repeat(65))),
        ("app_id", json!("nul\0")),
        ("pushkey", json!("x".repeat(513))),
        ("lang", json!("x".repeat(65))),
        ("profile_tag", json!("x".repeat(513))),
        ("data", json!({ "url": push_gateway::url(GATEWAY), "much": "x".repeat(9_000) })),
        ("kind", json!("pigeon")),
        ("kind", json!("email")),
    ] {
        set(&server, &alice, with(name, value)).await.assert_error(400, "M_INVALID_PARAM");
    }
    for name in ["lang", "data", "app_display_name", "device_display_name", "pushkey", "app_id"] {
        let mut missing = pusher("key", GATEWAY);
        missing.as_object_mut().unwrap().remove(name);
        assert_eq!(set(&server, &alice, missing).await.status, 400, "{name}");
    }
    assert_eq!(list(&server, &alice).await, json!([]));
    for number in 0..100 {
        set(&server, &alice, pusher(&number.to_string(), GATEWAY)).await.ok();
    }
    set(&server, &alice, pusher("one more", GATEWAY)).await.assert_error(413, "M_TOO_LARGE");
    set(&server, &alice, pusher("7", GATEWAY)).await.ok();
}

#[tokio::test]
async fn s_111_and_s_117_pushers_end_with_what_they_were_set_by() {
    let Stage { server, alice, .. } = Stage::new().await;
    let (second, third) = (server.log_in(&alice.user_id).await, server.log_in(&alice.user_id).await);
    for (number, session) in [&alice, &second, &third].into_iter().enumerate() {
        set(&server, session, pusher(&number.to_string(), GATEWAY)).await.ok();
    }
    let keys = async || {
        let pushers = server.engine.storage().pushers((&*alice.user_id).try_into().unwrap()).await.unwrap();
        pushers.into_iter().map(|pusher| pusher.key.pushkey).collect::<Vec<_>>()
    };
    server.post_as(&third, "/_matrix/client/v3/logout", json!({})).await.ok();
    assert_eq!(keys().await, ["0", "1"]);
    let auth = json!({ "type": "m.login.password", "user": alice.user_id, "password": PASSWORD });
    let body = json!({ "new_password": "another good password", "auth": auth });
    server.send(Method::POST, "/_matrix/client/v3/account/password", Some(&alice.token), &body).await.ok();
    assert_eq!(keys().await, ["0"], "those of other sessions went with them");
    let auth = json!({ "type": "m.login.password", "user": alice.user_id, "password": "another good password" });
    server.post_as(&alice, "/_matrix/client/v3/account/deactivate", json!({ "auth": auth })).await.ok();
    assert!(keys().await.is_empty());
}
