//! Very many requests at once: each is answered, and others are not held up.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::json;

use crate::server::{TestServer, encode};

const AT_ONCE: usize = 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_156_a_thousand_messages_into_one_room_at_once_and_each_is_there_once() {
    let server = Arc::new(TestServer::start().await);
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let (room_id, other) = (server.private_room(&alice).await, server.private_room(&bob).await);
    let sends: Vec<_> = (0..AT_ONCE)
        .map(|number| {
            let (server, alice, room_id) = (server.clone(), alice.clone(), room_id.clone());
            // Each of them twice, as by a client that lost patience.
            let transaction_id = (number / 2).to_string();
            tokio::spawn(async move { server.say(&alice, &room_id, &transaction_id, "one of many").await })
        })
        .collect();
    for number in 0..10 {
        server.say(&bob, &other, &number.to_string(), "in another room").await;
    }
    assert!(sends.iter().any(|send| !send.is_finished()), "the other room had to wait for all of them");
    let mut event_ids = BTreeSet::new();
    for send in sends {
        event_ids.insert(send.await.unwrap());
    }
    assert_eq!(event_ids.len(), AT_ONCE / 2);
    let mut found = BTreeSet::new();
    let mut from = String::new();
    loop {
        let path = format!("/_matrix/client/v3/rooms/{}/messages?dir=b&limit=100{from}", encode(&room_id));
        let page = server.get_as(&alice, &path).await.ok();
        let events = page["chunk"].as_array().unwrap();
        for event in events.iter().filter(|event| event["type"] == "m.room.message") {
            assert!(found.insert(event["event_id"].as_str().unwrap().to_owned()), "{event} is there twice");
        }
        match page["end"].as_str() {
            Some(end) => from = format!("&from={end}"),
            None => break,
        }
    }
    assert_eq!(found, event_ids);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_154_a_thousand_syncs_of_one_user_at_once_hold_up_nobody_else() {
    let server = Arc::new(TestServer::start().await);
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    for _ in 0..5 {
        server.private_room(&alice).await;
    }
    let other = server.private_room(&bob).await;
    let syncs: Vec<_> = (0..AT_ONCE)
        .map(|number| {
            let (server, alice) = (server.clone(), alice.clone());
            // Whatever a client may ask for: all of it, again and again, and for ever.
            let query = ["full_state=true", "timeout=1000000000", "timeout=9007199254740991&full_state=true"];
            let path = format!("/_matrix/client/v3/sync?{}", query[number % query.len()]);
            tokio::spawn(async move { server.get_as(&alice, &path).await })
        })
        .collect();
    let start = server.get_as(&bob, "/_matrix/client/v3/sync").await.ok();
    server.say(&bob, &other, "1", "still here").await;
    let path = format!("/_matrix/client/v3/sync?since={}", start["next_batch"].as_str().unwrap());
    let told = server.get_as(&bob, &path).await.ok();
    assert!(told.to_string().contains("still here"), "{told}");
    assert!(syncs.iter().any(|sync| !sync.is_finished()), "the other user had to wait for all of them");
    for sync in syncs {
        let reply = sync.await.unwrap();
        assert!([200, 429, 503].contains(&reply.status), "{}", reply.text);
    }
}

#[tokio::test]
async fn s_034_an_alias_is_taken_moved_and_removed_by_those_who_may() {
    let server = TestServer::start().await;
    let (alice, mallory) = (server.register("alice").await, server.register("mallory").await);
    let (room_id, other) = (server.private_room(&alice).await, server.private_room(&mallory).await);
    let alias = "/_matrix/client/v3/directory/room/%23square%3Aexample.org";
    let points_to = async || server.get(alias).await.ok()["room_id"].clone();
    server.put_as(&alice, alias, json!({ "room_id": room_id })).await.ok();
    // Neither taken over, nor removed.
    assert_eq!(server.put_as(&mallory, alias, json!({ "room_id": other })).await.status, 409);
    let removed = server.send(axum::http::Method::DELETE, alias, Some(&mallory.token), &json!({})).await;
    removed.assert_error(403, "M_FORBIDDEN");
    assert_eq!(points_to().await, json!(room_id));
    // Nor one of a room that is not hers, of another server, or of none.
    let path = |alias: &str| format!("/_matrix/client/v3/directory/room/{}", encode(alias));
    for (name, room, statuses) in [
        ("#free:example.org", &room_id, [403, 404]),
        ("#free:elsewhere.org", &other, [400, 403]),
        ("#:example.org", &other, [400, 403]),
        ("free", &other, [400, 404]),
        ("#free:example.org", &"!nowhere:example.org".to_owned(), [403, 404]),
    ] {
        let reply = server.put_as(&mallory, &path(name), json!({ "room_id": room })).await;
        assert!(statuses.contains(&reply.status), "{name} {room}: {}", reply.text);
    }
    // Nor does she call her room by it.
    let canonical = format!("/_matrix/client/v3/rooms/{}/state/m.room.canonical_alias", encode(&other));
    for content in [json!({ "alias": "#square:example.org" }), json!({ "alt_aliases": ["#square:example.org"] })] {
        server.put_as(&mallory, &canonical, content).await.assert_error(400, "M_BAD_ALIAS");
    }
    assert_eq!(points_to().await, json!(room_id));
}
