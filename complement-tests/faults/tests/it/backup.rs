//! A backup is made while the server works, and restored: nothing of before is missing, and nobody who knows what came
//! after it is told a falsehood.

use std::{collections::BTreeSet, time::Duration};

use complement_tests_faults::{Client, Database, Server, server::free_port};

/// What is sent while the backup is made.
const MESSAGES: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_13_what_a_backup_holds_comes_back_sqlite_to_sqlite() {
    back_up_and_restore(&Database::sqlite(), &Database::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_13_what_a_backup_holds_comes_back_sqlite_to_postgres() {
    match Database::postgres("restored_there").await {
        Some(to) => back_up_and_restore(&Database::sqlite(), &to).await,
        None => eprintln!("skipped: NUDGE_TEST_POSTGRES_URL is not set"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_13_what_a_backup_holds_comes_back_postgres_to_sqlite() {
    match Database::postgres("backed_up").await {
        Some(from) => back_up_and_restore(&from, &Database::sqlite()).await,
        None => eprintln!("skipped: NUDGE_TEST_POSTGRES_URL is not set"),
    }
}

/// Sends messages one after the other, and says which event each became.
async fn talk(client: Client, room_id: String, prefix: &'static str) -> Vec<(String, String)> {
    let mut sent = Vec::new();
    for number in 0..MESSAGES {
        let body = format!("{prefix} {number}");
        let event_id = client.send(&room_id, &format!("{prefix}{number}"), &body).await.expect("it is sent");
        sent.push((event_id, body));
    }
    sent
}

async fn back_up_and_restore(from: &Database, to: &Database) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = Server::start(from, free_port()).await;
    let (alice, bob) =
        (Client::register(&server.base_url, "alice").await, Client::register(&server.base_url, "bob").await);
    let room_id = alice.create_room().await;
    bob.join(&room_id).await;
    bob.upload_one_time_keys(0..3).await;
    let before = talk(alice.clone(), room_id.clone(), "before").await;

    let during = tokio::spawn(talk(alice.clone(), room_id.clone(), "during"));
    let folder = tempfile::tempdir().unwrap();
    Server::run(from, &["backup".as_ref(), folder.path().as_os_str()]).await;
    let during = during.await.unwrap();
    // The second goes into the same folder, and is the one that counts.
    Server::run(from, &["backup".as_ref(), folder.path().as_os_str()]).await;

    // Of this, the backup knows nothing.
    let known = bob.now().await;
    let lost = talk(alice.clone(), room_id.clone(), "lost").await;
    assert!(alice.claim(&bob).await.unwrap().is_some());
    let newer = bob.now().await;
    server.stop().await;

    Server::run(to, &["restore".as_ref(), folder.path().as_os_str()]).await;
    let server = Server::start(to, free_port()).await;
    let (alice, bob) = (alice.at(&server.base_url), bob.at(&server.base_url));
    let expected: Vec<_> = before.into_iter().chain(during).collect();
    assert_eq!(bob.history(&room_id).await, expected, "all of before the backup, in order, and nothing else");
    assert_eq!(alice.claim(&bob).await.unwrap(), None, "a key that may have been handed out is not handed out again");

    // As many as were lost, so that a position would come again if it could.
    let after = talk(alice.clone(), room_id.clone(), "after").await;
    assert_eq!(bob.messages_since(&known).await[&room_id], after, "who knows all of the backup misses nothing");
    let anew = bob.messages_since(&newer).await;
    let expected: BTreeSet<_> = expected.into_iter().chain(after).collect();
    let told: BTreeSet<_> = anew[&room_id].iter().cloned().collect();
    assert!(!told.is_empty() && told.is_subset(&expected), "who knows more than the backup starts anew: {told:?}");
    assert!(lost.iter().all(|message| !told.contains(message)));
    let (_, token) = tokio::time::timeout(Duration::from_secs(30), bob.received(Some(&newer))).await.unwrap().unwrap();
    assert_ne!(token, newer);
    server.stop().await;
    Server::check(to).await;
}
