//! The devices of other servers' users, as far as users of ours want to know: what their servers tell of changes (in
//! `updates`), and what they answer when something was missed.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#device-management>

mod updates;

use std::collections::BTreeMap;

use rules::{Change, change::Position};
use ruma::{OwnedDeviceId, OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use storage::RemoteDeviceList;

pub use self::updates::{DeviceListUpdateContent, SigningKeyUpdateContent, UpdateOutcome};
use crate::{
    KeyServer, Result,
    cross_signing::{public_part_of, read_key},
    device_keys::DeviceKeys,
    query::{QueriedKeys, Viewer},
    verify::{is_signed_by, raw},
};

/// How many devices of one user are kept.
const DEVICES_MAX: usize = 1_000;
/// How long the name of a device may be, in bytes; longer ones are left out.
const NAME_BYTES_MAX: usize = 400;
/// The longest id of a device, in bytes.
const DEVICE_ID_BYTES_MAX: usize = 255;
/// The first wait before a device list is asked for again, in milliseconds; it doubles each time.
const RETRY_BASE_MS: u64 = 10_000;
/// The longest wait.
const RETRY_MAX_MS: u64 = 3_600_000;

/// All devices of a user, as `GET /user/devices/{userId}` has them.
#[derive(Debug, Deserialize, Serialize)]
pub struct RemoteDevices {
    /// Whose.
    pub user_id: OwnedUserId,
    /// The number of the last update that is in it.
    pub stream_id: i64,
    /// The devices.
    #[serde(default, deserialize_with = "ruma::serde::none_as_default")]
    pub devices: Vec<RemoteDevice>,
    /// The master key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master_key: Option<Box<RawValue>>,
    /// The self-signing key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_signing_key: Option<Box<RawValue>>,
}

impl RemoteDevices {
    /// In the place of the number where it is not known: then the next update is taken for a gap.
    pub const NO_STREAM_ID: i64 = -1;
}

/// The moment from which on an answer tells everything.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    /// The head of our log.
    position: Position,
    /// The last update that we had heard of.
    stream_id: i64,
}

/// A device of a user.
#[derive(Debug, Deserialize, Serialize)]
pub struct RemoteDevice {
    /// Its id.
    pub device_id: OwnedDeviceId,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_display_name: Option<String>,
    /// Its keys.
    pub keys: Box<RawValue>,
}

impl KeyServer {
    /// All devices of a local user that have keys, for another server.
    pub async fn devices_for_servers(&self, user_id: &UserId, names: bool) -> Result<RemoteDevices> {
        // Read first: what changes meanwhile is told of again.
        let stream_id = self.storage.device_list_position(user_id).await?;
        let asked = [(user_id.to_owned(), Vec::new())].into();
        let QueriedKeys { mut device_keys, mut master_keys, mut self_signing_keys, .. } =
            self.query(&asked, Viewer::Server { names }).await?;
        let known = self.storage.devices(user_id).await?;
        let name = |device_id: &OwnedDeviceId| {
            let device = known.iter().find(|device| device.device_id == *device_id).filter(|_| names);
            device.and_then(|device| device.display_name.clone())
        };
        let devices = device_keys.remove(user_id).unwrap_or_default().into_iter();
        let devices =
            devices.map(|(device_id, keys)| RemoteDevice { device_display_name: name(&device_id), device_id, keys });
        Ok(RemoteDevices {
            user_id: user_id.to_owned(),
            stream_id,
            devices: devices.collect(),
            master_key: master_keys.remove(user_id),
            self_signing_key: self_signing_keys.remove(user_id),
        })
    }

    /// To be called before a user's server is asked for all devices.
    pub async fn begin_asking(&self, user_id: &UserId) -> Result<Begun> {
        let position = self.storage.head();
        let known = self.known_list(user_id).await?;
        Ok(Begun { position, stream_id: known.map_or(RemoteDevices::NO_STREAM_ID, |known| known.stream_id) })
    }

    /// Takes all devices of a user that the user's server has answered with. When it told of later changes meanwhile,
    /// it is to be asked again. One at a time for each user.
    pub async fn store_remote_devices(&self, user_id: &UserId, answer: RemoteDevices, begun: Begun) -> Result<()> {
        // An answer to another question came first, and with the number of an update: from there on we hear of all.
        if answer.stream_id == RemoteDevices::NO_STREAM_ID && self.is_complete(user_id).await? {
            return Ok(());
        }
        let known = self.known_list(user_id).await?;
        let before = self.storage.device_keys(&[user_id.to_owned()]).await?;
        let mut changes = Vec::new();
        let mut kept = Vec::new();
        for device in answer.devices.into_iter().take(DEVICES_MAX) {
            let RemoteDevice { device_id, device_display_name, keys } = device;
            let Ok(keys) = DeviceKeys::read(&keys, user_id, &device_id) else { continue };
            if device_id.as_str().len() > DEVICE_ID_BYTES_MAX {
                continue;
            }
            kept.push(device_id.clone());
            let display_name = name(device_display_name);
            let is_same = |known: &storage::DeviceKeysRecord| {
                known.device_id == device_id
                    && known.keys.get() == keys.json.get()
                    && known.display_name == display_name
            };
            if !before.iter().any(is_same) {
                let keys = Some(keys.json);
                changes.push(Change::DeviceKeys { user_id: user_id.to_owned(), device_id, keys, display_name });
            }
        }
        for gone in before.into_iter().filter(|known| !kept.contains(&known.device_id)) {
            let (device_id, keys, display_name) = (gone.device_id, None, None);
            changes.push(Change::DeviceKeys { user_id: user_id.to_owned(), device_id, keys, display_name });
        }
        changes.extend(cross_signing_changes(user_id, answer.master_key, answer.self_signing_key));
        if known.as_ref().is_some_and(|known| known.stale) {
            changes.push(remote_change(user_id));
        }
        self.commit(changes).await?;
        let heard = known.as_ref().map_or(RemoteDevices::NO_STREAM_ID, |known| known.stream_id);
        let stale = heard > begun.stream_id && answer.stream_id < heard;
        let known = RemoteDeviceList {
            user_id: user_id.to_owned(),
            stream_id: if stale { heard } else { answer.stream_id },
            position: begun.position,
            stale,
            failures: 0,
            retry_at_ts: 0,
        };
        self.storage.save_remote_device_list(&known).await?;
        if stale {
            self.asking_failed(user_id).await?;
        }
        Ok(())
    }

