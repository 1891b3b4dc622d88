//! The devices of users, as their servers tell and their signatures prove.
//! <https://spec.matrix.org/v1.19/client-server-api/#tracking-the-device-list-for-a-user>

mod query;

use std::collections::BTreeMap;

use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use vodozemac::{Curve25519PublicKey, Ed25519PublicKey};

use crate::account::{MEGOLM, OLM};
use crate::cross_signing::PublicIdentity;
use crate::machine::Machine;
use crate::signed_json::{self, Object};
use crate::store::{Held, Table};

/// What this user decided about a device, whatever signatures say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LocalTrust {
    /// Nothing.
    #[default]
    Unset,
    /// Its keys were compared.
    Verified,
    /// It gets no keys.
    Blacklisted,
}

/// A device whose keys are signed by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Whose it is.
    pub user_id: OwnedUserId,
    /// Its id.
    pub device_id: OwnedDeviceId,
    /// The algorithms that it says it has.
    pub algorithms: Vec<String>,
    /// What messages are encrypted for.
    pub curve25519: Curve25519PublicKey,
    /// What it signs with.
    pub ed25519: Ed25519PublicKey,
    /// What was decided about it here.
    pub local_trust: LocalTrust,
    /// The object that it signed, with all signatures.
    pub(crate) object: Object,
}

/// Why the keys of a device were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The object names another user or device than the place where it stood.
    #[error("the keys are of another user or device")]
    OtherDevice,
    /// A key is missing or is none.
    #[error("an identity key is missing or malformed")]
    Keys,
    /// The device's own signature is missing or wrong.
    #[error("the device has not signed its keys")]
    Signature,
    /// A device of this id had other keys.
    #[error("the identity keys of the device changed")]
    KeysChanged,
}

impl Device {
    /// Checks the keys that a server gives for a device.
    pub(crate) fn checked(user_id: &UserId, device_id: &DeviceId, object: Object) -> Result<Self, DeviceError> {
        let field = |name| signed_json::text(&object, name);
        if field("user_id") != Some(user_id.as_str()) || field("device_id") != Some(device_id.as_str()) {
            return Err(DeviceError::OtherDevice);
        }
        let key =
            |kind: &str| signed_json::text_in(&object, "keys", &format!("{kind}:{device_id}")).ok_or(DeviceError::Keys);
        let curve25519 = Curve25519PublicKey::from_base64(key("curve25519")?).map_err(|_| DeviceError::Keys)?;
        let ed25519 = Ed25519PublicKey::from_base64(key("ed25519")?).map_err(|_| DeviceError::Keys)?;
        if !signed_json::is_signed(&object, user_id, &format!("ed25519:{device_id}"), &ed25519) {
            return Err(DeviceError::Signature);
        }
        let algorithms = object.get("algorithms").and_then(serde_json::Value::as_array);
        let algorithms =
            algorithms.into_iter().flatten().filter_map(serde_json::Value::as_str).map(str::to_owned).collect();
        let (user_id, device_id) = (user_id.to_owned(), device_id.to_owned());
        Ok(Self { user_id, device_id, algorithms, curve25519, ed25519, local_trust: LocalTrust::Unset, object })
    }

    /// Whether it can take part in encrypted rooms as we do.
    pub(crate) fn can_megolm(&self) -> bool {
        let has = |algorithm: &str| self.algorithms.iter().any(|known| known == algorithm);
        has(OLM) && has(MEGOLM)
    }
}

/// What is known of one user.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) id: OwnedUserId,
    /// Whether what follows may be out of date.
    pub(crate) is_outdated: bool,
    /// How often it went out of date: tells whether it did again while a query was under way.
    #[serde(skip)]
    pub(crate) generation: u64,
    /// After a failure, when to ask again.
    #[serde(skip)]
    pub(crate) retry_at_ms: u64,
    pub(crate) devices: BTreeMap<OwnedDeviceId, Device>,
    pub(crate) identity: Option<PublicIdentity>,
}

