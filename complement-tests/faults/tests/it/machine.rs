//! The machine lets the server down: its disk is full or fails, its clock jumps.
//!
//! Each of these needs something that not every machine has, and says so when it does not run: a file system can be mounted
//! only by root, calls of the system are made to fail by `strace`, and the clock is shown by libfaketime.

use std::{
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use complement_tests_faults::{Client, Database, FailingCalls, RECOVERY, Server, server::free_port};
use reqwest::StatusCode;

/// How large the disk is that gets full.
const DISK_BYTES: u64 = 48 << 20;
/// As much as an event may hold, but for what is around it.
const LARGE_BYTES: usize = 60_000;
/// More of these than fit in what the database has laid aside.
const LARGE_MAX: usize = 1_000;
const CLOCKS: [&str; 2] =
    ["/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1"];

fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    for piece in [1 << 20, 4_096, 1] {
        let zeros = vec![0; piece];
        while file.write_all(&zeros).is_ok() {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_05_a_full_disk_stops_what_writes_and_nothing_else() {
    let Some(database) = Database::on_a_small_disk(DISK_BYTES) else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = Server::start(&database, free_port()).await;
    let alice = Client::register(&server.base_url, "alice").await;
    let room_id = alice.create_room().await;
    let mut acknowledged = vec!["before".to_owned()];
    alice.send(&room_id, "before", "before").await.unwrap();

    let ballast = database.data_dir().join("ballast");
    fill(&ballast);
    let large = |number: usize| format!("{number} {}", "x".repeat(LARGE_BYTES));
    let mut refused = None;
    for number in 0..LARGE_MAX {
        match alice.try_to_send(&room_id, &number.to_string(), &large(number)).await {
            Some(StatusCode::OK) => acknowledged.push(large(number)),
            status => {
                refused = Some((number, status));
                break;
            }
        }
    }
    let (number, status) = refused.expect("the disk is full at some time");
    assert!(status.is_some_and(|status| status.is_server_error()), "the server answers: {status:?}");
    let status = alice.upload(vec![1; 1 << 20]).await;
    assert!(
        status.is_some_and(|status| status.is_server_error() || status == StatusCode::PAYLOAD_TOO_LARGE),
        "{status:?}"
    );
    alice.check_history(&room_id, &acknowledged, &[large(number)]).await;
    alice.now().await;

    std::fs::remove_file(&ballast).unwrap();
    let since = Instant::now();
    while alice.try_to_send(&room_id, &number.to_string(), &large(number)).await != Some(StatusCode::OK) {
        assert!(since.elapsed() < RECOVERY, "the server does not notice that there is room again: {}", database.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    acknowledged.push(large(number));
    assert_eq!(alice.upload(vec![1; 1 << 20]).await, Some(StatusCode::OK));
    alice.check_history(&room_id, &acknowledged, &[]).await;
    server.stop().await;
    Server::check(&database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_04_what_cannot_be_made_durable_is_not_acknowledged() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (database, port) = (Database::sqlite(), free_port());
    let server = Server::start(&database, port).await;
    let alice = Client::register(&server.base_url, "alice").await;
    let room_id = alice.create_room().await;
    alice.send(&room_id, "before", "before").await.unwrap();
    let Some(failing) = FailingCalls::of(server.pid(), "fsync,fdatasync", "EIO").await else {
        eprintln!("skipped: there is no strace, or it may not look at other processes");
        return;
    };
    let mut uncertain = Vec::new();
    for number in 0..5 {
        let body = format!("lost {number}");
        assert_ne!(alice.try_to_send(&room_id, &body, &body).await, Some(StatusCode::OK), "{body}");
        uncertain.push(body);
    }
    failing.stop().await;
    server.kill().await;
    let server = Server::start(&database, port).await;
    alice.check_history(&room_id, &["before".to_owned()], &uncertain).await;
    alice.send(&room_id, "after", "after").await.unwrap();
    server.stop().await;
    Server::check(&database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_29_a_clock_that_jumps_changes_no_order_and_ends_no_session() {
    let Some(library) = CLOCKS.into_iter().find(|path| Path::new(path).exists()) else {
        eprintln!("skipped: there is no libfaketime");
        return;
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (database, port) = (Database::sqlite(), free_port());
    let clock = database.data_dir().join("clock");
    let shown = clock.display().to_string();
    let settings = [
        ("LD_PRELOAD", library),
        ("FAKETIME_TIMESTAMP_FILE", &shown),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("NO_FAKE_STAT", "1"),
    ];
    std::fs::write(&clock, "+0").unwrap();
    let mut server = Server::start_with(&database, port, &settings).await;
    let alice = Client::register(&server.base_url, "alice").await;
    let room_id = alice.create_room().await;
    let mut acknowledged = Vec::new();
    for (round, offset) in ["+0", "+1h", "-1h", "+10y", "+0", "-1h", "+10y", "+0"].into_iter().enumerate() {
        std::fs::write(&clock, offset).unwrap();
        // First while it runs, then from one start to the next.
        if round >= 4 {
            server.stop().await;
            Server::check(&database).await;
            server = Server::start_with(&database, port, &settings).await;
        }
        let since = alice.now().await;
        let mut new = Vec::new();
        for number in 0..3 {
            let body = format!("{number} at {offset} in round {round}");
            let sent = alice.send(&room_id, &body, &body).await.unwrap();
            assert_eq!(alice.send(&room_id, &body, &body).await, Some(sent), "the same transaction is the same event");
            new.push(body);
        }
        let told = alice.messages_since(&since).await.remove(&room_id).unwrap_or_default();
        assert_eq!(told.into_iter().map(|(_, body)| body).collect::<Vec<_>>(), new, "{offset}");
        acknowledged.append(&mut new);
    }
    alice.check_history(&room_id, &acknowledged, &[]).await;
    server.stop().await;
    Server::check(&database).await;
}