    /// Whether what is stored of another server's user is all that there is to know.
    pub async fn is_complete(&self, user_id: &UserId) -> Result<bool> {
        match self.known_list(user_id).await? {
            Some(known) if !known.stale => Ok(self.storage.is_followed_since(user_id, known.position).await?),
            _ => Ok(false),
        }
    }

    /// Users of other servers whose devices are to be asked for again by now.
    pub async fn lists_to_ask_for(&self, limit: usize) -> Result<Vec<OwnedUserId>> {
        let stale = self.storage.stale_device_lists(self.world.clock.now_ms(), limit).await?;
        Ok(stale.into_iter().map(|known| known.user_id).collect())
    }

    /// A user's server did not answer when asked for all devices: that is tried again, less and less often.
    pub async fn asking_failed(&self, user_id: &UserId) -> Result<()> {
        let Some(mut known) = self.known_list(user_id).await? else { return Ok(()) };
        let wait_ms = RETRY_BASE_MS.saturating_mul(1_u64.checked_shl(known.failures).unwrap_or(u64::MAX));
        known.failures = known.failures.saturating_add(1);
        known.retry_at_ts = self.world.clock.now_ms().saturating_add(wait_ms.min(RETRY_MAX_MS));
        Ok(self.storage.save_remote_device_list(&known).await?)
    }

    async fn known_list(&self, user_id: &UserId) -> Result<Option<RemoteDeviceList>> {
        Ok(self.storage.remote_device_lists(&[user_id.to_owned()]).await?.pop())
    }

    /// The keys out of an answer, as far as they are what they must be, of a user of whom nothing is stored.
    pub fn check_remote_devices(&self, user_id: &UserId, answer: RemoteDevices) -> QueriedKeys {
        let mut found = QueriedKeys::default();
        let mut devices = BTreeMap::new();
        for device in answer.devices.into_iter().take(DEVICES_MAX) {
            let Ok(keys) = DeviceKeys::read(&device.keys, user_id, &device.device_id) else { continue };
            let name = name(device.device_display_name);
            let keys = rules::keys::shown_of_device(&keys.json, [], name.as_deref());
            devices.extend(keys.map(|keys| (device.device_id, keys)));
        }
        if !devices.is_empty() {
            found.device_keys.insert(user_id.to_owned(), devices);
        }
        for change in cross_signing_changes(user_id, answer.master_key, answer.self_signing_key) {
            if let Change::CrossSigningKey { user_id, usage, key: Some(key) } = change {
                let keys = if usage == "master" { &mut found.master_keys } else { &mut found.self_signing_keys };
                keys.insert(user_id, key);
            }
        }
        found
    }
}

/// That something of another server's user changed, for our users.
fn remote_change(user_id: &UserId) -> Change {
    Change::DeviceList { user_id: user_id.to_owned(), device_id: None, viewer: None, servers: Vec::new() }
}

/// The master key, if it is one, and the self-signing key, if the master key has signed it.
fn cross_signing_changes(
    user_id: &UserId,
    master: Option<Box<RawValue>>,
    self_signing: Option<Box<RawValue>>,
) -> Vec<Change> {
    let mut changes = Vec::new();
    let Some(master) = master.and_then(|master| read_key(&master, user_id, "master").ok()) else { return changes };
    let public = public_part_of(&master).unwrap_or_default();
    let self_signing = self_signing.and_then(|key| read_key(&key, user_id, "self_signing").ok());
    let self_signing = self_signing.filter(|key| is_signed_by(key, user_id, &format!("ed25519:{public}"), &public));
    for (usage, key) in [("master", Some(master)), ("self_signing", self_signing)] {
        let key = key.and_then(|key| raw(&key).ok());
        changes.push(Change::CrossSigningKey { user_id: user_id.to_owned(), usage: usage.to_owned(), key });
    }
    changes
}

/// A name as it is shown; anything unfit is no name.
fn name(name: Option<String>) -> Option<String> {
    name.filter(|name| (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.contains('\0'))
}
