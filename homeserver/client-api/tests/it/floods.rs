//! Very many requests at once: each is answered, and others are not held up.

use std::{collections::BTreeSet, sync::Arc};

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
