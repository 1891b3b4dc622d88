//! What people learn of rooms that they are not in: nothing.

use axum::http::Method;
use homeserver_client_api::route_table;
use serde_json::{Value, json};

use crate::{
    routes::values,
    server::{Session, TestServer, encode, fill},
};

/// Fields that all endpoints together ask for.
fn body_for_all(event_id: &str, room_id: &str, target: &str) -> Value {
    json!({
        "user_id": target, "room_id": room_id, "visibility": "public", "typing": true, "timeout": 1_000,
        "reason": "none", "m.fully_read": event_id, "m.read": event_id, "msgtype": "m.text", "body": "hello", "membership": "join",
        "new_version": "11", "delay": 1_000, "content": { "body": "hello" },
    })
}

/// Asks every endpoint with a room in its path, and says what came back from which.
async fn walk(
    server: &TestServer,
    user: &Session,
    room_id: &str,
    event_id: &str,
) -> Vec<(String, u16, String, String)> {
    let mut seen = Vec::new();
    let mut values = values(user);
    values.insert("room_id", room_id.to_owned());
    values.insert("room_id_or_alias", room_id.to_owned());
    values.insert("event_id", event_id.to_owned());
    for route in route_table() {
        // A backup of room keys is one's own, whatever rooms it names.
        let templates = route.paths.iter().filter(|path| !path.contains("/room_keys/"));
        // Whether a room is listed may be asked by anybody who knows its id.
        let templates = templates.filter(|path| route.method != Method::GET || !path.contains("/directory/list/room/"));
        for template in templates.filter(|path| path.contains("{room_id")) {
            for event_type in ["m.room.message", "m.room.name", "m.room.member"] {
                // A member event is of somebody, whoever asks.
                if event_type == "m.room.member" && !template.contains("{state_key}") {
                    continue;
                }
                values.insert("event_type", event_type.to_owned());
                let state_key = if event_type == "m.room.member" { &*user.user_id } else { "" };
                // A path cannot hold an empty segment; the variants without a state key stand for that.
                values.insert("state_key", if state_key.is_empty() { "k" } else { state_key }.to_owned());
                let mut path = fill(template, &values);
                if route.method == Method::GET && template.ends_with("/messages") {
                    path.push_str("?dir=b");
                }
                if template.ends_with("/timestamp_to_event") {
                    path.push_str("?dir=b&ts=1800000000000");
                }
                let body = body_for_all(event_id, room_id, &user.user_id);
                let reply = server.send(route.method.clone(), &path, Some(&user.token), &body).await;
                let errcode = reply.errcode().to_owned();
                seen.push((format!("{} {template} {event_type}", route.method), reply.status, errcode, reply.text));
            }
        }
    }
    seen
}

#[tokio::test]
async fn s_127_strangers_learn_nothing() {
    let server = TestServer::start().await;
    let (alice, mallory) = (server.register("alice").await, server.register("mallory").await);
    let body = json!({ "preset": "private_chat", "name": "sesame", "topic": "sesame", "room_alias_name": "cave" });
    let created = server.post_as(&alice, "/_matrix/client/v3/createRoom", body).await.ok();
    let room_id = created["room_id"].as_str().unwrap();
    let event_id = server.say(&alice, room_id, "t", "sesame").await;
    let seen = walk(&server, &mallory, room_id, &event_id).await;
    assert!(seen.len() > 100, "{}", seen.len());
    for (request, status, _, text) in &seen {
        assert!([403, 404].contains(status), "{request}: {status} {text}");
        for secret in ["sesame", "cave", "@alice", &*event_id] {
            assert!(!text.contains(secret), "{request}: {text}");
        }
    }
    let sync = server.get_as(&mallory, "/_matrix/client/v3/sync?timeout=0&full_state=true").await;
    assert!(!sync.text.contains(room_id), "{}", sync.text);
}

#[tokio::test]
async fn s_127_reading_a_room_that_is_there_looks_like_one_that_is_not() {
    let server = TestServer::start().await;
    let (alice, mallory) = (server.register("alice").await, server.register("mallory").await);
    let room_id = server.private_room(&alice).await;
    let event_id = server.say(&alice, &room_id, "t", "sesame").await;
    let there = walk(&server, &mallory, &room_id, &event_id).await;
    let absent = walk(&server, &mallory, "!nothing:example.org", &event_id).await;
    for (one, other) in there.iter().zip(&absent).filter(|(one, _)| one.0.starts_with("GET")) {
        assert_eq!((one.1, &one.2), (other.1, &other.2), "{}: {} {}", one.0, one.3, other.3);
    }
}

#[tokio::test]
async fn s_127_who_left_does_not_hear_what_comes_after() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = server.private_room(&alice).await;
    let room = format!("/_matrix/client/v3/rooms/{}", encode(&room_id));
    server.post_as(&alice, &format!("{room}/invite"), json!({ "user_id": bob.user_id })).await.ok();
    server.post_as(&bob, &format!("{room}/join"), json!({})).await.ok();
    server.say(&alice, &room_id, "1", "for all").await;
    server.post_as(&bob, &format!("{room}/leave"), json!({})).await.ok();
    let secret = server.say(&alice, &room_id, "2", "sesame").await;
    server.put_as(&alice, &format!("{room}/state/m.room.topic"), json!({ "topic": "sesame" })).await.ok();
    let messages = server.get_as(&bob, &format!("{room}/messages?dir=b&limit=100")).await;
    assert!(messages.text.contains("for all"), "{}", messages.text);
    for query in ["messages?dir=f&limit=100", "messages?dir=b&limit=100", "state", "members"] {
        let reply = server.get_as(&bob, &format!("{room}/{query}")).await;
        assert!(!reply.text.contains("sesame"), "{query}: {}", reply.text);
    }
    for path in [format!("{room}/event/{}", encode(&secret)), format!("{room}/context/{}", encode(&secret))] {
        let reply = server.get_as(&bob, &path).await;
        assert!([403, 404].contains(&reply.status), "{path}: {}", reply.text);
    }
    let sync = server.get_as(&bob, "/_matrix/client/v3/sync?timeout=0&full_state=true").await;
    assert!(!sync.text.contains("sesame"), "{}", sync.text);
}
