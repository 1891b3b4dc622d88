//! Clients that wait and hear nothing.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;

use super::{Scale, shared_rooms};
use crate::{figures::Figure, target::Target};

/// How long they are left alone before memory is read.
const SETTLING: Duration = Duration::from_secs(3);

/// What memory each of many waiting syncs takes: those of a hundred users, ten devices' worth each.
pub(crate) async fn connections(target: &Target, scale: Scale) -> Vec<Figure> {
    let people = Arc::new(target.people(scale.of(100)).await);
    shared_rooms(&people, 1).await;
    let (before, used) = (target.memory_kib(), target.processor_time());
    let mut waiting = JoinSet::new();
    let each = 10;
    for receiver in 0..people.len() {
        let since = people[receiver].now().await;
        for _ in 0..each {
            let (people, path) = (Arc::clone(&people), format!("/_matrix/client/v3/sync?timeout=60000&since={since}"));
            waiting.spawn(async move { drop(people[receiver].get(&path).await) });
        }
    }
    tokio::time::sleep(SETTLING).await;
    let count = waiting.len();
    let kib = target.memory_kib().saturating_sub(before);
    let used_ms = target.processor_time().saturating_sub(used).as_secs_f64() * 1000.0;
    waiting.shutdown().await;
    let kib = u32::try_from(kib).map_or(f64::NAN, f64::from);
    let count = u32::try_from(count).map_or(f64::NAN, f64::from);
    vec![Figure::new("memory each, kB", kib * 1.024 / count), Figure::new("server CPU each, ms", used_ms / count)]
}
