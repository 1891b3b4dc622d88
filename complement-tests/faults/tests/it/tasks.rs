//! A task in the background panics: it begins anew, whoever watches is told, and nothing is lost.
//!
//! No server has a place where it panics on demand. But without the system's randomness no secret can be made, and there is
//! nothing else to do then: `strace` has the kernel refuse it.

use std::time::{Duration, Instant};

use complement_tests_faults::{Client, Database, FailingCalls, RECOVERY, Server, server::free_port};
use fake_service::{Behaviour, FakeService};
use serde_json::json;

use crate::services::{HS_TOKEN, start};

/// When the server is to send what waits, counted from the time when there still is randomness: one of these comes when
/// there is none any more, however busy the machine is.
const DELAYS_SECONDS: [u64; 3] = [3, 15, 60];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_36_a_task_that_panics_begins_anew_and_whoever_watches_is_told() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (database, service) = (Database::sqlite(), FakeService::start(HS_TOKEN).await);
    let server = start(&database, free_port(), &service).await;
    let alice = Client::register(&server.base_url, "alice").await;
    let room_id = alice.create_room().await;
    service.wait_until("the room", |service| service.count("m.room.create") == 1).await;
    assert_eq!(alice.get("/ready").await, json!({ "status": "ready" }));
    let since = alice.now().await;
    // How long the next attempt has to wait is partly chance; so is the id of an event that is sent later.
    service.behave(Behaviour::Refuse(503));
    alice.send(&room_id, "before", "before").await.unwrap();
    for seconds in DELAYS_SECONDS {
        let body = format!("after {seconds} s");
        alice.send_later(&room_id, &body, &body, Duration::from_secs(seconds)).await;
    }
    let Some(failing) = FailingCalls::of(server.pid(), "getrandom", "EAGAIN").await else {
        eprintln!("skipped: there is no strace, or it may not look at other processes");
        return;
    };
    let degraded = json!({ "status": "degraded", "panicked": ["delayed_events", "services"] });
    let begun = Instant::now();
    while alice.get("/ready").await != degraded {
        assert!(begun.elapsed() < RECOVERY, "{}: {}", alice.get("/ready").await, database.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Who needs no secret is served meanwhile.
    let before = alice.history(&room_id).await.len();
    failing.stop().await;

    service.behave(Behaviour::Accept);
    alice.send(&room_id, "after", "after").await.unwrap();
    let told = alice.wait_for_messages(&since, &room_id, before + 2).await;
    let expected = |body: &str| told.iter().filter(|told| *told == body).count() == 1;
    assert!(["before", "after", "after 3 s"].into_iter().all(expected), "each of them once: {told:?}");
    service.wait_until("what it missed", |service| service.count("m.room.message") >= told.len()).await;
    assert_eq!(service.violations(), [] as [&str; 0]);
    // It is told for a while yet, for whoever looks now and then.
    assert_eq!(alice.get("/ready").await, degraded);
    server.stop().await;
    Server::check(&database).await;
}
