//! Secret storage: a user's secrets in the account data, sealed with a key that the user keeps, or thinks up.
//! <https://spec.matrix.org/v1.19/client-server-api/#storage>
//!
//! The machine reads and writes no account data. It is given what is there, and gives what is to be put there.

mod key;
mod passphrase;

pub use key::{SecretStorageError, SecretStorageKey};

use std::collections::BTreeMap;

use serde_json::{Value, json};
use vodozemac::Ed25519SecretKey;

use crate::cross_signing::{MASTER, SELF_SIGNING, USER_SIGNING};
use crate::machine::Machine;
use crate::secrets::BACKUP;
use crate::signed_json::{Object, text};
use crate::store::Held;

/// Where it is said which key is the user's.
pub const DEFAULT_KEY: &str = "m.secret_storage.default_key";

/// The secrets that are stored, by the types of account data that hold them. The master key comes first: it shows that
/// the others are of the user's identity.
pub const STORED_SECRETS: [&str; 4] = [MASTER, SELF_SIGNING, USER_SIGNING, BACKUP];

impl Machine {
    /// Seals all secrets that this device has: contents of account data by their types, to be put there. With what
    /// describes the key, and says that it is the one to use.
    ///
    /// `stored` is what is there by now of the types in [`STORED_SECRETS`], and of other secrets that the user has. What
    /// was sealed with other keys stays; should there be a secret that this device does not have, the key that opens it
    /// remains the one to use.
    pub fn store_secrets(
        &self,
        key: &SecretStorageKey,
        stored: &BTreeMap<String, Object>,
    ) -> Result<BTreeMap<String, Object>, SecretStorageError> {
        if !key.is_checked() {
            return Err(SecretStorageError::Unchecked);
        }
        let mut contents = BTreeMap::from([(key.description_type(), key.description().clone())]);
        for name in STORED_SECRETS {
            let Some(secret) = self.secret(name) else { continue };
            let mut content = stored.get(name).cloned().unwrap_or_default();
            let mut encrypted = sealed(&content).cloned().unwrap_or_default();
            encrypted.insert(key.id().to_owned(), Value::Object(key.seal(&self.world, name, &secret)));
            content.insert("encrypted".to_owned(), Value::Object(encrypted));
            contents.insert(name.to_owned(), content);
        }
        let is_sealed = |content: &Object| sealed(content).is_some_and(|encrypted| !encrypted.is_empty());
        if stored.iter().all(|(name, content)| contents.contains_key(name) || !is_sealed(content)) {
            contents.insert(DEFAULT_KEY.to_owned(), object(json!({ "key": key.id() })));
        }
        Ok(contents)
    }

    /// Takes in the secrets of the storage: what the account data holds of the types in [`STORED_SECRETS`]. Takes only
    /// what belongs to the user's published identity, and to the backup that [`Machine::use_backup`] was told of. Gives
    /// the names of those that were taken.
    ///
    /// Who has the master key is the user: it makes this device trust the identity, and the identity sign this device.
    pub fn open_secrets(&mut self, key: &SecretStorageKey, stored: &BTreeMap<String, Object>) -> Held<Vec<String>> {
        let mut taken = Vec::new();
        for name in STORED_SECRETS {
            let Some(secret) = stored.get(name).and_then(|content| key.open(name, content).ok()) else { continue };
            if name == MASTER {
                self.trust_identity_of(&secret);
            }
            let is_taken = if name == BACKUP {
                self.import_backup_secret(&secret)
            } else {
                self.import_cross_signing_secret(name, &secret)
            };
            if is_taken {
                taken.push(name.to_owned());
            }
        }
        self.hold(taken)
    }

    /// Takes the published identity for ours, if this is its master key.
    fn trust_identity_of(&mut self, secret: &str) {
        let published = self.users.identity(&self.user_id).map(|own| own.master);
        let ours = Ed25519SecretKey::from_base64(secret).ok().map(|key| key.public_key());
        if ours.is_some() && ours == published {
            let user_id = self.user_id.clone();
            self.verify_identity(&user_id);
        }
    }
}

/// The id of the key that is the user's, by the content of [`DEFAULT_KEY`].
pub fn default_key_id(content: &Object) -> Option<&str> {
    text(content, "key")
}

/// What a secret was sealed to, by the ids of the keys.
fn sealed(content: &Object) -> Option<&Object> {
    content.get("encrypted").and_then(Value::as_object)
}

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        _ => Object::new(),
    }
}
