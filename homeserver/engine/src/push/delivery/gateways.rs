//! Which gateways do not answer. One that is dead costs one attempt now and then, however many use it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rules::world::World;

/// How long to wait after the first failure; doubles with each further one.
const BACKOFF_BASE_MS: u64 = 5_000;
/// The longest wait: who waits for a message after an outage should not wait much longer than the outage.
const BACKOFF_MAX_MS: u64 = 10 * 60 * 1_000;
/// How long the others wait while one tries: longer than an attempt may take.
const PROBE_MS: u64 = 20_000;
/// How many failing gateways are remembered. Users name them; of those forgotten each pusher finds out for itself.
const GATEWAYS_MAX: usize = 10_000;

/// Gateways that failed last time.
#[derive(Default)]
pub(super) struct Gateways {
    failing: Mutex<BTreeMap<String, Failing>>,
}

#[derive(Clone, Copy)]
struct Failing {
    failures: u32,
    until_ms: u64,
}

impl Gateways {
    /// Whether a gateway may be called. Otherwise says when, in milliseconds since the epoch. Of those who wait for one
    /// that failed, the first to come tries it.
    pub(super) fn admit(&self, gateway: &str, now_ms: u64) -> Result<(), u64> {
        let mut failing = self.lock();
        let Some(entry) = failing.get_mut(gateway) else { return Ok(()) };
        if entry.until_ms > now_ms {
            return Err(entry.until_ms);
        }
        entry.until_ms = now_ms + PROBE_MS;
        Ok(())
    }

    pub(super) fn succeeded(&self, gateway: &str) {
        self.lock().remove(gateway);
    }

    /// Notes a failure of a gateway, which is at least the given one in a row, and says when to try again.
    pub(super) fn failed(&self, gateway: &str, failures_min: u32, world: &World) -> u64 {
        let now_ms = world.clock.now_ms();
        let mut failing = self.lock();
        if failing.len() >= GATEWAYS_MAX && !failing.contains_key(gateway) {
            failing.retain(|_, entry| entry.until_ms > now_ms);
        }
        let before = failing.get(gateway).map_or(0, |entry| entry.failures);
        let failures = before.saturating_add(1).max(failures_min);
        let until_ms = now_ms + backoff_ms(failures, world);
        if failing.len() < GATEWAYS_MAX || failing.contains_key(gateway) {
            failing.insert(gateway.to_owned(), Failing { failures, until_ms });
        }
        until_ms
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long to wait after so many failures in a row, with up to a quarter more by chance, so that not all come at once.
pub(super) fn backoff_ms(failures: u32, world: &World) -> u64 {
    let doubled = BACKOFF_BASE_MS.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let pause_ms = doubled.min(BACKOFF_MAX_MS);
    pause_ms + world.random_below(pause_ms / 4)
}
