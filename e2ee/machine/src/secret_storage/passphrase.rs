//! Keys out of passphrases: PBKDF2 with SHA-512.
//! <https://spec.matrix.org/v1.19/client-server-api/#deriving-keys-from-passphrases>

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha512;
use zeroize::Zeroizing;

use crate::signed_json::{Object, text};

const ALGORITHM: &str = "m.pbkdf2";

/// How often our keys are stretched: as often as other clients do.
const ITERATIONS: u32 = 500_000;

/// How often at least: the server, which says the number, could try out the passphrases of keys stretched less.
const ITERATIONS_MIN: u32 = 100_000;

/// How often at most, for the server could say any number: ten seconds of work or so.
const ITERATIONS_MAX: u32 = 10_000_000;

/// The length of the key in bits.
const BITS: u64 = 256;

/// How a passphrase becomes a key.
pub(super) struct Stretching {
    salt: String,
    iterations: u32,
}

impl Stretching {
    pub(super) fn new(salt: String) -> Self {
        Self { salt, iterations: ITERATIONS }
    }

    /// What a description says, if keys of that kind can be made.
    pub(super) fn read(described: &Object) -> Option<Self> {
        let iterations = described.get("iterations").and_then(Value::as_u64)?;
        let known = ITERATIONS_MIN..=ITERATIONS_MAX;
        let iterations = u32::try_from(iterations).ok().filter(|number| known.contains(number))?;
        let bits = described.get("bits").map_or(Some(BITS), Value::as_u64);
        let is_known = text(described, "algorithm") == Some(ALGORITHM) && bits == Some(BITS);
        let salt = text(described, "salt").filter(|_| is_known)?;
        Some(Self { salt: salt.to_owned(), iterations })
    }

    pub(super) fn description(&self) -> Value {
        json!({ "algorithm": ALGORITHM, "salt": self.salt, "iterations": self.iterations, "bits": BITS })
    }

    /// One block of PBKDF2 is longer than the key.
    pub(super) fn stretch(&self, passphrase: &str) -> Zeroizing<[u8; 32]> {
        let keyed = Hmac::<Sha512>::new_from_slice(passphrase.as_bytes()).expect("HMAC takes keys of any length");
        let mut round =
            keyed.clone().chain_update(&self.salt).chain_update(1_u32.to_be_bytes()).finalize().into_bytes();
        let mut block = round;
        for _ in 1..self.iterations {
            round = keyed.clone().chain_update(round).finalize().into_bytes();
            for (sum, byte) in block.iter_mut().zip(round) {
                *sum ^= byte;
            }
        }
        let mut key = Zeroizing::new([0_u8; 32]);
        key.copy_from_slice(&block[..32]);
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(iterations: &Value) -> Object {
        let description = json!({ "algorithm": "m.pbkdf2", "salt": "MmMsAlty", "iterations": iterations });
        description.as_object().cloned().unwrap()
    }

    #[test]
    fn a_passphrase_becomes_the_key_that_others_make_of_it() {
        let stretching = Stretching { salt: "MmMsAlty".to_owned(), iterations: 1_000 };
        let key = stretching.stretch("a secret phrase");
        let hex = key.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        assert_eq!(hex, "b5e6b78ac95eac56989c000e7ef0d5c58d0e68ebb47745a9c695f94fe48daa10");
    }

    #[test]
    fn what_is_guessed_fast_or_takes_for_ever_or_is_not_known_is_refused() {
        for iterations in
            [json!(0), json!(-1), json!(99_999), json!(10_000_001), json!(100_000.5), json!("100000"), Value::Null]
        {
            assert!(Stretching::read(&described(&iterations)).is_none(), "{iterations}");
        }
        let mut other = described(&json!(100_000));
        other.insert("bits".into(), json!(512));
        assert!(Stretching::read(&other).is_none());
        other.insert("bits".into(), json!(256));
        assert!(Stretching::read(&other).is_some());
        other.insert("algorithm".into(), json!("m.scrypt"));
        assert!(Stretching::read(&other).is_none());
    }
}
