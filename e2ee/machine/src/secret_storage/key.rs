//! A key of the secret storage, and what it seals.
//! <https://spec.matrix.org/v1.19/client-server-api/#msecret_storagev1aes-hmac-sha2>

use aes::Aes256;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use hmac::{Hmac, KeyInit, Mac};
use rules::world::World;
use serde_json::{Value, json};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::object;
use super::passphrase::{self, Stretching};
use crate::backup::recovery_key;
use crate::signed_json::{Object, text};

/// The one algorithm that there is.
const ALGORITHM: &str = "m.secret_storage.v1.aes-hmac-sha2";

/// Length of the ids of our keys in characters.
const ID_LENGTH: usize = 32;

/// Length of the salt for a passphrase in characters.
const SALT_LENGTH: usize = 32;

/// A key of the secret storage.
#[derive(Clone)]
pub struct SecretStorageKey {
    id: String,
    secret: Zeroizing<[u8; 32]>,
    description: Object,
}

/// Why the secret storage cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretStorageError {
    /// It is described in a way that is not known here, or takes longer to open than anybody would wait.
    #[error("the key of the secret storage is of another kind")]
    OtherKind,
    /// There is no passphrase for the key.
    #[error("the key of the secret storage is not of a passphrase")]
    NoPassphrase,
    /// The text is no key, or not this one.
    #[error("this is not the key of the secret storage; perhaps it was mistyped")]
    OtherKey,
    /// Nothing tells whether it is the user's key, so that nothing is sealed with it.
    #[error("the key of the secret storage cannot be checked")]
    Unchecked,
    /// What is stored was not sealed with this key, or was changed since.
    #[error("what is stored does not open with this key")]
    Sealed,
}

impl SecretStorageKey {
    /// A new key.
    pub fn new(world: &World) -> Self {
        let mut secret = Zeroizing::new([0_u8; 32]);
        world.chance.fill(secret.as_mut());
        Self::described(world, secret, json!({ "algorithm": ALGORITHM }))
    }

    /// A new key out of a passphrase. Takes as long as guessing at it is to take.
    pub fn from_new_passphrase(world: &World, passphrase: &str) -> Self {
        let stretching = Stretching::new(world.random_string(SALT_LENGTH));
        let secret = stretching.stretch(passphrase);
        Self::described(world, secret, json!({ "algorithm": ALGORITHM, "passphrase": stretching.description() }))
    }

    /// The key that the user wrote down. `id` and `description` are of the account data that
    /// [`SecretStorageKey::description_type`] names.
    pub fn open_by_recovery_key(id: &str, description: &Object, written: &str) -> Result<Self, SecretStorageError> {
        let secret = recovery_key::decode(written).map_err(|_| SecretStorageError::OtherKey)?;
        Self::checked(id, description, Zeroizing::new(secret))
    }

    /// The same, by the passphrase that the user thought up.
    pub fn open_by_passphrase(id: &str, description: &Object, passphrase: &str) -> Result<Self, SecretStorageError> {
        let told = description.get("passphrase").and_then(Value::as_object).ok_or(SecretStorageError::NoPassphrase)?;
        let stretching = passphrase::Stretching::read(told).ok_or(SecretStorageError::OtherKind)?;
        Self::checked(id, description, stretching.stretch(passphrase))
    }

    /// The name of the key.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The type of the account data that describes the key.
    pub fn description_type(&self) -> String {
        format!("m.secret_storage.key.{}", self.id)
    }

    /// What describes the key. It tells nothing of it, but whether another is the same.
    pub fn description(&self) -> &Object {
        &self.description
    }

    /// Whether the description tells this key from others. It was compared then.
    pub(super) fn is_checked(&self) -> bool {
        text(&self.description, "iv").is_some() && text(&self.description, "mac").is_some()
    }

    /// The key for the user to write down.
    pub fn recovery_key(&self) -> String {
        recovery_key::encode(&self.secret)
    }

    fn described(world: &World, secret: Zeroizing<[u8; 32]>, description: Value) -> Self {
        let mut key = Self { id: world.random_string(ID_LENGTH), secret, description: object(description) };
        let iv = new_iv(world);
        let (_, mac) = key.encrypt("", &iv, &[0; 32]);
        key.description.insert("iv".into(), json!(STANDARD_NO_PAD.encode(iv)));
        key.description.insert("mac".into(), json!(STANDARD_NO_PAD.encode(mac)));
        key
    }

