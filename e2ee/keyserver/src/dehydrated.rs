//! Dehydrated devices: one of each user, with which nobody is logged in, and which receives keys meanwhile.
//!
//! Proposal: <https://github.com/matrix-org/matrix-spec-proposals/pull/3814>

use rules::change::Position;
use ruma::{DeviceId, OwnedDeviceId, UserId};
use serde::Deserialize;
use serde_json::value::RawValue;
use storage::{DehydratedDevice, ToDeviceRecord};

use crate::{
    KeyError, KeyServer, Result,
    upload::{ReadUpload, Upload, is_another_identity},
};

/// The largest encrypted device, in bytes. One with a hundred one-time keys has some 20,000.
const DEVICE_DATA_BYTES_MAX: usize = 128 * 1024;
/// The longest id of a device, in bytes. Clients take a public key for it.
const DEVICE_ID_BYTES_MAX: usize = 255;
/// The longest name, in bytes.
const NAME_BYTES_MAX: usize = 400;

/// A device that a client leaves behind.
#[derive(Debug)]
pub struct NewDehydratedDevice {
    /// Its id.
    pub device_id: OwnedDeviceId,
    /// What brings it back to life, as its client encrypted it.
    pub device_data: Box<RawValue>,
    /// Its name.
    pub display_name: Option<String>,
    /// Its keys; the identity keys must be among them.
    pub keys: Upload,
}

/// What is read of the encrypted device: nothing but how it is encrypted.
#[derive(Deserialize)]
struct DeviceData {
    #[serde(rename = "algorithm")]
    _algorithm: String,
}

impl KeyServer {
    /// Leaves a device behind, in the place of the one before, of which nothing stays. One at a time for each user.
    pub async fn put_dehydrated_device(&self, user_id: &UserId, new: NewDehydratedDevice) -> Result<()> {
        let NewDehydratedDevice { device_id, device_data, display_name, keys } = new;
        check(&device_id, &device_data, display_name.as_deref())?;
        let keys = ReadUpload::read(keys, user_id, &device_id, None)?;
        match &keys.device_keys {
            Some(keys) if keys.is_signed => {}
            Some(_) => return Err(KeyError::InvalidSignature("The device has not signed its keys".to_owned())),
            None => return Err(KeyError::MissingParam("There are no `device_keys`".to_owned())),
        }
        self.refuse_id_of_key(user_id, &device_id).await?;
        let old = self.storage.dehydrated_device(user_id).await?.map(|old| old.device_id);
        if old.as_ref() != Some(&device_id) && self.storage.device(user_id, &device_id).await?.is_some() {
            return Err(taken());
        }
        let device = DehydratedDevice { device_id, device_data };
        if old.as_ref() == Some(&device.device_id)
            && let Some(stored) = self.storage.device_keys_of(user_id, &device.device_id).await?
            && keys.device_keys.as_ref().is_some_and(|new| !is_another_identity(&stored, new))
        {
            // The same once more, from a client that missed the answer: what was handed out stays so, and what waits
            // for the device.
            self.storage.update_dehydrated_device(user_id, &device).await?;
            return self.store_upload(user_id, &device.device_id, keys, Some(stored)).await;
        }
        if let Some(old) = old {
            self.forget_devices(user_id, &[old]).await?;
        }
        if !self.storage.create_dehydrated_device(user_id, &device, display_name.as_deref()).await? {
            return Err(taken());
        }
        self.store_upload(user_id, &device.device_id, keys, None).await
    }

    /// The device that a user left behind. One whose keys got lost, because the server was killed before they were
    /// stored, is none.
    pub async fn dehydrated_device(&self, user_id: &UserId) -> Result<DehydratedDevice> {
        let device = self.storage.dehydrated_device(user_id).await?.ok_or_else(no_device)?;
        match self.storage.device_keys_of(user_id, &device.device_id).await? {
            Some(_) => Ok(device),
            None => Err(no_device()),
        }
    }

    /// Forgets the device that a user left behind, and returns its id. One at a time for each user.
    pub async fn delete_dehydrated_device(&self, user_id: &UserId) -> Result<OwnedDeviceId> {
        let device_id = self.storage.dehydrated_device(user_id).await?.ok_or_else(no_device)?.device_id;
        self.forget_devices(user_id, std::slice::from_ref(&device_id)).await?;
        Ok(device_id)
    }

    /// Up to `limit` of the messages that wait for the device that a user left behind, with
    /// `after < position <= until`. They stay for as long as the device does: whoever brings it back to life may have to
    /// begin again.
    pub async fn dehydrated_messages(
        &self,
        user_id: &UserId,
        device_id: &DeviceId,
        after: Position,
        until: Position,
        limit: usize,
    ) -> Result<Vec<ToDeviceRecord>> {
        if !self.storage.is_dehydrated(user_id, device_id).await? {
            return Err(KeyError::Forbidden("That is not your dehydrated device".to_owned()));
        }
        Ok(self.storage.to_device(user_id, device_id, after, until, limit).await?)
    }
}

fn check(device_id: &DeviceId, device_data: &RawValue, display_name: Option<&str>) -> Result<()> {
    let device_id = device_id.as_str();
    if !(1..=DEVICE_ID_BYTES_MAX).contains(&device_id.len()) || device_id.contains('\0') {
        return Err(KeyError::InvalidParam("The device has no usable id".to_owned()));
    }
    if display_name.is_some_and(|name| name.len() > NAME_BYTES_MAX || name.contains('\0')) {
        return Err(KeyError::InvalidParam("The device has no usable name".to_owned()));
    }
    if device_data.get().len() > DEVICE_DATA_BYTES_MAX {
        return Err(KeyError::TooLarge(format!("`device_data` must not be larger than {DEVICE_DATA_BYTES_MAX} bytes")));
    }
    let read = serde_json::from_str::<DeviceData>(device_data.get());
    read.map(drop).map_err(|error| KeyError::bad_json(format!("`device_data`: {error}")))
}

fn taken() -> KeyError {
    KeyError::InvalidParam("There is another device of that id".to_owned())
}

fn no_device() -> KeyError {
    KeyError::NotFound("There is no dehydrated device".to_owned())
}
