//! Sealing of records: XChaCha20-Poly1305 for what they hold, HMAC-SHA-256 for how they are called.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use rules::world::World;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{Change, Record, Table};

/// Length of the nonce in bytes: long enough to be chosen at random for every record.
const NONCE_LENGTH: usize = 24;

/// Shortest salt that a passphrase may be stretched with, in bytes.
const SALT_LENGTH_MIN: usize = 16;

/// The secret that a store is sealed with.
#[derive(Clone)]
pub struct StoreKey(Zeroizing<[u8; 32]>);

/// A store key that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum StoreKeyError {
    /// The salt is too short to be one.
    #[error("a salt needs at least 16 bytes")]
    ShortSalt,
    /// The passphrase cannot be stretched.
    #[error("the passphrase cannot be stretched: {0}")]
    Passphrase(String),
}

impl StoreKey {
    /// A key from 32 secret bytes.
    pub fn from_secret(secret: [u8; 32]) -> Self {
        Self(Zeroizing::new(secret))
    }

    /// A key from a passphrase, stretched by Argon2id. The salt is public, made once for each store by chance, and kept
    /// beside it (the file store does that).
    pub fn from_passphrase(passphrase: &str, salt: &[u8]) -> Result<Self, StoreKeyError> {
        if salt.len() < SALT_LENGTH_MIN {
            return Err(StoreKeyError::ShortSalt);
        }
        let mut key = Zeroizing::new([0_u8; 32]);
        argon2::Argon2::default()
            .hash_password_into(passphrase.as_bytes(), salt, key.as_mut())
            .map_err(|error| StoreKeyError::Passphrase(error.to_string()))?;
        Ok(Self(key))
    }

    fn derive(&self, purpose: &[u8]) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(mac(self.0.as_ref(), &[purpose]))
    }
}

/// Seals and opens records.
pub(crate) struct Vault {
    cipher: XChaCha20Poly1305,
    names: Zeroizing<[u8; 32]>,
}

impl Vault {
    pub(crate) fn new(key: &StoreKey) -> Self {
        let cipher = XChaCha20Poly1305::new((&*key.derive(b"records")).into());
        Self { cipher, names: key.derive(b"names") }
    }

    /// A change that keeps `bytes` (or deletes them) under `key`.
    pub(crate) fn seal(&self, world: &World, table: Table, key: &str, bytes: Option<&[u8]>) -> Change {
        let hidden = self.hide(table, key);
        let bytes = bytes.map(|bytes| {
            let mut nonce = [0_u8; NONCE_LENGTH];
            world.chance.fill(&mut nonce);
            let mut plain = Zeroizing::new(Vec::with_capacity(4 + key.len() + bytes.len()));
            plain.extend_from_slice(&(key.len() as u32).to_le_bytes());
            plain.extend_from_slice(key.as_bytes());
            plain.extend_from_slice(bytes);
            let place = place(table, &hidden);
            let payload = Payload { msg: &plain, aad: &place };
            let sealed =
                self.cipher.encrypt(&XNonce::from(nonce), payload).expect("a record is far below the cipher's limit");
            [nonce.as_slice(), &sealed].concat()
        });
        Change { table, key: hidden, bytes }
    }

    /// The key and bytes of a record, or `None` when it was sealed with another key or changed since.
    pub(crate) fn open(&self, record: &Record) -> Option<(String, Zeroizing<Vec<u8>>)> {
        let (nonce, sealed) = record.bytes.split_first_chunk::<NONCE_LENGTH>()?;
        let place = place(record.table, &record.key);
        let payload = Payload { msg: sealed, aad: &place };
        let plain = Zeroizing::new(self.cipher.decrypt(&XNonce::from(*nonce), payload).ok()?);
        let (length, rest) = plain.split_first_chunk::<4>()?;
        let (key, bytes) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        Some((String::from_utf8(key.to_vec()).ok()?, Zeroizing::new(bytes.to_vec())))
    }

    fn hide(&self, table: Table, key: &str) -> String {
        let name = mac(self.names.as_ref(), &[table.name().as_bytes(), b"\0", key.as_bytes()]);
        let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
        name.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }
}

/// What a sealed record is bound to, so that it cannot be put in the place of another.
fn place(table: Table, hidden: &str) -> Vec<u8> {
    [table.name().as_bytes(), b"\0", hidden.as_bytes()].concat()
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}
