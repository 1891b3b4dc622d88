//! Messages from device to device.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#send-to-device-messaging>

use keyserver::Messages;

use crate::{Engine, Requester, Result};

impl Engine {
    /// Sends messages of one type to devices, here and elsewhere; the same transaction again does nothing.
    pub async fn send_to_device(
        &self,
        requester: &Requester,
        event_type: &str,
        transaction_id: &str,
        messages: Messages,
    ) -> Result<()> {
        let Requester { user_id, device_id, .. } = requester;
        let _turn = self.inner.keys.message_turn(&format!("{user_id} {device_id} {transaction_id}")).await;
        let sent = self.key_server().send_to_device(user_id, device_id.as_str(), transaction_id, event_type, messages);
        Ok(sent.await?)
    }
}
