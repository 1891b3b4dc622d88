//! A first conversation, from two registrations to one farewell.

use axum::http::Method;
use serde_json::{Value, json};

use crate::server::{Session, TestServer, encode};

async fn sync(server: &TestServer, user: &Session, since: Option<&Value>) -> Value {
    let since = since.map_or_else(String::new, |since| format!("&since={}", since.as_str().unwrap()));
    server.get_as(user, &format!("/_matrix/client/v3/sync?timeout=0{since}")).await.ok()
}

fn bodies(events: &Value) -> Vec<&str> {
    events.as_array().unwrap().iter().filter_map(|event| event["content"]["body"].as_str()).collect()
}

#[tokio::test]
async fn a_whole_first_conversation() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let body = json!({ "preset": "private_chat", "name": "Tea", "topic": "When?", "room_alias_name": "tea" });
    let created = server.post_as(&alice, "/_matrix/client/v3/createRoom", body).await.ok();
    let room_id = created["room_id"].as_str().unwrap().to_owned();
    let room = format!("/_matrix/client/v3/rooms/{}", encode(&room_id));
    let bob_start = sync(&server, &bob, None).await;

    // The invite.
    server.post_as(&alice, &format!("{room}/invite"), json!({ "user_id": bob.user_id, "reason": "Tea?" })).await.ok();
    let invited = sync(&server, &bob, Some(&bob_start["next_batch"])).await;
    let stripped = invited["rooms"]["invite"][&room_id]["invite_state"]["events"].as_array().unwrap();
    assert!(stripped.iter().any(|event| event["type"] == "m.room.name" && event["content"]["name"] == "Tea"));
    assert_eq!(invited["rooms"]["join"][&room_id], Value::Null);

    // The join, by alias.
    let joined =
        server.post_as(&bob, &format!("/_matrix/client/v3/join/{}", encode("#tea:example.org")), json!({})).await;
    assert_eq!(joined.ok()["room_id"], room_id);
    let rooms = server.get_as(&bob, "/_matrix/client/v3/joined_rooms").await.ok();
    assert_eq!(rooms["joined_rooms"], json!([room_id]));
    let members = server.get_as(&alice, &format!("{room}/joined_members")).await.ok();
    assert_eq!(members["joined"].as_object().unwrap().len(), 2);
    assert_eq!(members["joined"][&bob.user_id], json!({ "display_name": "bob", "avatar_url": null }));
    let bob_joined = sync(&server, &bob, Some(&invited["next_batch"])).await;
    assert!(bob_joined["rooms"]["join"][&room_id].is_object());

    // Words, and the same words again: a transaction id is for one event.
    let first = server.say(&alice, &room_id, "1", "Hello Bob").await;
    assert_eq!(server.say(&alice, &room_id, "1", "Hello Bob").await, first);
    let second = server.say(&bob, &room_id, "1", "Hello Alice").await;
    assert_ne!(first, second);
    let heard = sync(&server, &bob, Some(&bob_joined["next_batch"])).await;
    let timeline = &heard["rooms"]["join"][&room_id]["timeline"]["events"];
    assert_eq!(bodies(timeline), ["Hello Bob", "Hello Alice"]);
    let messages = server.get_as(&bob, &format!("{room}/messages?dir=b&limit=2")).await.ok();
    assert_eq!(bodies(&messages["chunk"]), ["Hello Alice", "Hello Bob"]);
    let event = server.get_as(&bob, &format!("{room}/event/{}", encode(&first))).await.ok();
    assert_eq!((event["sender"].as_str(), event["room_id"].as_str()), (Some(&*alice.user_id), Some(&*room_id)));
    let context = server.get_as(&bob, &format!("{room}/context/{}?limit=2", encode(&first))).await.ok();
    assert_eq!(context["event"]["event_id"], first);
    assert_eq!(bodies(&context["events_after"]), ["Hello Alice"]);

    // State.
    server.put_as(&alice, &format!("{room}/state/m.room.topic"), json!({ "topic": "At five" })).await.ok();
    let topic = server.get_as(&bob, &format!("{room}/state/m.room.topic/")).await.ok();
    assert_eq!(topic, json!({ "topic": "At five" }));
    let topic = server.get_as(&bob, &format!("{room}/state/m.room.topic?format=event")).await.ok();
    assert_eq!(topic["state_key"], "");
    let state = server.get_as(&bob, &format!("{room}/state")).await.ok();
    assert!(state.as_array().unwrap().iter().any(|event| event["type"] == "m.room.create"));
    let refused = server.put_as(&bob, &format!("{room}/state/m.room.topic"), json!({ "topic": "Never" })).await;
    refused.assert_error(403, "M_FORBIDDEN");

    // Signs of life.
    let typing = json!({ "typing": true });
    server.put_as(&bob, &format!("{room}/typing/{}", bob.user_id), typing).await.ok();
    server.post_as(&bob, &format!("{room}/receipt/m.read/{}", encode(&first)), json!({})).await.ok();
    let marks = json!({ "m.fully_read": first, "m.read.private": second });
    server.post_as(&bob, &format!("{room}/read_markers"), marks).await.ok();
    let signs = sync(&server, &alice, Some(&bob_start["next_batch"])).await;
    let ephemeral = signs["rooms"]["join"][&room_id]["ephemeral"]["events"].as_array().unwrap();
    let of_type = |name: &str| ephemeral.iter().find(|event| event["type"] == name);
    assert_eq!(of_type("m.typing").unwrap()["content"]["user_ids"], json!([bob.user_id]));
    assert!(of_type("m.receipt").unwrap()["content"][&first]["m.read"][&bob.user_id].is_object());
    assert!(!ephemeral.iter().any(|event| event.to_string().contains("m.read.private")));

    // Second thoughts.
    let path = format!("{room}/redact/{}/2", encode(&first));
    server.put_as(&alice, &path, json!({ "reason": "A typo" })).await.ok();
    let event = server.get_as(&bob, &format!("{room}/event/{}", encode(&first))).await.ok();
    assert_eq!(event["content"], json!({}));
    assert_eq!(event["unsigned"]["redacted_because"]["content"]["reason"], "A typo");

    // The farewell.
    server.post_as(&bob, &format!("{room}/leave"), json!({ "reason": "Tea is over" })).await.ok();
    let left = sync(&server, &bob, Some(&heard["next_batch"])).await;
    assert!(left["rooms"]["leave"][&room_id].is_object());
    assert_eq!(server.say(&bob, &room_id, "1", "Hello Alice").await, second, "what was done stays done");
    let too_late = json!({ "msgtype": "m.text", "body": "Wait" });
    server.put_as(&bob, &format!("{room}/send/m.room.message/2"), too_late).await.assert_error(403, "M_FORBIDDEN");
    server.post_as(&bob, &format!("{room}/forget"), json!({})).await.ok();
    let rooms = server.get_as(&bob, "/_matrix/client/v3/joined_rooms").await.ok();
    assert_eq!(rooms["joined_rooms"], json!([]));
}

