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
    circuits: Mutex<Circuits>,
}

#[derive(Default)]
struct Circuits {
    failing: BTreeMap<String, Failing>,
    /// How many failures were noted, of all gateways.
    noted: u64,
}

#[derive(Clone, Copy)]
struct Failing {
    failures: u32,
    until_ms: u64,
    /// Which of all failures its last one was.
    noted: u64,
}

/// Leave to call a gateway: how many failures had been noted then. What comes of the call says nothing against failures
/// that others have noted since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admission(u64);

impl Gateways {
    /// Whether a gateway may be called. Otherwise says when, in milliseconds since the epoch. Of those who wait for one
    /// that failed, the first to come tries it.
    pub(super) fn admit(&self, gateway: &str, now_ms: u64) -> Result<Admission, u64> {
        let mut circuits = self.lock();
        let admission = Admission(circuits.noted);
        let Some(entry) = circuits.failing.get_mut(gateway) else { return Ok(admission) };
        if entry.until_ms > now_ms {
            return Err(entry.until_ms);
        }
        entry.until_ms = now_ms + PROBE_MS;
        Ok(admission)
    }

    /// Notes that a gateway has answered.
    pub(super) fn succeeded(&self, gateway: &str, admission: Admission) {
        let mut circuits = self.lock();
        if circuits.failing.get(gateway).is_some_and(|entry| entry.noted <= admission.0) {
            circuits.failing.remove(gateway);
        }
    }

    /// Notes a failure of a gateway, which is at least the given one in a row, and says when to try again. Of calls that
    /// were under way together only the first to fail counts.
    pub(super) fn failed(&self, gateway: &str, admission: Admission, failures_min: u32, world: &World) -> u64 {
        let now_ms = world.clock.now_ms();
        let mut circuits = self.lock();
        let before = circuits.failing.get(gateway).copied();
        if let Some(entry) = before.filter(|entry| entry.noted > admission.0 && entry.until_ms > now_ms) {
            return entry.until_ms;
        }
        if before.is_none() && circuits.failing.len() >= GATEWAYS_MAX {
            circuits.failing.retain(|_, entry| entry.until_ms > now_ms);
        }
        let failures = before.map_or(0, |entry| entry.failures).saturating_add(1).max(failures_min);
        let until_ms = now_ms + backoff_ms(failures, world);
        circuits.noted += 1;
        let noted = circuits.noted;
        if before.is_some() || circuits.failing.len() < GATEWAYS_MAX {
            circuits.failing.insert(gateway.to_owned(), Failing { failures, until_ms, noted });
        }
        until_ms
    }

    /// The next to come may try a gateway at once. If it fails again, the pauses go on from where they were.
    pub(super) fn try_again(&self, gateway: &str, now_ms: u64) {
        if let Some(entry) = self.lock().failing.get_mut(gateway) {
            entry.until_ms = entry.until_ms.min(now_ms);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Circuits> {
        self.circuits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long to wait after so many failures in a row, with up to a quarter more by chance, so that not all come at once.
pub(super) fn backoff_ms(failures: u32, world: &World) -> u64 {
    let doubled = BACKOFF_BASE_MS.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let pause_ms = doubled.min(BACKOFF_MAX_MS);
    pause_ms + world.random_below(pause_ms / 4)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rules::world::{Chance, Clock};

    use super::*;

    struct Constant;

    impl Clock for Constant {
        fn now_ms(&self) -> u64 {
            1_000_000
        }
    }

    impl Chance for Constant {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0);
        }
    }

    fn world() -> World {
        World { clock: Arc::new(Constant), chance: Arc::new(Constant) }
    }

    #[test]
    fn what_one_call_comes_to_says_nothing_of_later_failures() {
        let world = world();
        let now_ms = world.clock.now_ms();
        let gateways = Gateways::default();
        let [early, other] = [(); 2].map(|()| gateways.admit("a", now_ms).unwrap());
        let until_ms = gateways.failed("a", other, 1, &world);
        gateways.succeeded("a", early);
        assert_eq!(gateways.admit("a", now_ms).unwrap_err(), until_ms, "the failure came after that call began");
        assert_eq!(gateways.failed("a", early, 1, &world), until_ms, "calls under way together fail once");
        let probe = gateways.admit("a", until_ms).unwrap();
        assert!(gateways.admit("a", until_ms).is_err(), "one of them tries");
        gateways.succeeded("a", probe);
        assert!(gateways.admit("a", until_ms).is_ok());
    }

    #[test]
    fn who_sets_a_pusher_again_has_one_try() {
        let world = world();
        let now_ms = world.clock.now_ms();
        let gateways = Gateways::default();
        let first = gateways.admit("a", now_ms).unwrap();
        gateways.failed("a", first, 6, &world);
        gateways.try_again("a", now_ms);
        let again = gateways.admit("a", now_ms).unwrap();
        let until_ms = gateways.failed("a", again, 1, &world);
        assert!(until_ms - now_ms >= 64 * BACKOFF_BASE_MS, "the pauses go on from where they were: {until_ms}");
    }
}
