//! Events that are delivered to whoever is in the room for a while.

use std::time::Duration;

use serde_json::{Value, json};

use crate::server::{Session, TestServer, encode};

const SLIDING: &str = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";

async fn room(server: &TestServer, user: &Session) -> String {
    // Whoever joins sees only what happens from then on, but for what is sticky.
    let visibility = json!({ "type": "m.room.history_visibility", "content": { "history_visibility": "joined" } });
    let body = json!({ "preset": "public_chat", "initial_state": [visibility] });
    let created = server.post_as(user, "/_matrix/client/v3/createRoom", body).await.ok();
    created["room_id"].as_str().unwrap().to_owned()
}

/// Sends an event that is sticky for a minute.
async fn stick(server: &TestServer, user: &Session, room_id: &str, name: &str) -> String {
    let query = "org.matrix.msc4354.sticky_duration_ms=60000";
    let path = format!("/_matrix/client/v3/rooms/{}/send/m.rtc.member/{name}?{query}", encode(room_id));
    let sent = server.put_as(user, &path, json!({ "name": name })).await.ok();
    sent["event_id"].as_str().unwrap().to_owned()
}

async fn chatter(server: &TestServer, user: &Session, room_id: &str) {
    for number in 0..15 {
        server.say(user, room_id, &server.engine.storage().head().to_string(), &format!("{number}")).await;
    }
}

async fn sync(server: &TestServer, user: &Session, since: Option<&Value>) -> Value {
    let since = since.map_or_else(String::new, |answer| format!("&since={}", answer["next_batch"].as_str().unwrap()));
    server.get_as(user, &format!("/_matrix/client/v3/sync?timeout=0&set_presence=offline{since}")).await.ok()
}

fn names(events: &Value) -> Vec<&str> {
    events.as_array().into_iter().flatten().filter_map(|event| event["content"]["name"].as_str()).collect()
}

#[tokio::test]
async fn what_is_sticky_is_told_whatever_came_after_it_and_once() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = room(&server, &alice).await;
    let start = sync(&server, &alice, None).await;
    stick(&server, &alice, &room_id, "one").await;
    let shown = sync(&server, &alice, Some(&start)).await;
    let of = |answer: &Value| answer["rooms"]["join"][&room_id].clone();
    let event = of(&shown)["timeline"]["events"][0].clone();
    assert_eq!(event["msc4354_sticky"]["duration_ms"], 60_000, "{event}");
    assert_eq!(event["unsigned"]["msc4354_sticky_duration_ttl_ms"], 60_000, "{event}");
    assert!(of(&shown)["msc4354_sticky"].is_null(), "it is in the timeline: {shown}");
    chatter(&server, &alice, &room_id).await;
    let later = sync(&server, &alice, Some(&start)).await;
    assert!(!names(&of(&later)["timeline"]["events"]).contains(&"one"));
    assert_eq!(names(&of(&later)["msc4354_sticky"]["events"]), ["one"], "{later}");
    let quiet = sync(&server, &alice, Some(&later)).await;
    assert!(of(&quiet).is_null(), "{quiet}");
    // Who comes in later gets it too, though they may not read what happened before.
    let before = sync(&server, &bob, None).await;
    server.post_as(&bob, &format!("/_matrix/client/v3/join/{}", encode(&room_id)), json!({})).await.ok();
    for since in [None, Some(&before)] {
        let joined = sync(&server, &bob, since).await;
        assert_eq!(names(&of(&joined)["msc4354_sticky"]["events"]), ["one"], "{joined}");
    }
    server.clock.advance(Duration::from_secs(61));
    let over = sync(&server, &alice, Some(&start)).await;
    assert!(of(&over)["msc4354_sticky"].is_null(), "{over}");
}

#[tokio::test]
async fn sliding_sync_tells_what_is_sticky_in_all_rooms() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = room(&server, &alice).await;
    stick(&server, &alice, &room_id, "one").await;
    let redacted = stick(&server, &alice, &room_id, "two").await;
    let path = format!("/_matrix/client/v3/rooms/{}/redact/{}/r", encode(&room_id), encode(&redacted));
    server.put_as(&alice, &path, json!({})).await.ok();
    let ask = async |user: &Session, pos: Option<&Value>, since: Option<&Value>| {
        let pos = pos.map_or_else(String::new, |answer| format!("&pos={}", answer["pos"].as_str().unwrap()));
        let mut extension = json!({ "enabled": true });
        if let Some(since) = since {
            extension["since"] = since.clone();
        }
        let body = json!({ "extensions": { "org.matrix.msc4354.sticky_events": extension } });
        server.post_as(user, &format!("{SLIDING}?timeout=0&set_presence=offline{pos}"), body).await.ok()
    };
    let told = |answer: &Value| {
        let extension = answer["extensions"]["org.matrix.msc4354.sticky_events"].clone();
        let names: Vec<String> =
            names(&extension["rooms"][&room_id]["events"]).into_iter().map(ToOwned::to_owned).collect();
        (names, extension["next_batch"].clone())
    };
    let first = ask(&alice, None, None).await;
    let (names, next) = told(&first);
    assert_eq!(names, ["one"], "{first}");
    // It comes again until the client says that it has it.
    assert_eq!(told(&ask(&alice, Some(&first), None).await).0, ["one"]);
    let second = ask(&alice, Some(&first), Some(&next)).await;
    assert!(told(&second).0.is_empty(), "{second}");
    stick(&server, &alice, &room_id, "three").await;
    let third = ask(&alice, Some(&second), Some(&next)).await;
    assert_eq!(told(&third).0, ["three"], "{third}");
    // Who comes in is told what was sticky before.
    let start = ask(&bob, None, None).await;
    assert!(told(&start).0.is_empty());
    server.post_as(&bob, &format!("/_matrix/client/v3/join/{}", encode(&room_id)), json!({})).await.ok();
    let joined = ask(&bob, Some(&start), Some(&json!("0"))).await;
    assert_eq!(told(&joined).0, ["one", "three"], "{joined}");
}

