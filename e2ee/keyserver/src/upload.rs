//! `POST /keys/upload`: a device tells its keys.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keysupload>

use std::collections::BTreeMap;

use rules::{Change, change::Position};
use ruma::{DeviceId, OwnedDeviceId, OwnedServerName, UserId};
use serde_json::value::RawValue;
use storage::{DeviceKeysRecord, KeyCounts, NewOneTimeKey, OneTimeKeysUpload};

use crate::{
    KeyError, KeyServer, Result,
    cross_signing::public_part_of,
    device_keys::{DeviceKeys, curve25519_of, ed25519_of, one_time_key},
};

/// How many one-time keys of a device wait to be claimed. Clients keep fifty to a hundred.
const ONE_TIME_KEYS_MAX: usize = 1_000;

/// How many devices of a user a server is told of that is new to them: by the first it learns that there are devices to
/// ask for, and the room may have thousands of servers.
const DEVICES_INTRODUCED_MAX: usize = 10;

/// What a device uploads. The keys are by algorithm and id, with a colon between.
#[derive(Debug, Default)]
pub struct Upload {
    /// Its identity keys, if they are new.
    pub device_keys: Option<Box<RawValue>>,
    /// Keys to be handed out once each.
    pub one_time_keys: BTreeMap<String, Box<RawValue>>,
    /// Keys to be handed out when there are no others.
    pub fallback_keys: BTreeMap<String, Box<RawValue>>,
}

/// Keys that are what they must be.
#[expect(clippy::struct_field_names, reason = "the specification's words")]
pub(crate) struct ReadUpload {
    pub(crate) device_keys: Option<DeviceKeys>,
    one_time_keys: Vec<NewOneTimeKey>,
    fallback_keys: Vec<NewOneTimeKey>,
}

impl ReadUpload {
    /// Reads keys of a device, of which these identity keys are stored so far.
    pub(crate) fn read(
        upload: Upload,
        user_id: &UserId,
        device_id: &DeviceId,
        stored: Option<&DeviceKeysRecord>,
    ) -> Result<Self> {
        let device_keys = upload.device_keys.map(|keys| DeviceKeys::read(&keys, user_id, device_id)).transpose()?;
        let of_stored = stored.and_then(|stored| ed25519_of(&stored.keys, device_id.as_str()));
        let ed25519 = device_keys.as_ref().map(|new| new.ed25519.clone()).or(of_stored);
        let read = |keys: BTreeMap<String, Box<RawValue>>| {
            let keys = keys.into_iter();
            let keys = keys.map(|(name, key)| one_time_key(&name, &key, user_id, device_id, ed25519.as_deref()));
            keys.collect::<Result<Vec<NewOneTimeKey>>>()
        };
        if upload.one_time_keys.len() > ONE_TIME_KEYS_MAX {
            return Err(too_many());
        }
        let (one_time_keys, fallback_keys) = (read(upload.one_time_keys)?, read(upload.fallback_keys)?);
        Ok(Self { device_keys, one_time_keys, fallback_keys })
    }
}

impl KeyServer {
    /// Takes the keys of a device, all or none, and says what it has then.
    pub async fn upload(&self, user_id: &UserId, device_id: &DeviceId, upload: Upload) -> Result<KeyCounts> {
        let stored = self.storage.device_keys_of(user_id, device_id).await?;
        let read = ReadUpload::read(upload, user_id, device_id, stored.as_ref())?;
        if read.device_keys.is_some() {
            self.refuse_id_of_key(user_id, device_id).await?;
        }
        self.store_upload(user_id, device_id, read, stored).await?;
        Ok(self.storage.key_counts(user_id, device_id).await?)
    }

    /// Stores what was read; `stored` are the identity keys that the device has so far.
    pub(crate) async fn store_upload(
        &self,
        user_id: &UserId,
        device_id: &DeviceId,
        read: ReadUpload,
        stored: Option<DeviceKeysRecord>,
    ) -> Result<()> {
        if let (Some(stored), Some(new)) = (&stored, &read.device_keys)
            && is_another_identity(stored, new)
        {
            self.storage.forget_device_identity(user_id, device_id).await?;
        }
        self.add_one_time_keys(user_id, device_id, &read.one_time_keys, &read.fallback_keys).await?;
        if let Some(new) = read.device_keys
            && stored.is_none_or(|stored| stored.keys.get() != new.json.get())
        {
            let mut changes = vec![Change::DeviceKeys {
                user_id: user_id.to_owned(),
                device_id: device_id.to_owned(),
                keys: Some(new.json),
                display_name: None,
            }];
            changes.push(self.device_list_change(user_id, device_id).await?);
            self.commit(changes).await?;
        }
        Ok(())
    }

    /// Devices and cross-signing keys are named in one space: a device must not pass for a key.
    pub(crate) async fn refuse_id_of_key(&self, user_id: &UserId, device_id: &DeviceId) -> Result<()> {
        let keys = self.stored_cross_signing(user_id).await?;
        if keys.values().any(|key| public_part_of(key).as_deref() == Some(device_id.as_str())) {
            return Err(KeyError::Forbidden("The device has the id of a cross-signing key".to_owned()));
        }
        Ok(())
    }

