//! Users of other servers knocking on rooms of ours.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#knocking-upon-a-room>

use ruma::{EventId, RoomId, RoomVersionId, ServerName, UserId, events::room::member::MembershipState};
use serde_json::value::RawValue;

use super::{append::Provenance, join::JoinTemplate};
use crate::{Engine, EngineError, Result};

impl Engine {
    /// A template for the knock of a user of `origin`.
    pub async fn federation_make_knock(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        user_id: &UserId,
        versions: &[RoomVersionId],
    ) -> Result<JoinTemplate> {
        let room = self.room_for_server(origin, room_id, user_id).await?;
        if !versions.contains(&room.version) {
            return Err(EngineError::IncompatibleRoomVersion(room.version.clone()));
        }
        self.member_template(&room, user_id, &MembershipState::Knock, None).await
    }

    /// Takes the knock that a server made from our template, sends it to the other servers, and answers with what the
    /// user is shown of the room.
    pub async fn federation_send_knock(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
        raw: &RawValue,
    ) -> Result<Vec<Box<RawValue>>> {
        let pdu = self.member_event_from(origin, room_id, event_id, raw, &MembershipState::Knock).await?;
        self.append(&pdu, Provenance::Relayed).await?;
        let room = self.known_room(room_id).await?;
        let shown = self.shown_state(&room, &pdu.sender).await?;
        // The knock itself the server has.
        Ok(shown
            .iter()
            .filter(|event| event.pdu.event_id != pdu.event_id)
            .map(|event| event.pdu.to_raw_json())
            .collect())
    }
}
