//! Events that are sent later.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Method, Request},
};
use serde_json::{Value, json};

use crate::server::{Session, TestServer, encode};

const DELAYED: &str = "/_matrix/client/unstable/org.matrix.msc4140/delayed_events";

async fn waiting(server: &TestServer, user: &Session) -> Vec<Value> {
    server.get_as(user, DELAYED).await.ok()["delayed_events"].as_array().unwrap().clone()
}

async fn update(server: &TestServer, delay_id: &str, action: &str) -> crate::server::Reply {
    server.post(&format!("{DELAYED}/{delay_id}/{action}"), json!({})).await
}

async fn pass(server: &TestServer, time: Duration) {
    server.clock.advance(time);
    server.engine.send_due_delayed_events().await.unwrap();
}

fn delay_id(reply: &Value) -> String {
    reply["delay_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn messages_and_state_are_sent_when_their_time_has_come() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = server.private_room(&alice).await;
    let room = format!("/_matrix/client/v3/rooms/{}", encode(&room_id));
    let send = format!("{room}/send/com.test/txn?org.matrix.msc4140.delay=900");
    let delayed = server.put_as(&alice, &send, json!({ "count": 1 })).await.ok();
    // The same request again, even without its body, gives the same answer.
    let again = Request::put(&send).header("Authorization", format!("Bearer {}", alice.token));
    assert_eq!(server.request(again.body(Body::empty()).unwrap()).await.ok(), delayed);
    let state = format!("{room}/state/com.test/key");
    server.put_as(&alice, &format!("{state}?org.matrix.msc4140.delay=1500"), json!({ "by": "timeout" })).await.ok();
    let events = waiting(&server, &alice).await;
    assert_eq!(
        (events.len(), &events[0]["content"], &events[1]["state_key"]),
        (2, &json!({ "count": 1 }), &json!("key"))
    );
    assert_eq!((&events[0]["delay"], &events[0]["type"]), (&json!(900), &json!("com.test")));
    assert!(waiting(&server, &bob).await.is_empty());
    let one = format!("{DELAYED}/{}", delay_id(&delayed));
    assert_eq!(server.get_as(&alice, &one).await.ok(), events[0]);
    server.get_as(&bob, &one).await.assert_error(404, "M_NOT_FOUND");
    server.get_as(&alice, &state).await.assert_error(404, "M_NOT_FOUND");

    pass(&server, Duration::from_secs(1)).await;
    assert_eq!(waiting(&server, &alice).await.len(), 1);
    let messages = server.get_as(&alice, &format!("{room}/messages?dir=b&limit=1")).await.ok();
    assert_eq!(messages["chunk"][0]["content"], json!({ "count": 1 }));
    pass(&server, Duration::from_secs(1)).await;
    assert!(waiting(&server, &alice).await.is_empty());
    assert_eq!(server.get_as(&alice, &state).await.ok(), json!({ "by": "timeout" }));
}

#[tokio::test]
async fn s_139_who_knows_the_name_may_cancel_restart_and_send() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = server.private_room(&alice).await;
    let room = format!("/_matrix/client/v3/rooms/{}", encode(&room_id));
    let later = async |key: &str, delay: &str| {
        let path = format!("{room}/state/com.test/{key}?org.matrix.msc4140.delay={delay}");
        server.put_as(&alice, &path, json!({ "set": key })).await
    };
    let is_set = async |key: &str| server.get_as(&alice, &format!("{room}/state/com.test/{key}")).await.status == 200;
    let [cancelled, restarted, sent] = [later("c", "1500").await, later("r", "1500").await, later("s", "100000").await]
        .map(|reply| delay_id(&reply.ok()));
    pass(&server, Duration::from_secs(1)).await;
    update(&server, &cancelled, "cancel").await.ok();
    update(&server, &restarted, "restart").await.ok();
    update(&server, &sent, "send").await.ok();
    pass(&server, Duration::from_secs(1)).await;
    assert_eq!((is_set("c").await, is_set("r").await, is_set("s").await), (false, false, true));
    pass(&server, Duration::from_secs(1)).await;
    assert_eq!((is_set("c").await, is_set("r").await), (false, true));
    for (name, action) in [("abc", "cancel"), ("abc", "restart"), ("abc", "send"), (&*sent, "cancel")] {
        update(&server, name, action).await.assert_error(404, "M_NOT_FOUND");
    }
    update(&server, "abc", "oops").await.assert_error(404, "M_UNRECOGNIZED");
    server.post(&format!("{DELAYED}/abc"), json!({})).await.assert_error(400, "M_BAD_JSON");
    // Limits, and rooms of others.
    for delay in ["x", "-1", "1.5"] {
        later("x", delay).await.assert_error(400, "M_INVALID_PARAM");
    }
    for delay in ["0", "86400001"] {
        later("x", delay).await.assert_error(400, "M_UNKNOWN");
    }
    let path = format!("{room}/send/m.room.message/1?org.matrix.msc4140.delay=5");
    server.send(Method::PUT, &path, Some(&bob.token), &json!({})).await.assert_error(403, "M_FORBIDDEN");
    for number in 0..100 {
        later(&format!("many{number}"), "5000").await.ok();
    }
    later("too_many", "5000").await.assert_error(400, "M_UNKNOWN");
}

#[tokio::test]
async fn newer_state_of_another_user_overtakes() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let body = json!({ "preset": "public_chat", "power_level_content_override": { "state_default": 0 } });
    let created = server.post_as(&alice, "/_matrix/client/v3/createRoom", body).await.ok();
    let room = format!("/_matrix/client/v3/rooms/{}", encode(created["room_id"].as_str().unwrap()));
    server.post_as(&bob, &format!("{room}/join"), json!({})).await.ok();
    let state = format!("{room}/state/com.test/key");
    let position = server.engine.storage().head();
    server.put_as(&alice, &format!("{state}?org.matrix.msc4140.delay=5000"), json!({ "by": "timeout" })).await.ok();
    server.put_as(&alice, &state, json!({ "by": "alice" })).await.ok();
    server.put_as(&bob, &format!("{room}/state/com.test/other"), json!({})).await.ok();
    let position = server.engine.drop_overtaken_delayed_events(position).await.unwrap();
    assert_eq!(waiting(&server, &alice).await.len(), 1);
    server.put_as(&bob, &state, json!({ "by": "bob" })).await.ok();
    server.engine.drop_overtaken_delayed_events(position).await.unwrap();
    assert!(waiting(&server, &alice).await.is_empty());
}

#[tokio::test]
async fn what_waits_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let setup = || crate::server::Setup { directory: Some(directory.path()), ..crate::server::Setup::default() };
    let server = TestServer::start_as(setup()).await;
    let alice = server.register("alice").await;
    let room_id = server.private_room(&alice).await;
    let state = format!("/_matrix/client/v3/rooms/{}/state/com.test/key", encode(&room_id));
    server.put_as(&alice, &format!("{state}?org.matrix.msc4140.delay=500"), json!({ "by": "timeout" })).await.ok();
    server.engine.stop();
    server.engine.storage().close().await;
    drop(server);
    let server = TestServer::start_as(setup()).await;
    assert_eq!(waiting(&server, &alice).await.len(), 1);
    pass(&server, Duration::from_secs(1)).await;
    assert_eq!(server.get_as(&alice, &state).await.ok(), json!({ "by": "timeout" }));
}
