//! What other servers tell of changes of their users' devices and cross-signing keys.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#definition-mdevice_list_update>,
//! <https://spec.matrix.org/v1.19/server-server-api/#definition-msigning_key_update>

use rules::Change;
use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{DEVICE_ID_BYTES_MAX, DEVICES_MAX, cross_signing_changes, name, remote_change};
use crate::{KeyServer, Result, device_keys::DeviceKeys, verify::raw};

/// The content of `m.device_list_update`.
#[derive(Debug, Deserialize)]
pub struct DeviceListUpdateContent {
    /// Whose device.
    pub user_id: OwnedUserId,
    /// Which.
    pub device_id: OwnedDeviceId,
    /// Its name.
    #[serde(default)]
    pub device_display_name: Option<String>,
    /// The number of this update.
    pub stream_id: i64,
    /// The numbers of those before it.
    #[serde(default, deserialize_with = "ruma::serde::none_as_default")]
    pub prev_id: Vec<i64>,
    /// Whether the device is gone.
    #[serde(default)]
    pub deleted: Option<bool>,
    /// Its keys.
    #[serde(default)]
    pub keys: Option<Box<RawValue>>,
}

/// The content of `m.signing_key_update`.
#[derive(Debug, Deserialize)]
pub struct SigningKeyUpdateContent {
    /// Whose keys.
    pub user_id: OwnedUserId,
    /// The master key.
    #[serde(default)]
    pub master_key: Option<Box<RawValue>>,
    /// The self-signing key.
    #[serde(default)]
    pub self_signing_key: Option<Box<RawValue>>,
}

/// What became of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateOutcome {
    /// Nobody here wants to know, or it was known.
    Dropped,
    /// It is taken in.
    Taken,
    /// Something was missed: all devices must be asked for.
    Gap,
}

impl KeyServer {
    /// Takes an update of a device of another server's user. That it comes from that server was checked. One at a time
    /// for each user.
    pub async fn receive_device_list_update(&self, update: DeviceListUpdateContent) -> Result<UpdateOutcome> {
        let user_id = update.user_id.clone();
        if update.stream_id < 0 || self.storage.rooms_with(&user_id).await?.is_empty() {
            return Ok(UpdateOutcome::Dropped);
        }
        let change = self.change_by(&update).await?;
        let Some(mut known) = self.known_list(&user_id).await? else {
            // Nobody has asked, or the server did not answer: then there may be more to be had now.
            if change.is_none() {
                return Ok(UpdateOutcome::Dropped);
            }
            self.commit(vec![remote_change(&user_id)]).await?;
            return Ok(UpdateOutcome::Taken);
        };
        let is_older = update.stream_id <= known.stream_id;
        if !known.stale && is_older && change.is_none() {
            return Ok(UpdateOutcome::Dropped);
        }
        // Dendrite counts back when a device goes.
        let follows = !is_older
            && update.prev_id.contains(&known.stream_id)
            && update.prev_id.iter().all(|previous| *previous <= known.stream_id);
        if known.stale || !follows {
            known.stream_id = known.stream_id.max(update.stream_id);
            if !known.stale {
                (known.stale, known.failures, known.retry_at_ts) = (true, 0, 0);
            }
            self.storage.save_remote_device_list(&known).await?;
            self.commit(vec![remote_change(&user_id)]).await?;
            return Ok(UpdateOutcome::Gap);
        }
        known.stream_id = update.stream_id;
        let is_fit = update.device_id.as_str().len() <= DEVICE_ID_BYTES_MAX;
        if let Some(change) = change
            && is_fit
            && self.has_place(&user_id, &update.device_id).await?
        {
            self.commit(vec![change, remote_change(&user_id)]).await?;
        }
        // Were this lost in a crash, the update would come again.
        self.storage.save_remote_device_list(&known).await?;
        Ok(UpdateOutcome::Taken)
    }

    /// What an update changes of what is stored of the device; `None` when it says what is known. A device without keys
    /// is as good as none: servers tell of such ones, too, to those who meet their owner for the first time.
    async fn change_by(&self, update: &DeviceListUpdateContent) -> Result<Option<Change>> {
        let (user_id, device_id) = (update.user_id.clone(), update.device_id.clone());
        let keys = update.keys.as_ref().filter(|_| update.deleted != Some(true));
        let keys = keys.and_then(|keys| DeviceKeys::read(keys, &user_id, &device_id).ok()).map(|keys| keys.json);
        let display_name = name(update.device_display_name.clone());
        let is_known = match (&keys, self.storage.device_keys_of(&user_id, &device_id).await?) {
            (None, None) => true,
            (Some(new), Some(stored)) => stored.keys.get() == new.get() && stored.display_name == display_name,
            _ => false,
        };
        Ok((!is_known).then_some(Change::DeviceKeys { user_id, device_id, keys, display_name }))
    }

    /// Whether one more device of a user may be kept, if it is none of those that are.
    async fn has_place(&self, user_id: &UserId, device_id: &DeviceId) -> Result<bool> {
        Ok(self.storage.device_keys_of(user_id, device_id).await?.is_some()
            || self.storage.device_keys(&[user_id.to_owned()]).await?.len() < DEVICES_MAX)
    }

    /// Takes new cross-signing keys of another server's user. One at a time for each user.
    pub async fn receive_signing_key_update(&self, update: SigningKeyUpdateContent) -> Result<UpdateOutcome> {
        let user_id = update.user_id.clone();
        if self.storage.rooms_with(&user_id).await?.is_empty() {
            return Ok(UpdateOutcome::Dropped);
        }
        let mut changes = vec![remote_change(&user_id)];
        if self.known_list(&user_id).await?.is_some_and(|known| !known.stale) {
            // Of what it does not speak, nothing changed; but what another master key has signed is worth nothing.
            let stored = self.stored_cross_signing(&user_id).await?;
            let stored = |usage: &str| stored.get(usage).and_then(|key| raw(key).ok());
            let master = update.master_key.or_else(|| stored("master"));
            let self_signing = update.self_signing_key.or_else(|| stored("self_signing"));
            changes.extend(cross_signing_changes(&user_id, master, self_signing));
        }
        self.commit(changes).await?;
        Ok(UpdateOutcome::Taken)
    }
}
