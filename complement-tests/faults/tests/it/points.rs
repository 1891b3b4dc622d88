//! The server is killed at the points where it would hurt most: right before and right after a commit, in the midst of
//! bringing the tables up to date, and in the midst of writing a file. And a request that comes many times is done once.
//!
//! No server has hooks for that: the wire to the database sees a commit go by, holds everything still, and the server is
//! killed then.

use std::{
    collections::BTreeSet,
    io::Write as _,
    net::TcpStream,
    path::Path,
    time::{Duration, Instant},
};

use complement_tests_faults::{Client, Database, Proxy, RECOVERY, Server, Weather, is_long, server::free_port};
use tokio::task::JoinSet;

const POINTS: [Weather; 2] = [Weather::HeldBefore, Weather::HeldAfter];
/// How often the same request comes at a time.
const SAME: usize = 100;

async fn behind_a_proxy(name: &str) -> Option<(Database, Proxy)> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Some(mut database) = Database::postgres(name).await else {
        eprintln!("skipped: NUDGE_TEST_POSTGRES_URL is not set");
        return None;
    };
    let proxy = Proxy::start(database.host()).await;
    database.reach_by(proxy.port);
    Some((database, proxy))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_02_a_message_is_there_once_wherever_around_its_commit_the_server_is_killed() {
    let Some((database, proxy)) = behind_a_proxy("points").await else { return };
    let port = free_port();
    let mut server = Server::start(&database, port).await;
    let alice = Client::register(&server.base_url, "alice").await;
    let room_id = alice.create_room().await;
    let mut sent = Vec::new();
    for round in 0..if is_long() { 50 } else { 2 } {
        for point in POINTS {
            let since = alice.now().await;
            let body = format!("{point:?} {round}");
            let held = proxy.lost();
            proxy.turn(point);
            let sending = tokio::spawn({
                let (alice, room_id, body) = (alice.clone(), room_id.clone(), body.clone());
                async move { alice.send(&room_id, &body, &body).await }
            });
            proxy.wait_until_lost(held + 1).await;
            server.kill().await;
            assert_eq!(sending.await.unwrap(), None, "it was acknowledged before it was durable");
            proxy.turn(Weather::Clear);
            server = Server::start(&database, port).await;
            let event_id = alice.send_until_acknowledged(&room_id, &body, &body).await;
            assert_eq!(alice.send(&room_id, &body, &body).await, Some(event_id));
            assert_eq!(alice.wait_for_messages(&since, &room_id, 1).await, std::slice::from_ref(&body));
            sent.push(body);
        }
    }
    alice.check_history(&room_id, &sent, &[]).await;
    server.stop().await;
    Server::check(&database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_02_a_key_is_handed_out_once_wherever_around_its_claim_the_server_is_killed() {
    let Some((database, proxy)) = behind_a_proxy("claim_points").await else { return };
    let port = free_port();
    let mut server = Server::start(&database, port).await;
    let owner = Client::register(&server.base_url, "owner").await;
    let claimer = Client::register(&server.base_url, "claimer").await;
    owner.upload_one_time_keys(0..10).await;
    let mut seen = BTreeSet::new();
    for point in POINTS {
        // What is written down of a device's first request is not what is meant.
        claimer.get("/_matrix/client/v3/account/whoami").await;
        let held = proxy.lost();
        proxy.turn(point);
        let claiming = tokio::spawn({
            let (claimer, owner) = (claimer.clone(), owner.clone());
            async move { claimer.claim(&owner).await }
        });
        proxy.wait_until_lost(held + 1).await;
        server.kill().await;
        assert!(claiming.await.unwrap().is_err(), "a key was handed out before that was durable");
        proxy.turn(Weather::Clear);
        server = Server::start(&database, port).await;
    }
    while let Some(key) = claimer.claim(&owner).await.unwrap() {
        assert!(seen.insert(key), "a key was handed out twice");
    }
    // The one whose claim was true when the server was killed is nobody's: it may have been heard.
    assert_eq!(seen.len(), 9, "{seen:?}");
    server.stop().await;
    Server::check(&database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_02_tables_that_were_half_made_are_made_whole() {
    let Some((database, proxy)) = behind_a_proxy("migration_points").await else { return };
    let port = free_port();
    for round in 0..if is_long() { 20 } else { 4 } {
        let held = proxy.lost();
        proxy.turn(POINTS[round % 2]);
        let server = Server::spawn(&database, port, &[]);
        // Once all are made, a server commits when somebody registers.
        proxy.wait_until_lost(held + 1).await;
        server.kill().await;
        proxy.turn(Weather::Clear);
    }
    let server = Server::start(&database, port).await;
    let alice = Client::register(&server.base_url, "alice").await;
    let room_id = alice.create_room().await;
    alice.send(&room_id, "one", "one").await.unwrap();
    server.stop().await;
    Server::check(&database).await;
}

/// The files below a folder.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_02_a_file_that_was_half_written_is_nobodys() {
    const WHOLE: usize = 1 << 20;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (database, port) = (Database::sqlite(), free_port());
    let server = Server::start(&database, port).await;
    let alice = Client::register(&server.base_url, "alice").await;
    let media = database.data_dir().join("media");
    let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let head = format!(
        "POST /_matrix/media/v3/upload HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: \
         application/octet-stream\r\nContent-Length: {WHOLE}\r\n\r\n",
        alice.token()
    );
    connection.write_all(head.as_bytes()).unwrap();
    connection.write_all(&vec![1; WHOLE / 2]).unwrap();
    let begun = Instant::now();
    while files(&media).is_empty() {
        assert!(begun.elapsed() < RECOVERY, "nothing is written: the test tests nothing");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.kill().await;
    let server = Server::start(&database, port).await;
    assert_eq!(files(&media), [] as [String; 0]);
    assert!(alice.upload(vec![1; WHOLE]).await.is_some_and(|status| status.is_success()));
    server.stop().await;
    Server::check(&database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_17_the_same_request_a_hundred_times_is_one_event() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (database, port) = (Database::sqlite(), free_port());
    let mut server = Server::start(&database, port).await;
    let alice = Client::register(&server.base_url, "alice").await;
    let (room_id, other_room) = (alice.create_room().await, alice.create_room().await);
    let mut event_ids = BTreeSet::new();
    for _ in 0..2 {
        let mut sending = JoinSet::new();
        for _ in 0..SAME {
            let (alice, room_id) = (alice.clone(), room_id.clone());
            sending.spawn(async move { alice.send(&room_id, "same", "same").await.expect("it is taken") });
        }
        event_ids.extend(sending.join_all().await);
        server.kill().await;
        server = Server::start(&database, port).await;
    }
    assert_eq!(event_ids.len(), 1, "{event_ids:?}");
    // Another room, another device: another request.
    event_ids.insert(alice.send(&other_room, "same", "same").await.unwrap());
    let elsewhere = alice.log_in_again("alice").await;
    event_ids.insert(elsewhere.send(&room_id, "same", "same").await.unwrap());
    assert_eq!(event_ids.len(), 3, "{event_ids:?}");
    assert_eq!(alice.history(&room_id).await.len(), 2);
    server.stop().await;
    Server::check(&database).await;
}
