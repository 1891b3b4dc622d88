//! Users of other servers leaving rooms of ours, or turning down our invitations.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#leaving-rooms-rejecting-invites>

use ruma::{EventId, RoomId, ServerName, UserId, events::room::member::MembershipState};
use serde_json::value::RawValue;

use super::{append::Provenance, join::JoinTemplate};
use crate::{Engine, Result};

impl Engine {
    /// A template for the leave of a user of `origin`.
    pub async fn federation_make_leave(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        user_id: &UserId,
    ) -> Result<JoinTemplate> {
        let room = self.room_for_server(origin, room_id, user_id).await?;
        self.member_template(&room, user_id, &MembershipState::Leave, None).await
    }

    /// Takes the leave that a server made from our template, and sends it to the other servers.
    pub async fn federation_send_leave(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
        raw: &RawValue,
    ) -> Result<()> {
        let pdu = self.member_event_from(origin, room_id, event_id, raw, &MembershipState::Leave).await?;
        self.append(&pdu, Provenance::Relayed).await
    }
}
