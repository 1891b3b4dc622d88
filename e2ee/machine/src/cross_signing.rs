//! Cross-signing: a user's keys that say which devices are the user's, and which other users are who they say.
//! <https://spec.matrix.org/v1.19/client-server-api/#cross-signing>

mod bootstrap;
mod identity;

pub(crate) use identity::PublicIdentity;

use std::collections::BTreeMap;

use ruma::api::client::keys::upload_signatures;
use ruma::{DeviceId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use vodozemac::{Ed25519PublicKey, Ed25519SecretKey};

use crate::devices::{Device, LocalTrust};
use crate::machine::{Machine, raw};
use crate::request::{Purpose, RequestBody};
use crate::signed_json::{self, Object};
use crate::store::Table;

/// The three keys of a user, by the names under which they are kept as secrets.
pub(crate) const MASTER: &str = "m.cross_signing.master";
pub(crate) const SELF_SIGNING: &str = "m.cross_signing.self_signing";
pub(crate) const USER_SIGNING: &str = "m.cross_signing.user_signing";

/// Our private keys, by the names of secrets, and what we trust.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct CrossSigningState {
    /// Unpadded base64 of seeds.
    secrets: BTreeMap<String, String>,
    /// The master key of our own user that this device takes for ours.
    trusted_master: Option<Ed25519PublicKey>,
}

impl CrossSigningState {
    fn key(&self, name: &str) -> Option<Ed25519SecretKey> {
        Ed25519SecretKey::from_base64(self.secrets.get(name)?).ok()
    }
}

/// Which private keys of cross-signing this device has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "four independent facts, each named")]
pub struct CrossSigningStatus {
    /// The one that is the user's identity.
    pub has_master: bool,
    /// The one that signs the user's devices.
    pub has_self_signing: bool,
    /// The one that signs other users.
    pub has_user_signing: bool,
    /// Whether this device takes the published identity of its user for true.
    pub is_trusted: bool,
}

impl Machine {
    /// Which private keys of cross-signing this device has.
    pub fn cross_signing_status(&self) -> CrossSigningStatus {
        let has = |name| self.usable_key(name).is_some();
        CrossSigningStatus {
            has_master: has(MASTER),
            has_self_signing: has(SELF_SIGNING),
            has_user_signing: has(USER_SIGNING),
            is_trusted: self.is_identity_verified(&self.user_id),
        }
    }

    /// Whether a user's identity is verified: ours by ourselves, another's by our user-signing key. A verification ends
    /// when the identity changes, because the signature was of the old one.
    pub fn is_identity_verified(&self, user_id: &UserId) -> bool {
        let Some(own) = self.users.identity(&self.user_id) else { return false };
        if self.cross_signing.trusted_master != Some(own.master) {
            return false;
        }
        if user_id == self.user_id {
            return true;
        }
        let Some(user_signing) = &own.user_signing else { return false };
        let Some(theirs) = self.users.identity(user_id) else { return false };
        let name = format!("ed25519:{}", user_signing.to_base64());
        signed_json::is_signed(&theirs.master_object, &self.user_id, &name, user_signing)
    }

    /// Whether a device is verified: by us, or by its user's verified identity.
    pub fn is_device_verified(&self, user_id: &UserId, device_id: &DeviceId) -> bool {
        self.users.device(user_id, device_id).is_some_and(|device| self.is_verified(device))
    }

    pub(crate) fn is_verified(&self, device: &Device) -> bool {
        match device.local_trust {
            LocalTrust::Verified => true,
            LocalTrust::Blacklisted => false,
            LocalTrust::Unset => {
                let is_this = device.user_id == self.user_id && device.device_id == self.device_id;
                is_this || (self.is_cross_signed(device) && self.is_identity_verified(&device.user_id))
            }
        }
    }

    /// Whether the identity of the device's user says that the device is the user's.
    pub(crate) fn is_cross_signed(&self, device: &Device) -> bool {
        let identity = self.users.identity(&device.user_id);
        identity.is_some_and(|identity| identity.has_signed_device(&device.user_id, &device.object))
    }

