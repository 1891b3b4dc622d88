//! Who waits for a time to come.

use std::collections::{BTreeMap, BTreeSet};

use storage::{ConcernedPusher, PusherKey};

/// The pushers that wait, by when to try again.
#[derive(Default)]
pub(super) struct Waiting {
    pushers: BTreeMap<PusherKey, (u64, String)>,
    due: BTreeSet<(u64, PusherKey)>,
}

impl Waiting {
    /// Has a pusher wait until a time, in milliseconds since the epoch, and no longer until any other.
    pub(super) fn put(&mut self, pusher: ConcernedPusher, until_ms: u64) {
        self.take(&pusher.key);
        self.due.insert((until_ms, pusher.key.clone()));
        self.pushers.insert(pusher.key, (until_ms, pusher.gateway));
    }

    /// A pusher waits no more.
    pub(super) fn take(&mut self, key: &PusherKey) {
        if let Some((until_ms, _)) = self.pushers.remove(key) {
            self.due.remove(&(until_ms, key.clone()));
        }
    }

    /// The next pusher whose time has come, which waits no more.
    pub(super) fn pop_due(&mut self, now_ms: u64) -> Option<ConcernedPusher> {
        if self.due.first().is_none_or(|(at_ms, _)| *at_ms > now_ms) {
            return None;
        }
        let (_, key) = self.due.pop_first()?;
        let (_, gateway) = self.pushers.remove(&key)?;
        Some(ConcernedPusher { key, gateway, retry_at_ts: None })
    }

    /// Whether a pusher waits.
    pub(super) fn contains(&self, key: &PusherKey) -> bool {
        self.pushers.contains_key(key)
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.pushers.len()
    }

    /// When the next one's time comes.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.due.first().map(|(at_ms, _)| *at_ms)
    }
}