    async fn add_one_time_keys(
        &self,
        user_id: &UserId,
        device_id: &DeviceId,
        one_time_keys: &[NewOneTimeKey],
        fallback_keys: &[NewOneTimeKey],
    ) -> Result<()> {
        let storage = &self.storage;
        match storage.add_one_time_keys(user_id, device_id, one_time_keys, fallback_keys, ONE_TIME_KEYS_MAX).await? {
            OneTimeKeysUpload::Stored => Ok(()),
            OneTimeKeysUpload::NoDevice => Err(KeyError::NotFound("No such device".to_owned())),
            OneTimeKeysUpload::Conflict(name) => {
                Err(KeyError::InvalidParam(format!("Another one-time key {name} is stored already")))
            }
            OneTimeKeysUpload::TooMany => Err(too_many()),
        }
    }

    /// Says that a device of a local user, or what is known of it, changed.
    pub async fn device_changed(&self, user_id: &UserId, device_id: &DeviceId) -> Result<()> {
        let change = self.device_list_change(user_id, device_id).await?;
        self.commit(vec![change]).await
    }

    /// Makes the devices of a local user known to servers which had no part in them so far. Nothing has changed: nobody
    /// of ours is told.
    pub async fn introduce_devices(&self, user_id: &UserId, servers: &[OwnedServerName]) -> Result<()> {
        if servers.is_empty() {
            return Ok(());
        }
        let mut devices = self.storage.devices(user_id).await?;
        devices.sort_by(|one, other| one.device_id.cmp(&other.device_id));
        self.commit(told_to(user_id, devices.into_iter().map(|device| device.device_id), servers)).await
    }

    /// The changes by which that is done late: only of devices with keys, since the others are nothing to them.
    pub async fn late_introduction(&self, user_id: &UserId, servers: &[OwnedServerName]) -> Result<Vec<Change>> {
        if servers.is_empty() {
            return Ok(Vec::new());
        }
        let with_keys = self.storage.device_keys(&[user_id.to_owned()]).await?;
        Ok(told_to(user_id, with_keys.into_iter().map(|device| device.device_id), servers))
    }

    /// The changes by which servers are told of what came, changed or went among a local user's devices after a position,
    /// when nobody knew yet that they were to be told.
    pub async fn missed_changes(
        &self,
        user_id: &UserId,
        since: Position,
        servers: &[OwnedServerName],
    ) -> Result<Vec<Change>> {
        if servers.is_empty() {
            return Ok(Vec::new());
        }
        let changed = self.storage.devices_changed_since(user_id, since).await?;
        Ok(told_to(user_id, changed.into_iter(), servers))
    }

    /// Forgets devices of a local user, with their tokens. Unknown ones are ignored. Who follows the user hears of those
    /// that had keys.
    pub async fn forget_devices(&self, user_id: &UserId, device_ids: &[OwnedDeviceId]) -> Result<()> {
        let with_keys = self.storage.device_keys(&[user_id.to_owned()]).await?;
        let mut changes = Vec::new();
        for device_id in device_ids {
            if with_keys.iter().any(|record| record.device_id == *device_id) {
                changes.push(self.device_list_change(user_id, device_id).await?);
            }
            changes.push(Change::LogOut { user_id: user_id.to_owned(), device_id: device_id.clone() });
        }
        self.commit(changes).await
    }

    pub(crate) async fn device_list_change(&self, user_id: &UserId, device_id: &DeviceId) -> Result<Change> {
        Ok(Change::DeviceList {
            user_id: user_id.to_owned(),
            device_id: Some(device_id.to_owned()),
            viewer: None,
            servers: self.servers_following(user_id).await?,
        })
    }

    /// The other servers that are to hear of changes of a user's devices.
    pub(crate) async fn servers_following(&self, user_id: &UserId) -> Result<Vec<OwnedServerName>> {
        Ok(self.storage.servers_sharing_rooms(user_id).await?)
    }
}

fn too_many() -> KeyError {
    KeyError::TooLarge(format!("A device may have {ONE_TIME_KEYS_MAX} one-time keys"))
}

pub(crate) fn is_another_identity(stored: &DeviceKeysRecord, new: &DeviceKeys) -> bool {
    let device_id = stored.device_id.as_str();
    ed25519_of(&stored.keys, device_id).as_ref() != Some(&new.ed25519)
        || curve25519_of(&stored.keys, device_id) != new.curve25519
}

/// Tells servers, and none of our users, of some devices.
fn told_to(user_id: &UserId, devices: impl Iterator<Item = OwnedDeviceId>, servers: &[OwnedServerName]) -> Vec<Change> {
    let change = |device_id| Change::DeviceList {
        user_id: user_id.to_owned(),
        device_id: Some(device_id),
        viewer: Some(user_id.to_owned()),
        servers: servers.to_vec(),
    };
    devices.take(DEVICES_INTRODUCED_MAX).map(change).collect()
}