    /// Descriptions without a check fit any key, which opens what it can, but seals nothing.
    fn checked(id: &str, description: &Object, secret: Zeroizing<[u8; 32]>) -> Result<Self, SecretStorageError> {
        if text(description, "algorithm") != Some(ALGORITHM) {
            return Err(SecretStorageError::OtherKind);
        }
        let key = Self { id: id.to_owned(), secret, description: description.clone() };
        let (Some(iv), Some(mac)) = (text(description, "iv"), text(description, "mac")) else { return Ok(key) };
        let iv = iv_of(iv).ok_or(SecretStorageError::OtherKind)?;
        let mac = decoded(mac).ok_or(SecretStorageError::OtherKind)?;
        let (ciphertext, _) = key.encrypt("", &iv, &[0; 32]);
        key.check("", &ciphertext, &mac).map_err(|_| SecretStorageError::OtherKey)?;
        Ok(key)
    }

    /// Seals a secret under its name.
    pub fn seal(&self, world: &World, name: &str, secret: &str) -> Object {
        let iv = new_iv(world);
        let (ciphertext, mac) = self.encrypt(name, &iv, secret.as_bytes());
        object(json!({
            "iv": STANDARD_NO_PAD.encode(iv),
            "ciphertext": STANDARD_NO_PAD.encode(ciphertext),
            "mac": STANDARD_NO_PAD.encode(mac),
        }))
    }

    /// Opens a secret out of the content of the account data that has its name.
    pub fn open(&self, name: &str, content: &Object) -> Result<Zeroizing<String>, SecretStorageError> {
        let sealed = content.get("encrypted").and_then(|encrypted| encrypted.get(&self.id)?.as_object());
        let sealed = sealed.ok_or(SecretStorageError::Sealed)?;
        let part = |field: &str| text(sealed, field).ok_or(SecretStorageError::Sealed);
        let iv = iv_of(part("iv")?).ok_or(SecretStorageError::Sealed)?;
        let ciphertext = decoded(part("ciphertext")?).ok_or(SecretStorageError::Sealed)?;
        let mac = decoded(part("mac")?).ok_or(SecretStorageError::Sealed)?;
        self.check(name, &ciphertext, &mac)?;
        // In this mode, encrypting again decrypts.
        let (plain, _) = self.encrypt(name, &iv, &ciphertext);
        String::from_utf8(plain).map(Zeroizing::new).map_err(|_| SecretStorageError::Sealed)
    }

    fn check(&self, name: &str, ciphertext: &[u8], mac: &[u8]) -> Result<(), SecretStorageError> {
        let keys = self.derive(name);
        authenticator(&keys[32..]).chain_update(ciphertext).verify_slice(mac).map_err(|_| SecretStorageError::Sealed)
    }

    fn encrypt(&self, name: &str, iv: &[u8; 16], plain: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let keys = self.derive(name);
        let mut text = plain.to_vec();
        let key = Zeroizing::new(<[u8; 32]>::try_from(&keys[..32]).expect("half of 64 bytes are 32"));
        Ctr128BE::<Aes256>::new((&*key).into(), iv.into()).apply_keystream(&mut text);
        let mac = authenticator(&keys[32..]).chain_update(&text).finalize().into_bytes().to_vec();
        (text, mac)
    }

    /// HKDF with SHA-256, a salt of 32 zeros, and the name as the info: two blocks of it, one key each.
    fn derive(&self, name: &str) -> Zeroizing<[u8; 64]> {
        let pseudorandom = authenticator(&[0; 32]).chain_update(*self.secret).finalize().into_bytes();
        let pseudorandom: Zeroizing<[u8; 32]> = Zeroizing::new(pseudorandom.into());
        let block = |before: &[u8], number: u8| {
            let block = authenticator(&*pseudorandom).chain_update(before).chain_update(name).chain_update([number]);
            Zeroizing::new(<[u8; 32]>::from(block.finalize().into_bytes()))
        };
        let first = block(&[], 1);
        let second = block(&*first, 2);
        let mut keys = Zeroizing::new([0_u8; 64]);
        keys[..32].copy_from_slice(&*first);
        keys[32..].copy_from_slice(&*second);
        keys
    }
}

impl std::fmt::Debug for SecretStorageKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SecretStorageKey").field("id", &self.id).finish_non_exhaustive()
    }
}

fn authenticator(key: &[u8]) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length")
}

/// Bit 63 is 0, for some implementations count in half of it only.
fn new_iv(world: &World) -> [u8; 16] {
    let mut iv = [0_u8; 16];
    world.chance.fill(&mut iv);
    iv[8] &= 0x7F;
    iv
}

fn iv_of(text: &str) -> Option<[u8; 16]> {
    decoded(text)?.try_into().ok()
}

/// Some write base64 with padding although the spec says not to.
fn decoded(text: &str) -> Option<Vec<u8>> {
    STANDARD_NO_PAD.decode(text.trim_end_matches('=')).ok()
}
