//! The public half of a user's cross-signing keys, checked.

use ruma::UserId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use vodozemac::Ed25519PublicKey;

use super::{MASTER, SELF_SIGNING, USER_SIGNING};
use crate::signed_json::{self, Object};

/// A user's public keys: the master key, and what it signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PublicIdentity {
    pub(crate) master: Ed25519PublicKey,
    pub(crate) self_signing: Option<Ed25519PublicKey>,
    /// Only known of our own user.
    pub(crate) user_signing: Option<Ed25519PublicKey>,
    /// The master key's object, with all signatures.
    pub(crate) master_object: Object,
}

impl PublicIdentity {
    /// The keys of a user as the server gives them: `None` without a proper master key; without the others when the
    /// master key has not signed them.
    pub(crate) fn checked(
        user_id: &UserId,
        master_object: Object,
        self_signing: Option<Object>,
        user_signing: Option<Object>,
    ) -> Option<Self> {
        let master = key_of(user_id, &master_object, "master")?;
        let name = format!("ed25519:{}", master.to_base64());
        let signed = |object: Option<Object>, usage: &str| {
            let object = object?;
            let key = key_of(user_id, &object, usage)?;
            signed_json::is_signed(&object, user_id, &name, &master).then_some(key)
        };
        let self_signing = signed(self_signing, "self_signing");
        let user_signing = signed(user_signing, "user_signing");
        Some(Self { master, self_signing, user_signing, master_object })
    }

    /// The public key of a secret.
    pub(crate) fn public(&self, name: &str) -> Option<Ed25519PublicKey> {
        match name {
            MASTER => Some(self.master),
            SELF_SIGNING => self.self_signing,
            USER_SIGNING => self.user_signing,
            _ => None,
        }
    }

    /// What the keys are called in signatures, without the algorithm.
    pub(crate) fn key_names(&self) -> impl Iterator<Item = String> {
        let keys = [Some(self.master), self.self_signing, self.user_signing];
        keys.into_iter().flatten().map(|key| key.to_base64())
    }

    /// Whether the self-signing key signed a device's object.
    pub(crate) fn has_signed_device(&self, user_id: &UserId, device: &Object) -> bool {
        let Some(key) = &self.self_signing else { return false };
        signed_json::is_signed(device, user_id, &format!("ed25519:{}", key.to_base64()), key)
    }
}

/// The one key of an object, which must be of this user and for this use.
fn key_of(user_id: &UserId, object: &Object, usage: &str) -> Option<Ed25519PublicKey> {
    let usages = object.get("usage").and_then(Value::as_array)?;
    let is_for_it = usages.iter().any(|known| known == usage);
    let is_theirs = signed_json::text(object, "user_id") == Some(user_id.as_str());
    let keys = object.get("keys").and_then(Value::as_object)?;
    let (name, key) = keys.iter().next().filter(|_| keys.len() == 1 && is_for_it && is_theirs)?;
    let key = key.as_str()?;
    let is_named_after_itself = name.strip_prefix("ed25519:") == Some(key);
    Ed25519PublicKey::from_base64(key).ok().filter(|_| is_named_after_itself)
}
