//! What is delivered, in which order, and what happens when it is not.

mod driver;
mod failure;

use std::{sync::Arc, time::Duration};

use outbound::{EduJson, FlushOutcome, Sender, SenderOptions};
use rules::{
    Change,
    change::{NewEvent, Placement, Position, Standing},
};
use ruma::{OwnedServerName, RoomVersionId, ServerName, events::receipt::ReceiptType, room_id, server_name};
use serde_json::{Value, json};
use storage::{RoomGuard, Submission};

use crate::support::{Bench, START_MS, Sent, Wire, event, here, ok};

const OPTIONS: SenderOptions =
    SenderOptions { backoff_base_ms: 1_000, backoff_max_ms: 60_000, workers_max: 8, device_names: true };
const SENT: FlushOutcome = FlushOutcome::Sent { more: false };
const SENT_MORE: FlushOutcome = FlushOutcome::Sent { more: true };

fn there() -> &'static ServerName {
    server_name!("there.test")
}

struct Room {
    bench: Bench,
    sender: Sender,
    events: u64,
}

impl Room {
    /// A room in which we and these servers are.
    async fn with(servers: &[&ServerName], wire: Arc<Wire>) -> Self {
        let bench = Bench::new(wire).await;
        let sender = Sender::new(bench.federation.clone(), OPTIONS);
        let mut room = Self { bench, sender, events: 0 };
        let room_id = room_id!("!room:here.test").to_owned();
        let mut changes = vec![Change::Room { room_id: room_id.clone(), version: RoomVersionId::V11 }];
        changes.push(room.next(true));
        let servers = std::iter::once(here()).chain(servers.iter().copied());
        changes.extend(servers.map(|server| Change::RoomServer {
            room_id: room_id.clone(),
            server: server.to_owned(),
            present: true,
        }));
        room.commit_first(changes).await;
        room
    }

    async fn there(wire: Arc<Wire>) -> Self {
        Self::with(&[there()], wire).await
    }

    fn next(&mut self, outbound: bool) -> Change {
        self.events += 1;
        let pdu = event(&self.bench.key, &RoomVersionId::V11, START_MS + self.events, &self.events.to_string());
        Change::Event(Box::new(NewEvent {
            pdu: Arc::new(pdu),
            standing: Standing::Accepted,
            placement: Placement::Live,
            state_before: None,
            outbound,
        }))
    }

    async fn commit_first(&self, changes: Vec<Change>) {
        let room = RoomGuard { room_id: room_id!("!room:here.test").to_owned(), revision: 0, follows: None };
        self.bench.storage.commit(Submission { room: Some(room), changes }).await.unwrap();
    }

    async fn commit(&self, changes: Vec<Change>) -> Position {
        self.bench.storage.commit(Submission { room: None, changes }).await.unwrap().position
    }

    /// Stores that many messages of ours.
    async fn send(&mut self, count: usize) -> Position {
        let mut position = 0;
        for _ in 0..count {
            let change = self.next(true);
            position = self.commit(vec![change]).await;
        }
        position
    }

    async fn receipt(&self, user: &str, thread_id: Option<&str>, event_id: &str) {
        let change = Change::Receipt {
            room_id: room_id!("!room:here.test").to_owned(),
            user_id: user.try_into().unwrap(),
            receipt_type: ReceiptType::Read,
            thread_id: thread_id.map(ToOwned::to_owned),
            event_id: event_id.try_into().unwrap(),
            ts: ruma::MilliSecondsSinceUnixEpoch(ruma::uint!(5)),
        };
        self.commit(vec![change]).await;
    }

    async fn flush(&self) -> FlushOutcome {
        self.sender.flush(there()).await.unwrap()
    }

    /// Flushes until nothing is left, at most so many times.
    async fn flush_all(&self, most: usize) {
        for _ in 0..most {
            if matches!(self.flush().await, FlushOutcome::Idle | SENT) {
                return;
            }
        }
        panic!("not done after {most} attempts");
    }

    fn transactions(&self) -> Vec<Sent> {
        self.bench.wire.sent()
    }
}

/// The numbers in the bodies of the messages of a transaction.
fn bodies(sent: &Sent) -> Vec<u64> {
    let json = sent.json();
    let pdus = json["pdus"].as_array().unwrap();
    pdus.iter().map(|pdu| pdu["content"]["body"].as_str().unwrap().parse().unwrap()).collect()
}

fn accepting() -> Arc<Wire> {
    Wire::new(|_, _| ok(&json!({ "pdus": {} })))
}

fn typing(number: u64) -> EduJson {
    let content = serde_json::value::to_raw_value(&json!({ "n": number })).unwrap();
    EduJson { edu_type: "m.typing".to_owned(), content }
}

#[tokio::test]
async fn events_are_delivered_in_order_fifty_at_a_time() {
    let mut room = Room::there(accepting()).await;
    room.send(120).await;
    assert_eq!(room.sender.pending().await.unwrap(), [there()], "not ourselves");
    assert_eq!([room.flush().await, room.flush().await, room.flush().await], [SENT_MORE, SENT_MORE, SENT]);
    assert_eq!(room.flush().await, FlushOutcome::Idle);
    let sent = room.transactions();
    let all: Vec<u64> = sent.iter().flat_map(bodies).collect();
    // The first was the event with which the server joined.
    assert_eq!(all, (2..=121).collect::<Vec<_>>());
    assert_eq!(sent.iter().map(|sent| bodies(sent).len()).collect::<Vec<_>>(), [50, 50, 20]);
    assert!(sent.iter().all(|sent| sent.method == http::Method::PUT && sent.destination == there()));
    let ids: std::collections::HashSet<_> = sent.iter().map(|sent| &sent.target).collect();
    assert_eq!(ids.len(), 3);
    assert_eq!(sent[0].json()["origin"], "here.test");
    assert_eq!(sent[0].json()["origin_server_ts"], START_MS);
    assert!(room.sender.pending().await.unwrap().is_empty());
    let destination = room.bench.storage.destination(there()).await.unwrap();
    assert_eq!((destination.cursor, destination.in_flight), (room.bench.storage.head(), None));
}

