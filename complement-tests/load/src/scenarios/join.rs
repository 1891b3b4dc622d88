//! Joining a large room that is on other servers only.

use std::time::{Duration, Instant};

use faults::Client;
use http::StatusCode;
use serde_json::{Map, json};

use super::Scale;
use crate::{figures::Figure, peers::Peers, target::Target};

/// How many members the room has.
const MEMBERS: usize = 2_000;
/// How often it is looked whether all members are known.
const POLL: Duration = Duration::from_millis(100);
/// When nobody waits for that any more.
const LATE_MAX: Duration = Duration::from_mins(15);

/// How long it takes until a user has said something in a room of many members, and until all of these are known. That
/// includes the work of the other servers, which are on this machine too.
pub(crate) async fn large_room(target: &Target, scale: Scale) -> Vec<Figure> {
    let peers = Peers::with_room(scale.members(MEMBERS)).await;
    let person = target.person().await;
    target.until_at_rest().await;
    target.forget_memory_peak();
    let (before, used, begun) = (target.memory_kib(), target.processor_time(), Instant::now());
    join(&person, &peers).await;
    assert!(person.send(&peers.room_id, "hello", "hello").await.is_some(), "a message was not taken");
    let talks = begun.elapsed();
    let all_known = when_all_are_known(&person, &peers).await.map(|at| at - begun);
    let used = target.processor_time().saturating_sub(used);
    vec![
        Figure::count("members", peers.members),
        Figure::new("s until the user has said something", talks.as_secs_f64()),
        Figure::new("s until all members are known", all_known.map_or(f64::NAN, |time| time.as_secs_f64())),
        Figure::new("server CPU, s", used.as_secs_f64()),
        Figure::megabytes("memory at most, above before, MB", target.memory_peak_kib().saturating_sub(before)),
    ]
}

/// Has somebody join the room of other servers.
pub(super) async fn join(person: &Client, peers: &Peers) {
    let Peers { room_id, host, .. } = peers;
    person.post(&format!("/_matrix/client/v3/join/{room_id}?via={host}&server_name={host}"), &json!({})).await;
}

/// Waits until all members are known, and says when that was; nothing when it was not in time. Servers that know of some
/// only let the question wait.
pub(super) async fn when_all_are_known(person: &Client, peers: &Peers) -> Option<Instant> {
    let (path, since) = (format!("/_matrix/client/v3/rooms/{}/joined_members", peers.room_id), Instant::now());
    while person.status(&path).await != Some(StatusCode::OK) {
        if since.elapsed() > LATE_MAX {
            return None;
        }
        tokio::time::sleep(POLL).await;
    }
    let at = Instant::now();
    let known = person.get(&path).await["joined"].as_object().map_or(0, Map::len);
    (known == peers.members + 1).then_some(at)
}
