//! The clock and the randomness of the system.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rand::TryRng;
use rand::rngs::SysRng;
use rules::world::{Chance, Clock, World};

struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is where this program gets its time from")]
    fn now_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }
}

struct SystemChance;

impl Chance for SystemChance {
    fn fill(&self, bytes: &mut [u8]) {
        SysRng.try_fill_bytes(bytes).expect("without the system's randomness no secret can be made");
    }
}

/// Both.
pub fn world() -> World {
    World { clock: Arc::new(SystemClock), chance: Arc::new(SystemChance) }
}
