//! The outside world as arguments: what time it is, and chance.
//!
//! `server` passes in the system's clock and the operating system's randomness; tests and the simulation pass in a
//! clock they turn by hand and a seeded generator.

use std::sync::Arc;

use ruma::MilliSecondsSinceUnixEpoch;

/// A wall clock.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch. May step backwards when the operator corrects the clock.
    fn now_ms(&self) -> u64;

    /// The same moment in the type that events carry.
    fn now(&self) -> MilliSecondsSinceUnixEpoch {
        MilliSecondsSinceUnixEpoch(ruma::UInt::new_saturating(self.now_ms()))
    }
}

/// A source of random bytes, cryptographically strong outside of tests.
pub trait Chance: Send + Sync + 'static {
    /// Fills `bytes` with random bytes.
    fn fill(&self, bytes: &mut [u8]);
}

/// Both, as they are handed to whoever needs them.
#[derive(Clone)]
pub struct World {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where random bytes come from.
    pub chance: Arc<dyn Chance>,
}

impl World {
    /// `length` random characters out of `a-z A-Z 0-9`, each worth 5.95 bits.
    pub fn random_string(&self, length: usize) -> String {
        const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        // The largest multiple of 62 that a byte can hold: bytes from there on would favour the first letters.
        const FAIR_BELOW: u8 = 248;
        let mut text = String::with_capacity(length);
        let mut bytes = [0_u8; 64];
        while text.len() < length {
            self.chance.fill(&mut bytes);
            let fair = bytes.iter().filter(|byte| **byte < FAIR_BELOW);
            text.extend(fair.map(|byte| char::from(ALPHABET[usize::from(byte % 62)])).take(length - text.len()));
        }
        text
    }

    /// A random number below `bound`, for jitter; not fair enough for secrets.
    pub fn random_below(&self, bound: u64) -> u64 {
        let mut bytes = [0_u8; 8];
        self.chance.fill(&mut bytes);
        u64::from_le_bytes(bytes) % bound.max(1)
    }
}
