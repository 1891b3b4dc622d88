//! Whether a message costs in a large room what it costs in a small one.

use std::time::{Duration, Instant};

use faults::Client;

use super::{Scale, fill, join};
use crate::{
    figures::{Figure, Latencies},
    peers::{Peers, SERVERS},
    target::Target,
};

/// How many events a room with little history has.
const LITTLE_HISTORY: usize = 1_000;
/// How many events a room with a long history has.
const LONG_HISTORY: usize = 1_000_000;
/// How many members a small room has: one on each of the other servers, of which a large room has as many.
const FEW_MEMBERS: usize = SERVERS;
/// How many members a large room has.
const MANY_MEMBERS: usize = 50_000;
/// How often it is either room's turn.
const TURNS: usize = 4;
/// How many messages are sent in a turn.
const MESSAGES: usize = 500;

/// Messages in a room with little history, and in one with much, which came by messages too.
pub(crate) async fn long_history(target: &Target, scale: Scale) -> Vec<Figure> {
    let person = target.person().await;
    let (small, large) = (person.create_room().await, person.create_room().await);
    let events = scale.events(LONG_HISTORY);
    fill(&person, &small, scale.of(LITTLE_HISTORY)).await;
    fill(&person, &large, events).await;
    let mut figures = vec![Figure::count("messages in the large room before", events)];
    figures.extend(compare(target, scale, &person, [&small, &large]).await);
    figures
}

/// Messages in a room of few members of other servers, and in one of many of as many servers.
pub(crate) async fn many_members(target: &Target, scale: Scale) -> Vec<Figure> {
    let person = target.person().await;
    let small = Peers::with_room(FEW_MEMBERS).await;
    let large = Peers::with_room(scale.members(MANY_MEMBERS)).await;
    for peers in [&small, &large] {
        join::join(&person, peers).await;
        assert!(join::when_all_are_known(&person, peers).await.is_some(), "members stay unknown");
    }
    let mut figures = vec![Figure::count("members of the large room before", large.members)];
    figures.extend(compare(target, scale, &person, [&small.room_id, &large.room_id]).await);
    figures
}

/// Sends messages to a small and to a large room, one after the other. The rooms take turns, so that good and bad minutes
/// of the machine are those of both.
async fn compare(target: &Target, scale: Scale, person: &Client, rooms: [&str; 2]) -> Vec<Figure> {
    let messages = scale.of(MESSAGES);
    let (mut latencies, mut used) = ([Vec::new(), Vec::new()], [Duration::ZERO; 2]);
    // What is done for the first time takes longer.
    for room_id in rooms {
        send(person, room_id, "first").await;
    }
    for turn in 0..TURNS {
        for (room, room_id) in rooms.into_iter().enumerate() {
            target.until_at_rest().await;
            let before = target.processor_time();
            for number in 0..messages {
                latencies[room].push(send(person, room_id, &format!("{turn}-{number}")).await);
            }
            used[room] += target.processor_time().saturating_sub(before);
        }
    }
    let [small, large] = latencies.map(|latencies| Latencies::of(latencies).percentile_ms(50));
    let [small_used, large_used] = used;
    vec![
        Figure::new("p50 in the small room, ms", small),
        Figure::new("p50 in the large room, ms", large),
        Figure::new("times the p50", large / small),
        Figure::milliseconds_each("server CPU each in the small room, ms", small_used, TURNS * messages),
        Figure::milliseconds_each("server CPU each in the large room, ms", large_used, TURNS * messages),
        Figure::new("times the server CPU", large_used.as_secs_f64() / small_used.as_secs_f64()),
    ]
}

async fn send(person: &Client, room_id: &str, text: &str) -> Duration {
    let since = Instant::now();
    assert!(person.send(room_id, text, text).await.is_some(), "a message was not taken");
    since.elapsed()
}
