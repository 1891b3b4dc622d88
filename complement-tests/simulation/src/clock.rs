//! The clock that all servers of a universe share, turned by hand.

use std::sync::atomic::{AtomicU64, Ordering};

use rules::world::Clock;

/// When each universe begins, in milliseconds since the epoch.
const BEGINNING_MS: u64 = 1_700_000_000_000;

/// A clock that stands still until it is turned.
pub(crate) struct HandClock(AtomicU64);

impl HandClock {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(BEGINNING_MS))
    }

    /// Turns it forward.
    pub(crate) fn advance(&self, milliseconds: u64) {
        self.0.fetch_add(milliseconds, Ordering::Relaxed);
    }

    /// How long the universe has existed.
    pub(crate) fn age_ms(&self) -> u64 {
        self.now_ms() - BEGINNING_MS
    }
}

impl Clock for HandClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