#[tokio::test]
async fn what_becomes_visible_at_one_moment_is_told_in_pages() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = room(&server, &alice).await;
    let sent: Vec<String> = (0..5).map(|number| format!("n{number}")).collect();
    for name in &sent {
        stick(&server, &alice, &room_id, name).await;
    }
    server.post_as(&bob, &format!("/_matrix/client/v3/join/{}", encode(&room_id)), json!({})).await.ok();
    let (mut since, mut told) = (None, Vec::new());
    for expected in [2, 2, 1, 0] {
        let mut extension = json!({ "enabled": true, "limit": 2 });
        if let Some(since) = &since {
            extension["since"] = json!(since);
        }
        let body = json!({ "extensions": { "org.matrix.msc4354.sticky_events": extension } });
        let path = format!("{SLIDING}?timeout=0&set_presence=offline");
        let answer = server.post_as(&bob, &path, body).await.ok();
        let extension = &answer["extensions"]["org.matrix.msc4354.sticky_events"];
        let page = names(&extension["rooms"][&room_id]["events"]);
        assert_eq!(page.len(), expected, "{answer}");
        told.extend(page.into_iter().map(ToOwned::to_owned));
        since = extension["next_batch"].as_str().map(ToOwned::to_owned).or(since);
    }
    assert_eq!(told, sent);
    let extension = json!({ "enabled": true, "since": "1_x" });
    let body = json!({ "extensions": { "org.matrix.msc4354.sticky_events": extension } });
    server.post_as(&bob, &format!("{SLIDING}?timeout=0"), body).await.assert_error(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn only_durations_of_up_to_an_hour_are_taken() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room_id = room(&server, &alice).await;
    let send = async |duration: &str, name: &str| {
        let query = format!("org.matrix.msc4354.sticky_duration_ms={duration}");
        let path = format!("/_matrix/client/v3/rooms/{}/send/a.type/{name}?{query}", encode(&room_id));
        server.put_as(&alice, &path, json!({})).await
    };
    for duration in ["3600001", "-1", "1.5", "", "x"] {
        send(duration, "bad").await.assert_error(400, "M_INVALID_PARAM");
    }
    for (number, duration) in ["0", "3600000"].into_iter().enumerate() {
        send(duration, &number.to_string()).await.ok();
    }
    // State can be sticky, and what waits to be sent.
    let query = "org.matrix.msc4354.sticky_duration_ms=60000";
    let path = format!("/_matrix/client/v3/rooms/{}/state/a.state/key?{query}", encode(&room_id));
    let set = server.put_as(&alice, &path, json!({ "name": "state" })).await.ok();
    let path = format!("/_matrix/client/v3/rooms/{}/event/", encode(&room_id));
    let event = server.get_as(&alice, &format!("{path}{}", encode(set["event_id"].as_str().unwrap()))).await.ok();
    assert_eq!(event["msc4354_sticky"], json!({ "duration_ms": 60_000 }), "{event}");
    let delayed =
        format!("/_matrix/client/v3/rooms/{}/send/a.type/d?org.matrix.msc4140.delay=1000&{query}", encode(&room_id));
    let waiting = server.put_as(&alice, &delayed, json!({ "name": "delayed" })).await.ok();
    let name = waiting["delay_id"].as_str().unwrap();
    server
        .post(&format!("/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{name}/send"), json!({}))
        .await
        .ok();
    // The same, by the path of later drafts.
    let path = format!(
        "/_matrix/client/unstable/org.matrix.msc4140/rooms/{}/delayed_event/a.type/later?{query}",
        encode(&room_id)
    );
    let waiting = server.put_as(&alice, &path, json!({ "delay": 1_000, "content": { "name": "later" } })).await.ok();
    let name = waiting["delay_id"].as_str().unwrap();
    server
        .post(&format!("/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{name}/send"), json!({}))
        .await
        .ok();
    let told = sync(&server, &alice, None).await;
    let events = &told["rooms"]["join"][&room_id]["timeline"]["events"];
    for name in ["delayed", "later"] {
        let found = events.as_array().unwrap().iter().find(|event| event["content"]["name"] == name).unwrap();
        assert_eq!(found["msc4354_sticky"]["duration_ms"], 60_000, "{found}");
    }
}

#[tokio::test]
async fn members_at_the_beginning_of_a_room_are_its_creator() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = room(&server, &alice).await;
    let start = sync(&server, &alice, None).await;
    let at = start["rooms"]["join"][&room_id]["timeline"]["prev_batch"].as_str().unwrap();
    server.post_as(&bob, &format!("/_matrix/client/v3/join/{}", encode(&room_id)), json!({})).await.ok();
    let path = format!("/_matrix/client/v3/rooms/{}/members?at={at}", encode(&room_id));
    let members = server.get_as(&alice, &path).await.ok();
    let keys: Vec<_> = members["chunk"].as_array().unwrap().iter().map(|event| &event["state_key"]).collect();
    assert_eq!(keys, [&json!(alice.user_id)], "{members}");
}