#[tokio::test]
async fn only_what_is_ours_to_send_is_sent() {
    let mut room = Room::there(accepting()).await;
    let foreign = room.next(false);
    room.commit(vec![foreign]).await;
    assert_eq!(room.flush().await, FlushOutcome::Idle);
    assert!(room.sender.pending().await.unwrap().is_empty());
    assert_eq!(room.bench.wire.count(), 0);
    // The cursor has moved all the same, so that the entry is not looked at again.
    assert_eq!(room.bench.storage.destination(there()).await.unwrap().cursor, room.bench.storage.head());
}

#[tokio::test]
async fn receipts_come_along_in_one_edu() {
    let mut room = Room::there(accepting()).await;
    room.send(1).await;
    room.receipt("@a:here.test", None, "$x").await;
    room.receipt("@b:here.test", Some("main"), "$y").await;
    assert_eq!(room.flush().await, SENT);
    let json = room.transactions()[0].json();
    assert_eq!(json["pdus"].as_array().unwrap().len(), 1);
    assert_eq!(
        json["edus"],
        json!([{
            "edu_type": "m.receipt",
            "content": { "!room:here.test": { "m.read": {
                "@a:here.test": { "data": { "ts": 5 }, "event_ids": ["$x"] },
                "@b:here.test": { "data": { "ts": 5, "thread_id": "main" }, "event_ids": ["$y"] },
            } } },
        }])
    );
}

#[tokio::test]
async fn receipts_of_one_reader_in_several_threads_need_several_edus() {
    let room = Room::there(accepting()).await;
    room.receipt("@a:here.test", None, "$x").await;
    room.receipt("@a:here.test", Some("main"), "$y").await;
    room.receipt("@a:here.test", Some("$root"), "$z").await;
    room.receipt("@b:here.test", None, "$x").await;
    assert_eq!(room.flush().await, SENT);
    let json = room.transactions()[0].json();
    let readers: Vec<usize> = json["edus"]
        .as_array()
        .unwrap()
        .iter()
        .map(|edu| edu["content"]["!room:here.test"]["m.read"].as_object().unwrap().len())
        .collect();
    assert_eq!(readers, [2, 1, 1]);
}

#[tokio::test]
async fn never_more_than_a_hundred_edus() {
    let room = Room::there(accepting()).await;
    for index in 0..80 {
        room.receipt("@a:here.test", Some(&format!("$thread{index}")), "$x").await;
    }
    for index in 0..80 {
        room.sender.queue_ephemeral(vec![there().to_owned()], format!("room{index}"), typing(index));
    }
    assert_eq!([room.flush().await, room.flush().await], [SENT_MORE, SENT]);
    let edus: Vec<Value> = room.transactions().iter().map(|sent| sent.json()["edus"].clone()).collect();
    let counts: Vec<usize> = edus.iter().map(|edus| edus.as_array().unwrap().len()).collect();
    assert_eq!(counts, [100, 30]);
}

#[tokio::test]
async fn ephemeral_edus_are_coalesced_by_key() {
    let room = Room::there(accepting()).await;
    let servers = || vec![there().to_owned(), here().to_owned()];
    room.sender.queue_ephemeral(servers(), "a".to_owned(), typing(1));
    room.sender.queue_ephemeral(servers(), "b".to_owned(), typing(2));
    room.sender.queue_ephemeral(servers(), "a".to_owned(), typing(3));
    assert_eq!(room.sender.pending().await.unwrap(), [there()]);
    assert_eq!(room.flush().await, SENT);
    let json = room.transactions()[0].json();
    assert_eq!(json["pdus"], json!([]));
    assert_eq!(
        json["edus"],
        json!([
            { "edu_type": "m.typing", "content": { "n": 2 } },
            { "edu_type": "m.typing", "content": { "n": 3 } },
        ])
    );
    assert_eq!(room.flush().await, FlushOutcome::Idle);
}

#[tokio::test]
async fn a_complaint_about_one_event_does_not_stop_the_queue() {
    let mut room = Room::there(Wire::new(|_, request| {
        let body: Value = serde_json::from_slice(request.body()).unwrap();
        assert!(body["pdus"].is_array());
        ok(&json!({ "pdus": { "$a": { "error": "not allowed" }, "$b": {}, "$c": 5 } }))
    }))
    .await;
    room.send(2).await;
    assert_eq!(room.flush().await, SENT);
    assert_eq!(room.flush().await, FlushOutcome::Idle);
}

#[tokio::test]
async fn a_server_gets_what_happened_while_it_was_in_the_room() {
    let other = server_name!("other.test");
    let mut room = Room::with(&[there(), other], accepting()).await;
    room.send(1).await;
    let leave = room.next(true);
    let gone = Change::RoomServer {
        room_id: room_id!("!room:here.test").to_owned(),
        server: there().to_owned(),
        present: false,
    };
    room.commit(vec![leave, gone]).await;
    room.send(1).await;
    let mut pending: Vec<OwnedServerName> = room.sender.pending().await.unwrap();
    pending.sort();
    assert_eq!(pending, [other, there()]);
    room.flush_all(3).await;
    assert_eq!(bodies(&room.transactions()[0]), [2, 3]);
    while room.sender.flush(other).await.unwrap() == SENT_MORE {}
    assert_eq!(bodies(&room.transactions()[1]), [2, 3, 4]);
}
