//! Account data: what clients keep for themselves, per user or per user and room.

use rules::change::Position;
use ruma::{OwnedRoomId, RoomId, UserId};
use serde_json::value::RawValue;

use crate::{Result, Storage};

/// One piece of account data.
#[derive(Clone, Debug)]
pub struct AccountDataRecord {
    /// The room, or `None` for global account data.
    pub room_id: Option<OwnedRoomId>,
    /// The event type.
    pub event_type: String,
    /// The content.
    pub content: Box<RawValue>,
    /// When it was set.
    pub position: Position,
}

impl Storage {
    /// One piece of account data.
    pub async fn account_data(
        &self,
        user_id: &UserId,
        room_id: Option<&RoomId>,
        event_type: &str,
    ) -> Result<Option<AccountDataRecord>> {
        todo!()
    }

    /// A user's account data, global and of all rooms, that was set with `since < position <= until`, ascending.
    pub async fn account_data_since(
        &self,
        user_id: &UserId,
        since: Position,
        until: Position,
    ) -> Result<Vec<AccountDataRecord>> {
        todo!()
    }
}
