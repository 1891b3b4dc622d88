//! Clients that wait and hear nothing, until all of them hear of the same message.

use std::time::{Duration, Instant};

use super::{
    Scale,
    delivery::{Listeners, faults_of},
    shared_rooms,
};
use crate::{
    figures::{Figure, Latencies},
    target::Target,
};

/// How many users there are.
const USERS: usize = 1_000;
/// How many connections each of them has.
const EACH: usize = 10;
/// How long the server is watched while nothing happens: as long as each request waits, so that all are made anew once.
const WATCHED: Duration = Duration::from_secs(30);
/// How many messages are sent to all.
const MESSAGES: usize = 5;

/// What many waiting syncs take, and how long it is until all of them have been told of a message.
pub(crate) async fn connections(target: &Target, scale: Scale) -> Vec<Figure> {
    let people = target.people(scale.of(USERS)).await;
    let room_id = shared_rooms(&people, 1).await.remove(0);
    // What the server keeps of each user is not what a connection takes.
    for person in &people {
        person.now().await;
    }
    target.until_at_rest().await;
    let before = target.memory_kib();
    // Who comes online is news for all the others.
    let mut listeners = Listeners::start(&people, EACH, "offline").await;
    let count = listeners.count();
    target.until_at_rest().await;
    let waiting = target.memory_kib().saturating_sub(before);
    let used = target.processor_time();
    tokio::time::sleep(WATCHED).await;
    let used = target.processor_time().saturating_sub(used);
    let (mut sent, mut receipts) = (Vec::with_capacity(MESSAGES), Vec::with_capacity(MESSAGES * count));
    for number in 0..MESSAGES {
        sent.push(Instant::now());
        let done = people[0].send(&room_id, &format!("to-all-{number}"), &number.to_string()).await;
        assert!(done.is_some(), "a message was not taken");
        receipts.extend(listeners.hear(count).await);
    }
    target.until_at_rest().await;
    let told = target.memory_kib().saturating_sub(before);
    let busy = used.as_secs_f64() / WATCHED.as_secs_f64();
    let mut figures = vec![
        Figure::kilobytes_each("memory each, kB", waiting, count),
        Figure::kilobytes_each("memory each when all have been told, kB", told, count),
        Figure::new("server CPU while nothing happens, % of a core", busy * 100.0),
    ];
    figures.extend(Latencies::of(receipts.iter().map(|receipt| receipt.at - sent[receipt.number])).figures());
    figures.extend(faults_of(&receipts, MESSAGES * count));
    figures
}
