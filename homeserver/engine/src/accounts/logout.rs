//! Log-out: the device goes, and its tokens with it.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3logout>

use ruma::UserId;

use super::Requester;
use crate::{Engine, Result};

impl Engine {
    /// Logs the asking device out.
    pub async fn logout(&self, requester: &Requester) -> Result<()> {
        self.delete_devices(&requester.user_id, std::slice::from_ref(&requester.device_id)).await
    }

    /// Logs all devices of a user out.
    pub async fn logout_all(&self, user_id: &UserId) -> Result<()> {
        self.delete_other_devices(user_id, None).await
    }
}
