//! How many messages per second the storage commits: `commit_throughput URL SUBMITTERS SECONDS [relaxed]`.
//!
//! Each submitter sends to a room of its own, and waits for each message to be durable before it sends the next: what
//! the server does for clients, without the server.

use std::{
    env, process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use homeserver_storage::{Durability, Options, RoomGuard, Storage, Submission};
use rules::{
    Change, Pdu,
    change::{NewEvent, Placement, Standing},
};
use ruma::{OwnedEventId, OwnedRoomId, RoomVersionId, owned_device_id, owned_server_name, owned_user_id};
use serde_json::json;
use tokio::task::JoinSet;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (Some(url), Some(submitters), Some(seconds)) = (
        arguments.first(),
        arguments.get(1).and_then(|text| text.parse::<u64>().ok()),
        arguments.get(2).and_then(|text| text.parse::<u64>().ok()),
    ) else {
        eprintln!("usage: commit_throughput URL SUBMITTERS SECONDS [relaxed]");
        process::exit(2);
    };
    let relaxed = arguments.get(3).is_some_and(|text| text == "relaxed");
    let options = Options {
        url: url.clone(),
        durability: if relaxed { Durability::Relaxed } else { Durability::Full },
        read_connections: 4,
        server_name: owned_server_name!("here"),
    };
    let storage = Storage::open(&options).await.expect("the database opens");
    let committed = Arc::new(AtomicU64::new(0));
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut running = JoinSet::new();
    for submitter in 0..submitters {
        running.spawn(submit(storage.clone(), submitter, until, Arc::clone(&committed)));
    }
    let mut latencies_us: Vec<u128> = running.join_all().await.into_iter().flatten().collect();
    latencies_us.sort_unstable();
    let percentile = |percent: usize| latencies_us.get(latencies_us.len() * percent / 100).copied().unwrap_or(0);
    let count = committed.load(Ordering::Relaxed);
    println!(
        "{}, {submitters} submitters: {} commits/s, p50 {} us, p99 {} us",
        storage.backend(),
        count / seconds,
        percentile(50),
        percentile(99)
    );
    storage.close().await;
}

async fn submit(storage: Storage, submitter: u64, until: Instant, committed: Arc<AtomicU64>) -> Vec<u128> {
    let room_id: OwnedRoomId = format!("!room{submitter}x{}:here", process::id()).try_into().expect("a room id");
    let mut revision = 0;
    let mut last = "$none".to_owned();
    let mut latencies_us = Vec::new();
    while Instant::now() < until {
        let id = format!("$event_{submitter}_{revision}_of_the_length_of_an_id_{}", process::id());
        let mut changes = vec![message(&room_id, &id, &last)];
        if revision == 0 {
            changes.insert(0, Change::Room { room_id: room_id.clone(), version: RoomVersionId::V11 });
        }
        let event_id: OwnedEventId = id.as_str().try_into().expect("an event id");
        changes.push(Change::ForwardExtremities { room_id: room_id.clone(), event_ids: vec![event_id.clone()] });
        changes.push(Change::TransactionId {
            user_id: owned_user_id!("@alice:here"),
            device_id: owned_device_id!("PHONE"),
            scope: room_id.to_string(),
            transaction_id: format!("m{submitter}.{revision}.{}", process::id()),
            event_id,
            ts: 1_000,
        });
        let guard = RoomGuard { room_id: room_id.clone(), revision, follows: None };
        let started = Instant::now();
        let outcome = storage.commit(Submission { room: Some(guard), changes }).await.expect("it is committed");
        latencies_us.push(started.elapsed().as_micros());
        committed.fetch_add(1, Ordering::Relaxed);
        revision = outcome.revision.expect("there is a room");
        last = id;
    }
    latencies_us
}

fn message(room_id: &OwnedRoomId, id: &str, after: &str) -> Change {
    let json = json!({
        "room_id": room_id, "sender": "@alice:here", "type": "m.room.message", "depth": 5, "prev_events": [after],
        "content": { "msgtype": "m.text", "body": "x".repeat(200) }, "origin_server_ts": 1_700_000_000_000_u64,
        "auth_events": ["$create", "$join", "$levels"],
        "signatures": { "here": { "ed25519:1": "s".repeat(86) } }, "hashes": { "sha256": "h".repeat(43) },
    });
    let id = id.try_into().expect("an event id");
    let pdu = Pdu::from_json(id, json.to_string().into(), false).expect("an event");
    Change::Event(Box::new(NewEvent {
        pdu: Arc::new(pdu),
        standing: Standing::Accepted,
        placement: Placement::Live,
        state_before: None,
        outbound: true,
    }))
}
