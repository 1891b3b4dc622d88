//! The devices of a user.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#device-management>

use ruma::{DeviceId, OwnedDeviceId, UserId};
use storage::Device;

use super::refuse_nul;
use crate::{Engine, EngineError, Result};

/// The longest name of a device, in characters.
const DISPLAY_NAME_CHARACTERS_MAX: usize = 100;

impl Engine {
    /// All devices of a user.
    pub async fn devices(&self, user_id: &UserId) -> Result<Vec<Device>> {
        let devices = self.storage().devices(user_id).await?;
        Ok(devices.into_iter().map(without_unknown_address).collect())
    }

    /// One device of a user.
    pub async fn device(&self, user_id: &UserId, device_id: &DeviceId) -> Result<Device> {
        let device = self.storage().device(user_id, device_id).await?;
        device.map(without_unknown_address).ok_or_else(no_such_device)
    }

    /// Renames a device. Without a name it keeps the one that it has.
    pub async fn rename_device(
        &self,
        user_id: &UserId,
        device_id: &DeviceId,
        display_name: Option<&str>,
    ) -> Result<()> {
        check_display_name(display_name)?;
        if display_name.is_none() {
            return self.device(user_id, device_id).await.map(drop);
        }
        let exists = self.storage().set_device_display_name(user_id, device_id, display_name).await?;
        if !exists {
            return Err(no_such_device());
        }
        self.device_renamed(user_id, device_id).await
    }

    /// Logs devices out and forgets them. Unknown ones are ignored, as the spec wants it.
    pub async fn delete_devices(&self, user_id: &UserId, device_ids: &[OwnedDeviceId]) -> Result<()> {
        let _turn = self.device_list_turn(user_id).await;
        Ok(self.key_server().forget_devices(user_id, device_ids).await?)
    }

    /// The same for all devices but one.
    pub(super) async fn delete_other_devices(&self, user_id: &UserId, except: Option<&DeviceId>) -> Result<()> {
        let _turn = self.device_list_turn(user_id).await;
        let devices = self.storage().devices(user_id).await?.into_iter().map(|device| device.device_id);
        let gone: Vec<OwnedDeviceId> = devices.filter(|device_id| Some(&**device_id) != except).collect();
        self.key_server().forget_devices(user_id, &gone).await?;
        // Who has logged in meanwhile, with a password of before, goes too.
        Ok(self.storage().delete_all_devices(user_id, except).await?)
    }
}

/// Whether a device may have that name.
pub(super) fn check_display_name(display_name: Option<&str>) -> Result<()> {
    let Some(display_name) = display_name else { return Ok(()) };
    if display_name.chars().count() > DISPLAY_NAME_CHARACTERS_MAX {
        let text = format!("A device name must not be longer than {DISPLAY_NAME_CHARACTERS_MAX} characters");
        return Err(EngineError::invalid_param(text));
    }
    refuse_nul(display_name, "A device name")
}

/// A use from nobody knows where is noted with an empty address.
fn without_unknown_address(mut device: Device) -> Device {
    device.last_seen_ip = device.last_seen_ip.filter(|ip| !ip.is_empty());
    device
}

fn no_such_device() -> EngineError {
    EngineError::not_found("No such device")
}
