//! What is promised about application services, also when the server is killed at any instant: what one is sent comes in
//! order, nothing is left out, and what was on its way comes again under the same transaction id. And however much one has
//! missed, only one transaction waits for it.

use std::{collections::BTreeSet, time::Duration};

use complement_tests_faults::{Client, Database, Server, server::free_port};
use fake_service::{Behaviour, FakeService};
use tokio::task::JoinSet;

const AS_TOKEN: &str = "as-token";
pub(crate) const HS_TOKEN: &str = "hs-token";
const ROUNDS: u64 = 6;

/// How many messages the service misses: several transactions' worth. Ten thousand, and the memory that they take, are for
/// a release build: `load service-away`.
const MISSED: usize = 450;
/// How many are sent at a time.
const SENDERS: usize = 16;
/// The most events of one transaction.
const TRANSACTION_EVENTS_MAX: usize = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_18_s_107_transactions_come_again_under_the_same_id_across_kills_sqlite() {
    deliver_across_kills(&Database::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_18_s_107_transactions_come_again_under_the_same_id_across_kills_postgres() {
    match Database::postgres("services").await {
        Some(database) => deliver_across_kills(&database).await,
        None => eprintln!("skipped: NUDGE_TEST_POSTGRES_URL is not set"),
    }
}

/// A server whose application service hears everybody.
pub(crate) async fn start(database: &Database, port: u16, service: &FakeService) -> Server {
    let file = database.data_dir().join("service.yaml");
    let registration = format!(
        "id: all\nurl: {}\nas_token: {AS_TOKEN}\nhs_token: {HS_TOKEN}\nsender_localpart: allbot\nnamespaces:\n  users:\n  \
         - {{regex: '@.*', exclusive: false}}\n",
        service.url()
    );
    std::fs::write(&file, registration).expect("the data folder can be written to");
    let file = file.to_str().expect("the data folder has a name of letters");
    Server::start_with(database, port, &[("NUDGE_APPLICATION_SERVICES__REGISTRATIONS", file)]).await
}

/// The texts of all messages that the service has taken, in order.
fn texts(service: &FakeService) -> Vec<String> {
    let events = service.events().into_iter().filter(|event| event["type"] == "m.room.message");
    events.map(|event| event["content"]["body"].as_str().expect("it has a text").to_owned()).collect()
}

async fn deliver_across_kills(database: &Database) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let service = FakeService::start(HS_TOKEN).await;
    let port = free_port();
    let mut server = start(database, port, &service).await;
    let sender = Client::register(&server.base_url, "sender").await;
    let room = sender.create_room().await;
    let mut sent = 0;
    for round in 0..ROUNDS {
        // One in three is taken by the service without a word, one is left unanswered, and one is taken while it runs.
        let behaviour = [Behaviour::Hang, Behaviour::LoseAnswer, Behaviour::Accept][(round % 3) as usize];
        service.behave(behaviour);
        let before = service.attempts().len();
        let sending = tokio::spawn(send_on(sender.clone(), room.clone(), sent));
        service.wait_for_attempts(before + 1).await;
        tokio::time::sleep(Duration::from_millis(50 + 37 * round)).await;
        server.kill().await;
        let under_way = service.attempts().last().expect("there was one").clone();
        sent = sending.await.expect("it sends until the server is gone");
        service.behave(Behaviour::Accept);
        let before = service.attempts().len();
        server = start(database, port, &service).await;
        // The last one may or may not have been taken: the same transaction again settles it.
        assert!(sender.send(&room, &format!("t{sent}"), &sent.to_string()).await.is_some());
        sent += 1;
        service.wait_until("all of the round", |service| service.count("m.room.message") >= sent).await;
        if behaviour != Behaviour::Accept {
            assert_eq!(service.attempts()[before].0, under_way.0, "what was under way comes first, and is the same");
        }
    }
    assert!(sent > usize::try_from(ROUNDS).expect("it is a small number"), "nothing was sent: the test tests nothing");
    assert_eq!(texts(&service), (0..sent).map(|number| number.to_string()).collect::<Vec<_>>());
    // One that was answered by 200 may come again when the server was killed before it knew: the service is to drop it.
    let violations: Vec<_> =
        service.violations().into_iter().filter(|text| !text.ends_with("came again after it was taken")).collect();
    assert_eq!(violations, [] as [&str; 0]);
    server.stop().await;
    Server::check(database).await;
}

/// Sends one number after the other until there is no answer, and returns the one that got none.
async fn send_on(sender: Client, room: String, mut number: usize) -> usize {
    while sender.send(&room, &format!("t{number}"), &number.to_string()).await.is_some() {
        number += 1;
    }
    number
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_service_is_away_one_transaction_waits_and_the_rest_stays_in_the_log_sqlite() {
    catch_up(&Database::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_service_is_away_one_transaction_waits_and_the_rest_stays_in_the_log_postgres() {
    match Database::postgres("services_away").await {
        Some(database) => catch_up(&database).await,
        None => eprintln!("skipped: NUDGE_TEST_POSTGRES_URL is not set"),
    }
}

async fn catch_up(database: &Database) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let service = FakeService::start(HS_TOKEN).await;
    let server = start(database, free_port(), &service).await;
    let sender = Client::register(&server.base_url, "sender").await;
    let room = sender.create_room().await;
    service.wait_until("the room", |service| service.count("m.room.create") == 1).await;
    service.behave(Behaviour::Refuse(503));
    let before = service.attempts().len();
    send_many(&sender, &room, MISSED).await;
    service.wait_for_attempts(before + 1).await;
    assert_eq!(service.count("m.room.message"), 0, "nothing was taken");
    service.behave(Behaviour::Accept);
    // Hearing from the service ends the waiting.
    Client::of_service(&server.base_url, AS_TOKEN).await;
    service.wait_until("what it missed", |service| service.count("m.room.message") >= MISSED).await;
    let refused: BTreeSet<_> = service.attempts().into_iter().filter(|(_, taken)| !taken).map(|(id, _)| id).collect();
    assert_eq!(refused.len(), 1, "whatever was missed, one transaction waited: {refused:?}");
    let largest = service.transactions().iter().filter_map(|taken| taken.body["events"].as_array().map(Vec::len)).max();
    assert!(largest <= Some(TRANSACTION_EVENTS_MAX), "{largest:?}");
    // Everything once, in the order of the room.
    let history: Vec<String> = sender.history(&room).await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts(&service), history);
    assert_eq!(service.violations(), [] as [&str; 0]);
    server.stop().await;
    Server::check(database).await;
}

/// Sends so many messages, several at a time.
async fn send_many(sender: &Client, room: &str, count: usize) {
    let send_some = |first: usize| {
        let (sender, room) = (sender.clone(), room.to_owned());
        async move {
            for number in (first..count).step_by(SENDERS) {
                assert!(sender.send(&room, &format!("m{number}"), &number.to_string()).await.is_some(), "{number}");
            }
        }
    };
    (0..SENDERS).map(send_some).collect::<JoinSet<_>>().join_all().await;
}