/// The users whose devices we follow.
#[derive(Default)]
pub(crate) struct Users {
    users: BTreeMap<OwnedUserId, User>,
}

impl Users {
    pub(crate) fn record(&self, key: &str) -> Option<&User> {
        self.users.get(<&UserId>::try_from(key).ok()?)
    }

    pub(crate) fn load(&mut self, user: User) {
        self.users.insert(user.id.clone(), user);
    }

    pub(crate) fn get(&self, user_id: &UserId) -> Option<&User> {
        self.users.get(user_id)
    }

    pub(crate) fn device(&self, user_id: &UserId, device_id: &DeviceId) -> Option<&Device> {
        self.users.get(user_id)?.devices.get(device_id)
    }

    pub(crate) fn devices(&self, user_id: &UserId) -> impl Iterator<Item = &Device> {
        self.users.get(user_id).into_iter().flat_map(|user| user.devices.values())
    }

    /// The device of a user that has this Curve25519 key.
    pub(crate) fn device_with_key(&self, user_id: &UserId, key: Curve25519PublicKey) -> Option<&Device> {
        self.devices(user_id).find(|device| device.curve25519 == key)
    }

    pub(crate) fn identity(&self, user_id: &UserId) -> Option<&PublicIdentity> {
        self.users.get(user_id)?.identity.as_ref()
    }
}

impl Machine {
    /// The known devices of a user.
    pub fn devices(&self, user_id: &UserId) -> Vec<Device> {
        self.users.devices(user_id).cloned().collect()
    }

    /// One known device.
    pub fn device(&self, user_id: &UserId, device_id: &DeviceId) -> Option<&Device> {
        self.users.device(user_id, device_id)
    }

    /// Follows a user's devices from now on, as is done for those who are to read something: to know them before that.
    pub fn follow(&mut self, user_id: &UserId) -> Held<()> {
        self.track(&user_id.to_owned());
        self.hold(())
    }

    /// Begins to follow a user's devices. Nothing happens for one that is followed already.
    pub(crate) fn track(&mut self, user_id: &OwnedUserId) {
        if self.users.users.contains_key(user_id) {
            return;
        }
        let user = User {
            id: user_id.clone(),
            is_outdated: true,
            generation: 0,
            retry_at_ms: 0,
            devices: BTreeMap::new(),
            identity: None,
        };
        self.users.users.insert(user_id.clone(), user);
        self.touch(Table::Users, user_id.as_str());
    }

    /// A user's devices changed, as the sync says.
    pub(crate) fn mark_outdated(&mut self, user_id: &UserId) {
        if let Some(user) = self.users.users.get_mut(user_id) {
            user.is_outdated = true;
            user.generation += 1;
            user.retry_at_ms = 0;
            self.touch(Table::Users, user_id.as_str());
        }
    }

    /// We share no encrypted room with a user any more: nobody tells us of changes, so that what we know is worthless
    /// until we ask again. What was decided about the devices, and the identity, stay known.
    pub(crate) fn mark_left(&mut self, user_id: &UserId) {
        if user_id != self.user_id {
            self.mark_outdated(user_id);
        }
    }

    pub(crate) fn set_identity(&mut self, user_id: &UserId, identity: PublicIdentity) {
        if let Some(user) = self.users.users.get_mut(user_id) {
            user.identity = Some(identity);
            self.touch(Table::Users, user_id.as_str());
        }
    }

    /// Decides about a device.
    pub(crate) fn set_trust(&mut self, user_id: &UserId, device_id: &DeviceId, trust: LocalTrust) -> bool {
        let device = self.users.users.get_mut(user_id).and_then(|user| user.devices.get_mut(device_id));
        let Some(device) = device else { return false };
        device.local_trust = trust;
        self.touch(Table::Users, user_id.as_str());
        true
    }
}
