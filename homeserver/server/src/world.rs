//! The real world: the system's clock and the operating system's randomness.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use rand::{TryRng, rngs::SysRng};
use rules::world::{Chance, Clock, World};

/// The world outside of this process.
pub fn system() -> World {
    World { clock: Arc::new(SystemClock), chance: Arc::new(SystemChance) }
}

struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where the system's time comes in")]
    fn now_ms(&self) -> u64 {
        // Before 1970 the clock is not set at all; nothing that compares times works then, but nothing breaks.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
    }
}

struct SystemChance;

impl Chance for SystemChance {
    fn fill(&self, bytes: &mut [u8]) {
        SysRng.try_fill_bytes(bytes).expect("without the system's randomness no secret can be made");
    }
}
