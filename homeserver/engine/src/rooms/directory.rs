//! Whether a room is listed in this server's public room directory.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#listing-rooms>

use ruma::{RoomId, events::TimelineEventType};

use crate::{Engine, EngineError, Requester, Result};

impl Engine {
    /// Whether a room is in the directory.
    pub async fn room_published(&self, room_id: &RoomId) -> Result<bool> {
        let room = self.storage().room(room_id).await?;
        room.map(|room| room.published).ok_or_else(|| EngineError::not_found("Room not found"))
    }

    /// Lists a room, or takes it out: for those who may also say under which alias the room is found, and for
    /// administrators, since the directory is the server's.
    pub async fn set_room_published(&self, requester: &Requester, room_id: &RoomId, published: bool) -> Result<()> {
        let room = self.room(room_id).await?.ok_or_else(|| EngineError::not_found("Room not found"))?;
        if !self.is_admin(&requester.user_id).await? {
            Self::require_joined(&room, &requester.user_id)?;
            let levels = self.power_levels(&room).await?;
            if !levels.may_send_state(&requester.user_id, &TimelineEventType::RoomCanonicalAlias) {
                return Err(EngineError::forbidden("You may not list this room in the directory"));
            }
        }
        Ok(self.storage().set_room_published(room_id, published).await?)
    }
}