    /// Takes a user's identity for verified, as a comparison of keys showed. For another user this needs our
    /// user-signing key. Returns whether it could be done.
    pub(crate) fn verify_identity(&mut self, user_id: &UserId) -> bool {
        let Some(identity) = self.users.identity(user_id).cloned() else { return false };
        if user_id == self.user_id {
            self.cross_signing.trusted_master = Some(identity.master);
            self.touch(Table::CrossSigning, "");
            return true;
        }
        let Some(key) = self.usable_key(USER_SIGNING) else { return false };
        let mut object = identity.master_object;
        object.remove("signatures");
        let name = format!("ed25519:{}", key.public_key().to_base64());
        if !signed_json::sign(&mut object, &self.user_id, &name, |text| key.sign(text)) {
            return false;
        }
        let mut signed = upload_signatures::v3::SignedKeys::new();
        signed.add_cross_signing_keys(identity.master.to_base64().into(), raw(object.clone()));
        self.upload_signatures(user_id, signed);
        self.add_signatures(user_id, &object);
        true
    }

    /// Signs one of our own devices with the self-signing key. Returns whether it could be done.
    pub(crate) fn sign_own_device(&mut self, device_id: &DeviceId) -> bool {
        let is_this = *device_id == self.device_id;
        let object = if is_this {
            Some(self.device_keys())
        } else {
            self.device(&self.user_id, device_id).map(|device| device.object.clone())
        };
        let (Some(mut object), Some(key)) = (object, self.usable_key(SELF_SIGNING)) else { return false };
        object.remove("unsigned");
        if !is_this {
            object.remove("signatures");
        }
        let name = format!("ed25519:{}", key.public_key().to_base64());
        if !signed_json::sign(&mut object, &self.user_id, &name, |text| key.sign(text)) {
            return false;
        }
        let mut signed = upload_signatures::v3::SignedKeys::new();
        signed.add_device_keys(device_id.to_owned(), raw(object));
        let user_id = self.user_id.clone();
        self.upload_signatures(&user_id, signed);
        // The signed object comes back with the next query.
        self.mark_outdated(&user_id);
        true
    }

    /// A private key, when it belongs to our user's current identity. One of another identity is kept, because a server
    /// that shows a wrong one must not make us lose ours; but it is of no use.
    pub(crate) fn usable_key(&self, name: &str) -> Option<Ed25519SecretKey> {
        let key = self.cross_signing.key(name)?;
        let own = self.users.identity(&self.user_id)?;
        (self.is_identity_verified(&self.user_id) && own.public(name) == Some(key.public_key())).then_some(key)
    }

    /// Takes in a private key that another device of ours sent. Refuses one that is not of our current identity.
    pub(crate) fn import_cross_signing_secret(&mut self, name: &str, secret: &str) -> bool {
        let Ok(key) = Ed25519SecretKey::from_base64(secret) else { return false };
        let published = self.users.identity(&self.user_id).and_then(|own| own.public(name));
        if published != Some(key.public_key()) || !self.is_identity_verified(&self.user_id) {
            return false;
        }
        self.cross_signing.secrets.insert(name.to_owned(), key.to_base64());
        self.touch(Table::CrossSigning, "");
        if name == SELF_SIGNING {
            let device_id = self.device_id.clone();
            self.sign_own_device(&device_id);
        }
        true
    }

    pub(crate) fn upload_signatures(&mut self, user_id: &UserId, signed: upload_signatures::v3::SignedKeys) {
        let request = upload_signatures::v3::Request::new(BTreeMap::from([(user_id.to_owned(), signed)]));
        self.ask(Purpose::SignaturesUpload, RequestBody::SignaturesUpload(request));
    }

    /// Joins our signature with what is known of the other's master key, so that it counts at once.
    fn add_signatures(&mut self, user_id: &UserId, signed: &Object) {
        let Some(mut identity) = self.users.identity(user_id).cloned() else { return };
        let ours = signed.get("signatures").and_then(|all| all.get(self.user_id.as_str())).cloned();
        let all = identity.master_object.entry("signatures").or_insert_with(|| Value::Object(Object::new()));
        if let (Some(all), Some(ours)) = (all.as_object_mut(), ours) {
            all.insert(self.user_id.to_string(), ours);
        }
        self.set_identity(user_id, identity);
    }
}
