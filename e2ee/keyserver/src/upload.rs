//! `POST /keys/upload`: a device tells its keys.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keysupload>

use std::collections::BTreeMap;

use rules::Change;
use ruma::{DeviceId, OwnedServerName, UserId};
use serde_json::value::RawValue;
use storage::{DeviceKeysRecord, KeyCounts, NewOneTimeKey, OneTimeKeysUpload};

use crate::{
    KeyError, KeyServer, Result,
    device_keys::{DeviceKeys, curve25519_of, ed25519_of, one_time_key},
};

/// How many one-time keys of a device wait to be claimed. Clients keep fifty to a hundred.
const ONE_TIME_KEYS_MAX: usize = 1_000;

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

impl KeyServer {
    /// Takes the keys of a device, all or none, and says what it has then.
    pub async fn upload(&self, user_id: &UserId, device_id: &DeviceId, upload: Upload) -> Result<KeyCounts> {
        let stored = self.storage.device_keys_of(user_id, device_id).await?;
        let new = upload.device_keys.map(|keys| DeviceKeys::read(&keys, user_id, device_id)).transpose()?;
        let of_stored = stored.as_ref().and_then(|stored| ed25519_of(&stored.keys, device_id.as_str()));
        let ed25519 = new.as_ref().map(|new| new.ed25519.clone()).or(of_stored);
        let read = |keys: BTreeMap<String, Box<RawValue>>| {
            let keys = keys.into_iter();
            let keys = keys.map(|(name, key)| one_time_key(&name, &key, user_id, device_id, ed25519.as_deref()));
            keys.collect::<Result<Vec<NewOneTimeKey>>>()
        };
        let (one_time_keys, fallback_keys) = (read(upload.one_time_keys)?, read(upload.fallback_keys)?);
        if let (Some(stored), Some(new)) = (&stored, &new)
            && is_another_identity(stored, new)
        {
            self.storage.forget_device_identity(user_id, device_id).await?;
        }
        self.add_one_time_keys(user_id, device_id, &one_time_keys, &fallback_keys).await?;
        if let Some(new) = new
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
        Ok(self.storage.key_counts(user_id, device_id).await?)
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
            OneTimeKeysUpload::TooMany => {
                Err(KeyError::TooLarge(format!("A device may have {ONE_TIME_KEYS_MAX} one-time keys")))
            }
        }
    }

    /// Says that a device of a local user, or what is known of it, changed.
    pub async fn device_changed(&self, user_id: &UserId, device_id: &DeviceId) -> Result<()> {
        let change = self.device_list_change(user_id, device_id).await?;
        self.commit(vec![change]).await
    }

    /// Takes the keys of devices away, and what waits for them. To be called before the devices go.
    pub async fn forget_devices(&self, user_id: &UserId, device_ids: &[&DeviceId]) -> Result<()> {
        let users = [user_id.to_owned()];
        let with_keys = self.storage.device_keys(&users).await?;
        let mut changes = Vec::new();
        for record in with_keys.into_iter().filter(|record| device_ids.contains(&&*record.device_id)) {
            changes.push(self.device_list_change(user_id, &record.device_id).await?);
            changes.push(Change::DeviceKeys {
                user_id: record.user_id,
                device_id: record.device_id,
                keys: None,
                display_name: None,
            });
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

fn is_another_identity(stored: &DeviceKeysRecord, new: &DeviceKeys) -> bool {
    let device_id = stored.device_id.as_str();
    ed25519_of(&stored.keys, device_id).as_ref() != Some(&new.ed25519)
        || curve25519_of(&stored.keys, device_id) != new.curve25519
}
