//! What time it is where nobody says so.

use std::time::{SystemTime, UNIX_EPOCH};

use rules::world::Clock;

/// The clock on the wall, for fakes beside a server that is measured.
#[derive(Clone, Copy, Debug)]
pub struct WallClock;

impl Clock for WallClock {
    #[expect(clippy::disallowed_methods, reason = "what is measured runs in real time")]
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}
