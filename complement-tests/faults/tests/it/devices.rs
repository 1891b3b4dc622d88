//! What is promised about devices, also when the server is killed at any instant: a one-time key is handed out once ever,
//! and a message to a device comes once, in order, until the device says that it has it.

use std::{collections::BTreeSet, time::Duration};

use complement_tests_faults::{Client, Database, Server, server::free_port};
use tokio::task::JoinSet;

const CLAIMERS: usize = 8;
const KEYS_PER_ROUND: u32 = 200;
const ROUNDS: u32 = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_081_no_key_is_handed_out_twice_across_kills_sqlite() {
    claim_across_kills(&Database::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_081_no_key_is_handed_out_twice_across_kills_postgres() {
    match Database::postgres("claims").await {
        Some(database) => claim_across_kills(&database).await,
        None => eprintln!("skipped: NUDGE_TEST_POSTGRES_URL is not set"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_18_messages_to_a_device_come_once_across_kills_sqlite() {
    receive_across_kills(&Database::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_18_messages_to_a_device_come_once_across_kills_postgres() {
    match Database::postgres("to_device").await {
        Some(database) => receive_across_kills(&database).await,
        None => eprintln!("skipped: NUDGE_TEST_POSTGRES_URL is not set"),
    }
}

/// Claims keys until there are none left or the server is killed. Says which, and whether an answer got lost.
async fn claim_all(claimer: Client, owner: Client) -> (Vec<String>, bool) {
    let mut keys = Vec::new();
    loop {
        match claimer.claim(&owner).await {
            Ok(Some(key)) => keys.push(key),
            Ok(None) => return (keys, false),
            Err(_) => return (keys, true),
        }
    }
}

async fn claim_across_kills(database: &Database) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let port = free_port();
    let mut server = Server::start(database, port).await;
    let owner = Client::register(&server.base_url, "owner").await;
    let mut claimers = Vec::new();
    for index in 0..CLAIMERS {
        claimers.push(Client::register(&server.base_url, &format!("claimer{index}")).await);
    }
    let (mut seen, mut lost, mut rounds_with_keys) = (BTreeSet::new(), 0, 0);
    for round in 0..ROUNDS {
        let numbers = round * KEYS_PER_ROUND..(round + 1) * KEYS_PER_ROUND;
        owner.upload_one_time_keys(numbers.clone()).await;
        let tasks: JoinSet<_> = claimers.iter().map(|claimer| claim_all(claimer.clone(), owner.clone())).collect();
        tokio::time::sleep(Duration::from_millis(60 + 43 * u64::from(round))).await;
        server.kill().await;
        let ended = tasks.join_all().await;
        server = Server::start(database, port).await;
        // The owner cannot know whether its upload arrived, and repeats it.
        owner.upload_one_time_keys(numbers).await;
        let rest = claim_all(claimers[0].clone(), owner.clone()).await;
        let in_round = seen.len();
        for (keys, is_lost) in ended.into_iter().chain([rest]) {
            lost += usize::from(is_lost);
            for key in keys {
                assert!(seen.insert(key.clone()), "{key} was handed out twice");
            }
        }
        rounds_with_keys += usize::from(seen.len() > in_round);
    }
    let uploaded = usize::try_from(ROUNDS * KEYS_PER_ROUND).expect("it is a small number");
    assert!(seen.len() + lost >= uploaded, "{} of {uploaded} keys came, {lost} answers got lost", seen.len());
    assert!(rounds_with_keys > 0, "nothing was claimed: the test tests nothing");
    server.stop().await;
    Server::check(database).await;
}

async fn receive_across_kills(database: &Database) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let port = free_port();
    let mut server = Server::start(database, port).await;
    let sender = Client::register(&server.base_url, "sender").await;
    let receiver = Client::register(&server.base_url, "receiver").await;
    let (mut sent, mut seen, mut since) = (0, Vec::new(), None);
    for round in 0..ROUNDS {
        let sending = tokio::spawn(send_on(sender.clone(), receiver.clone(), sent));
        let receiving = tokio::spawn(receive_on(receiver.clone(), since));
        tokio::time::sleep(Duration::from_millis(150 + 37 * u64::from(round))).await;
        server.kill().await;
        sent = sending.await.expect("it sends until the server is gone");
        let (numbers, next) = receiving.await.expect("it receives until the server is gone");
        (seen, since) = ([seen, numbers].concat(), next);
        server = Server::start(database, port).await;
        // The last one may or may not have been taken: the same transaction again settles it.
        assert!(sender.send_to_device(&receiver, &format!("t{sent}"), sent).await);
        sent += 1;
        loop {
            let (numbers, next) = receiver.received(since.as_deref()).await.expect("the server runs again");
            since = Some(next);
            if numbers.is_empty() {
                break;
            }
            seen.extend(numbers);
        }
    }
    assert!(sent > u64::from(ROUNDS), "only {sent} were sent: the test tests nothing");
    assert_eq!(seen, (0..sent).collect::<Vec<_>>());
    server.stop().await;
    Server::check(database).await;
}

/// Sends one number after the other until there is no answer, and returns the one that got none.
async fn send_on(sender: Client, receiver: Client, mut number: u64) -> u64 {
    while sender.send_to_device(&receiver, &format!("t{number}"), number).await {
        number += 1;
    }
    number
}

/// Takes what comes until there is no answer. Returns it, and the last token.
async fn receive_on(receiver: Client, mut since: Option<String>) -> (Vec<u64>, Option<String>) {
    let mut seen = Vec::new();
    while let Some((numbers, next)) = receiver.received(since.as_deref()).await {
        seen.extend(numbers);
        since = Some(next);
    }
    (seen, since)
}
