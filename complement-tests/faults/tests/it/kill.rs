//! The promise: a 200 for a send means durable and once, also when the server is killed at any instant.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use complement_tests_faults::{Client, Database, RECOVERY, Sent, Server, server::free_port};
use tokio::{sync::watch, task::JoinSet};

const SENDERS: usize = 20;
const ROOMS: usize = 4;
/// `NUDGE_KILL_ROUNDS` runs more.
const ROUNDS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_01_kill_while_20_senders_write_sqlite() {
    kill_rounds(&Database::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_01_kill_while_20_senders_write_postgres() {
    match Database::postgres("kill").await {
        Some(database) => kill_rounds(&database).await,
        None => eprintln!("skipped: NUDGE_TEST_POSTGRES_URL is not set"),
    }
}

/// What all rounds so far have sent, by room.
type Expected = BTreeMap<String, Vec<Sent>>;

async fn kill_rounds(database: &Database) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let port = free_port();
    let mut server = Server::start(database, port).await;
    let mut senders = Vec::new();
    for index in 0..SENDERS {
        senders.push(Client::register(&server.base_url, &format!("sender{index}")).await);
    }
    let rooms = shared_rooms(&senders).await;
    let mut expected = Expected::new();
    let rounds = std::env::var("NUDGE_KILL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    for round in 0..rounds {
        let since = senders[0].now().await;
        let sent = write_until_killed(server, &senders, &rooms, round).await;
        server = Server::start(database, port).await;
        let sent = repeat(&senders, sent).await;
        check_sync(&senders[0], &since, &sent).await;
        for (room_id, mut messages) in sent.into_iter().map(|(room_id, sent, _)| (room_id, sent)) {
            expected.entry(room_id).or_default().append(&mut messages);
        }
        check_history(&senders[0], &expected).await;
        server.stop().await;
        Server::check(database).await;
        server = Server::start(database, port).await;
    }
    let acknowledged: usize = expected.values().map(Vec::len).sum();
    assert!(acknowledged > rounds * SENDERS, "only {acknowledged} messages were sent: the test tests nothing");
    server.stop().await;
}

async fn shared_rooms(senders: &[Client]) -> Vec<String> {
    let mut rooms = Vec::new();
    for _ in 0..ROOMS {
        let room_id = senders[0].create_room().await;
        for sender in &senders[1..] {
            sender.join(&room_id).await;
        }
        rooms.push(room_id);
    }
    rooms
}

/// Has all senders write, one message after the other each, until the server is killed in the midst of it.
async fn write_until_killed(
    server: Server,
    senders: &[Client],
    rooms: &[String],
    round: usize,
) -> Vec<(String, Vec<Sent>, usize)> {
    let (stop, stopped) = watch::channel(false);
    let (mut tasks, acknowledged) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
    for (index, sender) in senders.iter().cloned().enumerate() {
        let (room_id, stopped) = (rooms[index % rooms.len()].clone(), stopped.clone());
        let acknowledged = Arc::clone(&acknowledged);
        tasks.spawn(async move {
            let mut sent = Vec::new();
            for number in 0.. {
                let transaction_id = format!("r{round}s{index}n{number}");
                let body = format!("message {transaction_id}");
                let event_id = sender.send(&room_id, &transaction_id, &body).await;
                let failed = event_id.is_none();
                acknowledged.fetch_add(usize::from(!failed), Ordering::SeqCst);
                sent.push(Sent { transaction_id, body, event_id });
                if failed || *stopped.borrow() {
                    break;
                }
            }
            (room_id, sent, index)
        });
    }
    // Not the same instant each round, and not a multiple of anything. On a busy machine later, for there to be something
    // to lose.
    tokio::time::sleep(Duration::from_millis(150 + 37 * (round as u64 % 11))).await;
    let begun = Instant::now();
    while acknowledged.load(Ordering::SeqCst) <= 2 * SENDERS {
        assert!(begun.elapsed() < RECOVERY, "nothing is acknowledged");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    server.kill().await;
    stop.send_replace(true);
    tasks.join_all().await
}

/// Repeats the last requests of each sender: those that were acknowledged must give the same event, the one that was
/// not must give one now.
async fn repeat(senders: &[Client], sent: Vec<(String, Vec<Sent>, usize)>) -> Vec<(String, Vec<Sent>, usize)> {
    let mut repeated = Vec::new();
    for (room_id, mut messages, index) in sent {
        for message in messages.iter_mut().rev().take(2) {
            let event_id = senders[index].send(&room_id, &message.transaction_id, &message.body).await;
            let event_id = event_id.expect("the server runs again and takes messages");
            if let Some(acknowledged) = &message.event_id {
                assert_eq!(*acknowledged, event_id, "the same transaction id gives the same event");
            }
            message.event_id = Some(event_id);
        }
        repeated.push((room_id, messages, index));
    }
    repeated
}

/// `/sync` from a token of before the round shows each message of the round once, and each sender's in order.
async fn check_sync(reader: &Client, since: &str, sent: &[(String, Vec<Sent>, usize)]) {
    let seen = reader.messages_since(since).await;
    for (room_id, messages, _) in sent {
        let in_room = seen.get(room_id).map(Vec::as_slice).unwrap_or_default();
        check_each_once(in_room, messages);
        let mine: Vec<&(String, String)> =
            in_room.iter().filter(|(_, body)| messages.iter().any(|message| message.body == *body)).collect();
        let bodies: Vec<&String> = messages.iter().map(|message| &message.body).collect();
        assert_eq!(
            mine.iter().map(|(_, body)| body).collect::<Vec<_>>(),
            bodies,
            "in the order in which they were sent"
        );
    }
}

async fn check_history(reader: &Client, expected: &Expected) {
    for (room_id, messages) in expected {
        let history = reader.history(room_id).await;
        let ids: HashSet<&String> = history.iter().map(|(event_id, _)| event_id).collect();
        assert_eq!(ids.len(), history.len(), "an event stands in the history twice");
        assert_eq!(history.len(), messages.len(), "the history has other messages than were sent");
        check_each_once(&history, messages);
    }
}

fn check_each_once(seen: &[(String, String)], messages: &[Sent]) {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (event_id, body) in seen {
        *counts.entry((event_id, body)).or_default() += 1;
    }
    for message in messages {
        let event_id =
            message.event_id.as_deref().expect("every message was acknowledged, at the latest when repeated");
        assert_eq!(counts.get(&(event_id, &message.body)), Some(&1), "{message:?}");
    }
}
