//! The device that a user leaves behind, to receive keys while nobody is logged in.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/3814>

use keyserver::NewDehydratedDevice;
use rules::change::Position;
use ruma::{DeviceId, OwnedDeviceId, UserId, serde::Raw};
use storage::DehydratedDevice;

use crate::{
    Engine, EngineError, Result,
    sync::{TO_DEVICE_MAX, ToDevicePage},
};

/// Some messages to a dehydrated device.
#[derive(Debug)]
pub struct DehydratedMessages {
    /// In order.
    pub events: Vec<Raw<ruma::events::AnyToDeviceEvent>>,
    /// What to ask with for those that come after them.
    pub next_batch: String,
    /// Whether there may be more by now.
    pub has_more: bool,
}

impl Engine {
    /// Leaves a device behind, in the place of the one before.
    pub async fn put_dehydrated_device(&self, user_id: &UserId, new: NewDehydratedDevice) -> Result<()> {
        let _turn = self.device_list_turn(user_id).await;
        Ok(self.key_server().put_dehydrated_device(user_id, new).await?)
    }

    /// The device that a user left behind.
    pub async fn dehydrated_device(&self, user_id: &UserId) -> Result<DehydratedDevice> {
        Ok(self.key_server().dehydrated_device(user_id).await?)
    }

    /// Forgets the device that a user left behind, and returns its id.
    pub async fn delete_dehydrated_device(&self, user_id: &UserId) -> Result<OwnedDeviceId> {
        let _turn = self.device_list_turn(user_id).await;
        Ok(self.key_server().delete_dehydrated_device(user_id).await?)
    }

    /// Messages to the device that a user left behind, up to `limit` of those after a token. None is deleted by this.
    pub async fn dehydrated_messages(
        &self,
        user_id: &UserId,
        device_id: &DeviceId,
        from: Option<&str>,
        limit: Option<usize>,
    ) -> Result<DehydratedMessages> {
        let after = from.map_or(Ok(0), str::parse::<Position>);
        let after = after.ok().filter(|after| *after >= 0);
        let after = after.ok_or_else(|| EngineError::invalid_param("That is no token of messages to this device"))?;
        let limit = limit.unwrap_or(TO_DEVICE_MAX).clamp(1, TO_DEVICE_MAX);
        let head = self.storage().head();
        let messages = self.key_server().dehydrated_messages(user_id, device_id, after, head, limit).await?;
        let has_more = messages.len() == limit;
        let until = messages.last().filter(|_| has_more).map_or(head.max(after), |last| last.position);
        let page = ToDevicePage { messages, until };
        Ok(DehydratedMessages { events: page.events()?, next_batch: until.to_string(), has_more })
    }
}
