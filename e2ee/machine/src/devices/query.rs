//! Asking for the devices of users, and checking what the server answers.

use std::collections::BTreeMap;

use ruma::api::client::keys::get_keys;
use ruma::{OwnedDeviceId, OwnedUserId, UserId};

use super::{Device, DeviceError, User};
use crate::Notice;
use crate::cross_signing::PublicIdentity;
use crate::machine::{Machine, object};
use crate::request::{Purpose, RequestBody};
use crate::signed_json::Object;
use crate::store::Table;

/// Most users in one query, so that its answer stays below what servers and clients bear.
const USERS_PER_QUERY: usize = 250;

/// How long a user is not asked for again when the user's server did not answer.
const RETRY_AFTER_MS: u64 = 5 * 60 * 1000;

/// Most devices of one user that are kept: more is abuse, and each costs a message per room key.
const DEVICES_MAX: usize = 1_000;

impl User {
    /// Whether to ask for this user now.
    fn is_due(&self, now_ms: u64) -> bool {
        self.is_outdated && self.retry_at_ms <= now_ms
    }
}

impl Machine {
    /// Asks for users that are out of date and are not being asked for.
    pub(crate) fn want_keys_query(&mut self) {
        let now = self.world.clock.now_ms();
        let asked = |user_id: &OwnedUserId| {
            self.is_pending(|purpose| matches!(purpose, Purpose::KeysQuery(users) if users.contains_key(user_id)))
        };
        let due = self.users.users.values().filter(|user| user.is_due(now) && !asked(&user.id));
        let due: Vec<_> = due.map(|user| (user.id.clone(), user.generation)).collect();
        for part in due.chunks(USERS_PER_QUERY) {
            let mut request = get_keys::v3::Request::new();
            request.device_keys = part.iter().map(|(user_id, _)| (user_id.clone(), Vec::new())).collect();
            self.ask(Purpose::KeysQuery(part.iter().cloned().collect()), RequestBody::KeysQuery(request));
        }
    }

    /// Whether a user's devices are known, or cannot be known for now because the user's server does not answer.
    pub(crate) fn is_user_settled(&self, user_id: &UserId) -> bool {
        self.users.get(user_id).is_some_and(|user| !user.is_due(self.world.clock.now_ms()))
    }

    /// Takes in an answer, for the users that were asked for and no others.
    pub(crate) fn receive_query(&mut self, asked: &BTreeMap<OwnedUserId, u64>, response: &get_keys::v3::Response) {
        for (user_id, generation) in asked {
            let has_failed = response.failures.contains_key(user_id.server_name().as_str());
            if has_failed && !response.device_keys.contains_key(user_id) {
                self.postpone(user_id);
                continue;
            }
            let identity = self.received_identity(user_id, response);
            self.take_identity(user_id, identity);
            self.take_devices(user_id, response);
            if let Some(user) = self.users.users.get_mut(user_id) {
                user.is_outdated = user.generation != *generation;
            }
            self.touch(Table::Users, user_id.as_str());
        }
    }

    /// The query failed as a whole, or for the user's server.
    pub(crate) fn postpone(&mut self, user_id: &UserId) {
        let retry_at_ms = self.world.clock.now_ms() + RETRY_AFTER_MS;
        if let Some(user) = self.users.users.get_mut(user_id) {
            user.retry_at_ms = retry_at_ms;
        }
    }

    fn take_devices(&mut self, user_id: &UserId, response: &get_keys::v3::Response) {
        let given = response.device_keys.get(user_id);
        let mut devices = BTreeMap::new();
        for (device_id, keys) in given.into_iter().flatten().take(DEVICES_MAX) {
            match object(keys).ok_or(DeviceError::Keys).and_then(|keys| self.taken_device(user_id, device_id, keys)) {
                Ok(device) => {
                    devices.insert(device_id.clone(), device);
                }
                Err(reason) => {
                    // A device with changed keys stays as it was known: the change is the server's lie or the device's.
                    if let Some(known) = self.users.device(user_id, device_id) {
                        devices.insert(device_id.clone(), known.clone());
                    }
                    let (user_id, device_id) = (user_id.to_owned(), device_id.clone());
                    self.notices.push(Notice::DeviceRefused { user_id, device_id, reason });
                }
            }
        }
        self.notice_new_devices(user_id, &devices);
        if let Some(user) = self.users.users.get_mut(user_id) {
            user.devices = devices;
        }
    }

    fn taken_device(&self, user_id: &UserId, device_id: &OwnedDeviceId, keys: Object) -> Result<Device, DeviceError> {
        let mut device = Device::checked(user_id, device_id, keys)?;
        let is_ours = user_id == self.user_id && *device_id == self.device_id;
        let own = &self.account.account;
        if is_ours && (device.curve25519 != own.curve25519_key() || device.ed25519 != own.ed25519_key()) {
            return Err(DeviceError::KeysChanged);
        }
        if let Some(known) = self.users.device(user_id, device_id) {
            if known.ed25519 != device.ed25519 || known.curve25519 != device.curve25519 {
                return Err(DeviceError::KeysChanged);
            }
            device.local_trust = known.local_trust;
        }
        Ok(device)
    }

    /// A new device of our own is what its user wants to hear of.
    fn notice_new_devices(&mut self, user_id: &UserId, devices: &BTreeMap<OwnedDeviceId, Device>) {
        if user_id != self.user_id {
            return;
        }
        for device_id in devices.keys() {
            if *device_id != self.device_id && self.users.device(user_id, device_id).is_none() {
                self.notices.push(Notice::OwnDeviceAdded { device_id: device_id.clone() });
            }
        }
    }

    fn received_identity(&self, user_id: &UserId, response: &get_keys::v3::Response) -> Option<PublicIdentity> {
        let master = object(response.master_keys.get(user_id)?)?;
        let self_signing = response.self_signing_keys.get(user_id).and_then(object);
        let user_signing = response.user_signing_keys.get(user_id).filter(|_| user_id == self.user_id).and_then(object);
        let identity = PublicIdentity::checked(user_id, master, self_signing, user_signing)?;
        // A key that is named like a device would be taken for that device's.
        let devices = response.device_keys.get(user_id);
        let names_device = identity
            .key_names()
            .any(|name| devices.is_some_and(|devices| devices.keys().any(|id| id.as_str() == name)));
        (!names_device).then_some(identity)
    }

    fn take_identity(&mut self, user_id: &UserId, identity: Option<PublicIdentity>) {
        // An answer without an identity takes none away: servers have no way to say that there is none any more.
        let Some(identity) = identity else { return };
        // While our new keys are on their way, the server still shows the old ones.
        if user_id == self.user_id && self.is_pending(|purpose| matches!(purpose, Purpose::SigningKeysUpload)) {
            return;
        }
        let known = self.users.identity(user_id);
        let has_changed = known.is_some_and(|known| known.master != identity.master);
        let was_verified = has_changed && self.is_identity_verified(user_id);
        if let Some(user) = self.users.users.get_mut(user_id) {
            user.identity = Some(identity);
        }
        if has_changed {
            self.notices.push(Notice::IdentityChanged { user_id: user_id.to_owned(), was_verified });
        }
    }
}
