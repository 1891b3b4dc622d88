//! Refusing an invite to a room that this server is not in.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#leaving-rooms-rejecting-invites>

use rules::Pdu;
use ruma::{RoomId, ServerName, UserId};
use serde::de::IgnoredAny;

use super::{CallError, Federation, Template};
use crate::CallLimits;

impl Federation {
    /// Asks for the template of a leave event, to refuse an invite to a room that we are not in.
    pub async fn make_leave(
        &self,
        destination: &ServerName,
        room_id: &RoomId,
        user_id: &UserId,
    ) -> Result<Template, CallError> {
        self.template(destination, "make_leave", room_id, user_id, &[]).await
    }

    /// Hands in a signed leave event.
    pub async fn send_leave(&self, destination: &ServerName, event: &Pdu) -> Result<(), CallError> {
        let _: IgnoredAny = self.hand_in(destination, "send_leave", event, None, CallLimits::SEND_LEAVE).await?;
        Ok(())
    }
}
