//! Who is there, and who sees it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::server::{Session, Setup, TestServer, encode};

fn path(user: &Session) -> String {
    format!("/_matrix/client/v3/presence/{}/status", encode(&user.user_id))
}

async fn sync(server: &TestServer, user: &Session, since: &str, query: &str) -> Value {
    server.get_as(user, &format!("/_matrix/client/v3/sync?timeout=0&since={since}{query}")).await.ok()
}

async fn start(server: &TestServer, user: &Session) -> String {
    next(&server.get_as(user, "/_matrix/client/v3/sync?timeout=0&set_presence=offline").await.ok())
}

fn next(answer: &Value) -> String {
    answer["next_batch"].as_str().unwrap().to_owned()
}

/// Syncs until somebody is told to have a presence.
async fn until(server: &TestServer, user: &Session, since: &mut String, about: &Session, expected: &str) -> Value {
    for _ in 0..20 {
        let path = format!("/_matrix/client/v3/sync?timeout=1000&set_presence=offline&since={since}");
        let answer = server.get_as(user, &path).await.ok();
        *since = next(&answer);
        let events = answer["presence"]["events"].as_array().cloned().unwrap_or_default();
        let of = |event: &&Value| event["sender"] == about.user_id && event["content"]["presence"] == expected;
        if let Some(event) = events.iter().find(of) {
            return event["content"].clone();
        }
    }
    panic!("{} is not told to be {expected}", about.user_id);
}

async fn shared_room(server: &TestServer, alice: &Session, bob: &Session) -> String {
    let created = server.post_as(alice, "/_matrix/client/v3/createRoom", json!({ "preset": "public_chat" })).await.ok();
    let room_id = created["room_id"].as_str().unwrap().to_owned();
    server.post_as(bob, &format!("/_matrix/client/v3/join/{}", encode(&room_id)), json!({})).await.ok();
    room_id
}

#[tokio::test]
async fn presence_is_set_and_told_to_those_who_share_a_room() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    assert_eq!(server.get_as(&alice, &path(&alice)).await.ok()["presence"], "offline");
    server.get_as(&bob, &path(&alice)).await.assert_error(403, "M_FORBIDDEN");
    let mut of_stranger = start(&server, &bob).await;
    let status = json!({ "presence": "online", "status_msg": "at work" });
    server.put_as(&alice, &path(&alice), status).await.ok();
    let told = server.get_as(&alice, &path(&alice)).await.ok();
    assert_eq!(
        (&told["presence"], &told["status_msg"], &told["currently_active"]),
        (&json!("online"), &json!("at work"), &json!(true))
    );
    assert!(
        sync(&server, &bob, &of_stranger, "&set_presence=offline")
            .await
            .get("presence")
            .is_none_or(|section| { section["events"].as_array().is_none_or(Vec::is_empty) })
    );
    // Who comes into the room is told, and told of.
    shared_room(&server, &alice, &bob).await;
    let seen = until(&server, &bob, &mut of_stranger, &alice, "online").await;
    assert_eq!(seen["status_msg"], "at work");
    server.put_as(&alice, &path(&alice), json!({ "presence": "unavailable" })).await.ok();
    let seen = until(&server, &bob, &mut of_stranger, &alice, "unavailable").await;
    assert!(seen["status_msg"].is_null(), "{seen}");
    assert_eq!(server.get_as(&bob, &path(&alice)).await.ok()["presence"], "unavailable");
    server.put_as(&alice, &path(&alice), json!({ "presence": "busy" })).await.ok();
    until(&server, &bob, &mut of_stranger, &alice, "busy").await;
    let versions = server.get("/_matrix/client/versions").await.ok();
    assert_eq!(versions["unstable_features"]["org.matrix.msc3026.busy_presence"], true);
    // Nothing is told twice.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let settled = sync(&server, &bob, &of_stranger, "&set_presence=offline").await;
    let again = sync(&server, &bob, &next(&settled), "&set_presence=offline").await;
    assert!(!again.to_string().contains("m.presence"), "{again}");
    server.put_as(&alice, &path(&alice), json!({ "presence": "tired" })).await.assert_error(400, "M_INVALID_PARAM");
    let long = json!({ "presence": "online", "status_msg": "x".repeat(2_000) });
    server.put_as(&alice, &path(&alice), long).await.assert_error(413, "M_TOO_LARGE");
    server.put_as(&bob, &path(&alice), json!({ "presence": "online" })).await.assert_error(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn whoever_syncs_is_there_and_goes_after_half_a_minute() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    shared_room(&server, &alice, &bob).await;
    let mut since = start(&server, &bob).await;
    let of_alice = next(&server.get_as(&alice, "/_matrix/client/v3/sync?timeout=0").await.ok());
    until(&server, &bob, &mut since, &alice, "online").await;
    let answer = sync(&server, &alice, &of_alice, "&set_presence=unavailable").await;
    until(&server, &bob, &mut since, &alice, "unavailable").await;
    server.clock.advance(Duration::from_secs(31));
    until(&server, &bob, &mut since, &alice, "offline").await;
    // A client that only looks for messages leaves no trace.
    sync(&server, &alice, &next(&answer), "&set_presence=offline").await;
    assert_eq!(server.get_as(&bob, &path(&alice)).await.ok()["presence"], "offline");
    // Neither filters nor ignored users let it through.
    let filter = encode(r#"{"presence":{"types":[]}}"#);
    sync(&server, &alice, &next(&answer), "").await;
    let query = format!("&set_presence=offline&filter={filter}");
    assert!(!sync(&server, &bob, &since, &query).await.to_string().contains("m.presence"));
    let ignored = json!({ "ignored_users": { &alice.user_id: {} } });
    let account_data = format!("/_matrix/client/v3/user/{}/account_data/m.ignored_user_list", encode(&bob.user_id));
    server.put_as(&bob, &account_data, ignored).await.ok();
    assert!(!sync(&server, &bob, &since, "&set_presence=offline").await.to_string().contains("m.presence"));
}

#[tokio::test]
async fn who_starts_anew_is_told_who_is_there() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let carol = server.register("carol").await;
    shared_room(&server, &alice, &bob).await;
    for user in [&alice, &carol] {
        server.put_as(user, &path(user), json!({ "presence": "online" })).await.ok();
    }
    let answer = server.get_as(&bob, "/_matrix/client/v3/sync?timeout=0&set_presence=offline").await.ok();
    let events = answer["presence"]["events"].as_array().unwrap();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!((&events[0]["type"], &events[0]["sender"]), (&json!("m.presence"), &json!(alice.user_id)));
}