#[tokio::test]
async fn moderation_and_aliases() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let body = json!({ "preset": "public_chat", "visibility": "public" });
    let created = server.post_as(&alice, "/_matrix/client/v3/createRoom", body).await.ok();
    let room_id = created["room_id"].as_str().unwrap();
    let room = format!("/_matrix/client/v3/rooms/{}", encode(room_id));
    let listed = format!("/_matrix/client/v3/directory/list/room/{}", encode(room_id));
    assert_eq!(server.get(&listed).await.ok(), json!({ "visibility": "public" }));
    server.put_as(&alice, &listed, json!({ "visibility": "private" })).await.ok();
    assert_eq!(server.get(&listed).await.ok(), json!({ "visibility": "private" }));

    let alias = format!("/_matrix/client/v3/directory/room/{}", encode("#square:example.org"));
    server.put_as(&alice, &alias, json!({ "room_id": room_id })).await.ok();
    server.put_as(&alice, &alias, json!({ "room_id": room_id })).await.assert_error(409, "M_UNKNOWN");
    let resolved = server.get(&alias).await.ok();
    assert_eq!(resolved, json!({ "room_id": room_id, "servers": ["example.org"] }));
    let aliases = server.get_as(&alice, &format!("{room}/aliases")).await.ok();
    assert_eq!(aliases, json!({ "aliases": ["#square:example.org"] }));
    server.send(Method::DELETE, &alias, Some(&bob.token), &json!({})).await.assert_error(403, "M_FORBIDDEN");
    server.send(Method::DELETE, &alias, Some(&alice.token), &json!({})).await.ok();
    server.get(&alias).await.assert_error(404, "M_NOT_FOUND");

    server.post_as(&bob, &format!("{room}/join"), json!({})).await.ok();
    let target = json!({ "user_id": bob.user_id, "reason": "Noise" });
    server
        .post_as(&bob, &format!("{room}/kick"), json!({ "user_id": alice.user_id }))
        .await
        .assert_error(403, "M_FORBIDDEN");
    server.post_as(&alice, &format!("{room}/kick"), target.clone()).await.ok();
    server.post_as(&bob, &format!("{room}/join"), json!({})).await.ok();
    server.post_as(&alice, &format!("{room}/ban"), target.clone()).await.ok();
    server.post_as(&bob, &format!("{room}/join"), json!({})).await.assert_error(403, "M_FORBIDDEN");
    server.post_as(&alice, &format!("{room}/unban"), target).await.ok();
    server.post_as(&bob, &format!("{room}/join"), json!({})).await.ok();
    let members = server.get_as(&bob, &format!("{room}/members?membership=join")).await.ok();
    assert_eq!(members["chunk"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_was_sent_is_known_for_ninety_days() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room_id = server.private_room(&alice).await;
    let first = server.say(&alice, &room_id, "t", "once").await;
    let after = async |days: u64| {
        server.clock.advance(std::time::Duration::from_hours(24 * days));
        server.engine.keep_house().await.unwrap();
        server.say(&alice, &room_id, "t", "once").await
    };
    assert_eq!(after(89).await, first);
    assert_ne!(after(2).await, first);
}
