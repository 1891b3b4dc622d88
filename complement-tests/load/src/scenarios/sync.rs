//! Syncs that begin, and syncs that find nothing.

use std::time::{Duration, Instant};

use faults::Client;
use futures_util::future::join_all;
use serde_json::json;

use super::{Scale, fill, shared_rooms};
use crate::{
    figures::{Figure, Latencies, Meter},
    target::Target,
};

const ROOMS: usize = 50;
const MESSAGES: usize = 30;
const SLIDING_SYNC: &str = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync?timeout=0";

/// A user in fifty rooms in which something was said.
async fn settled(target: &Target, scale: Scale) -> Client {
    let person = target.person().await;
    for room_id in shared_rooms(std::slice::from_ref(&person), scale.of(ROOMS)).await {
        fill(&person, &room_id, scale.of(MESSAGES)).await;
    }
    person
}

/// Syncs from nothing, with up to 30 messages of each room.
pub(crate) async fn initial(target: &Target, scale: Scale) -> Vec<Figure> {
    let person = settled(target, scale).await;
    let filter = "%7B%22room%22:%7B%22timeline%22:%7B%22limit%22:30%7D%7D%7D";
    let path = format!("/_matrix/client/v3/sync?timeout=0&filter={filter}");
    let rounds = scale.of(20);
    let meter = Meter::start(target);
    let latencies = one_by_one(rounds, async || {
        let answer = person.get(&path).await;
        let rooms = answer["rooms"]["join"].as_object().map_or(0, serde_json::Map::len);
        assert_eq!(rooms, scale.of(ROOMS), "a room is missing");
    });
    let latencies = latencies.await;
    figures(&meter, "syncs/s", rounds, &latencies)
}

/// Syncs that answer at once, since they are not to wait.
pub(crate) async fn idle(target: &Target, scale: Scale) -> Vec<Figure> {
    const AT_ONCE: usize = 4;
    let person = settled(target, scale).await;
    let since = person.now().await;
    let path = format!("/_matrix/client/v3/sync?timeout=0&since={since}");
    let each = scale.of(500);
    let meter = Meter::start(target);
    let all = join_all((0..AT_ONCE).map(|_| one_by_one(each, async || drop(person.get(&path).await)))).await;
    let latencies = Latencies::of(all.into_iter().flatten());
    let mut figures: Vec<Figure> = meter.figures("syncs/s", AT_ONCE * each).into();
    figures.extend(latencies.figures());
    figures
}

/// The first answer to a client that shows twenty rooms.
pub(crate) async fn sliding(target: &Target, scale: Scale) -> Vec<Figure> {
    let person = settled(target, scale).await;
    let required =
        json!([["m.room.name", ""], ["m.room.avatar", ""], ["m.room.member", "$ME"], ["m.room.encryption", ""]]);
    let list = json!({ "ranges": [[0, 19]], "timeline_limit": 1, "required_state": required });
    let rounds = scale.of(20);
    let meter = Meter::start(target);
    let mut latencies = Vec::new();
    for round in 0..rounds {
        // Each by a connection of its own, of which the server knows nothing.
        let body = json!({ "conn_id": format!("load-{round}"), "lists": { "all": list } });
        let since = Instant::now();
        person.post(SLIDING_SYNC, &body).await;
        latencies.push(since.elapsed());
    }
    figures(&meter, "syncs/s", rounds, &latencies)
}

async fn one_by_one(count: usize, act: impl AsyncFn()) -> Vec<Duration> {
    let mut latencies = Vec::with_capacity(count);
    for _ in 0..count {
        let since = Instant::now();
        act().await;
        latencies.push(since.elapsed());
    }
    latencies
}

fn figures(meter: &Meter<'_>, per_second: &'static str, count: usize, latencies: &[Duration]) -> Vec<Figure> {
    let mut figures: Vec<Figure> = meter.figures(per_second, count).into();
    figures.extend(Latencies::of(latencies.iter().copied()).figures());
    figures
}