#[tokio::test]
async fn presence_can_be_switched_off() {
    let server = TestServer::start_as(crate::server::Setup { presence: false, ..Default::default() }).await;
    let alice = server.register("alice").await;
    server.put_as(&alice, &path(&alice), json!({ "presence": "online" })).await.ok();
    assert_eq!(server.get_as(&alice, &path(&alice)).await.ok()["presence"], "offline");
    let answer = server.get_as(&alice, "/_matrix/client/v3/sync?timeout=0").await.ok();
    assert!(!answer.to_string().contains("m.presence"));
}

#[tokio::test]
async fn the_state_after_the_timeline_goes_by_two_names() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room_id = server.private_room(&alice).await;
    for (parameter, field) in
        [("use_state_after", "state_after"), ("org.matrix.msc4222.use_state_after", "org.matrix.msc4222.state_after")]
    {
        let answer = server.get_as(&alice, &format!("/_matrix/client/v3/sync?{parameter}=true")).await.ok();
        let room = &answer["rooms"]["join"][&room_id];
        assert!(room[field]["events"].as_array().is_some_and(|events| !events.is_empty()), "{parameter}: {room}");
        assert!(room["state"].is_null());
    }
}

#[tokio::test]
async fn what_users_say_about_themselves_outlives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let setup = || Setup { directory: Some(directory.path()), ..Setup::default() };
    let server = TestServer::start_as(setup()).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    for (user, text) in [(&alice, "in the garden"), (&bob, "for a moment"), (&bob, "")] {
        server.put_as(user, &path(user), json!({ "presence": "online", "status_msg": text })).await.ok();
    }
    server.engine.storage().close().await;
    let server = TestServer::start_as(setup()).await;
    server.engine.restore_statuses().await.unwrap();
    let shown = server.get_as(&alice, &path(&alice)).await.ok();
    assert_eq!((&shown["presence"], &shown["status_msg"]), (&json!("offline"), &json!("in the garden")));
    assert_eq!(server.get_as(&bob, &path(&bob)).await.ok().get("status_msg"), None);
    let body = json!({ "auth": crate::interactive::password(&alice.user_id) });
    server.post_as(&alice, "/_matrix/client/v3/account/deactivate", body).await.ok();
    assert_eq!(server.engine.storage().status_messages(9).await.unwrap(), []);
}

#[tokio::test]
async fn the_first_answer_is_the_last_to_tell_of_what_asking_led_to() {
    let server = TestServer::start().await;
    for number in 0..10 {
        let user = server.register(&format!("user{number}")).await;
        let begun = server.get_as(&user, "/_matrix/client/v3/sync?timeout=0").await.ok();
        // Those who share a room hear of it when they do.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let later = sync(&server, &user, &next(&begun), "").await;
        assert!(later["presence"]["events"].as_array().is_none_or(Vec::is_empty), "{later}");
    }
}
