//! Rooms as a whole, and which servers are in them.

use rules::change::Position;
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, RoomVersionId};

use crate::{Result, Storage};

/// A room.
#[derive(Clone, Debug)]
pub struct RoomRecord {
    /// Its id.
    pub room_id: OwnedRoomId,
    /// Its version.
    pub version: RoomVersionId,
    /// How often it has been changed: what [`crate::RoomGuard`] compares.
    pub revision: i64,
    /// The position of its last change.
    pub position: Position,
    /// The events that new ones name as `prev_events`, with their depths.
    pub forward_extremities: Vec<(OwnedEventId, u64)>,
    /// Whether it is listed in the public room directory.
    pub published: bool,
}

impl Storage {
    /// A room, if it is known.
    pub async fn room(&self, room_id: &RoomId) -> Result<Option<RoomRecord>> {
        todo!()
    }

    /// Lists a room in the public directory, or takes it out. Nothing happens when the room is unknown.
    pub async fn set_room_published(&self, room_id: &RoomId, published: bool) -> Result<()> {
        todo!()
    }

    /// All rooms in the public directory.
    pub async fn published_rooms(&self) -> Result<Vec<OwnedRoomId>> {
        todo!()
    }

    /// The servers that are in a room now.
    pub async fn room_servers(&self, room_id: &RoomId) -> Result<Vec<OwnedServerName>> {
        todo!()
    }

    /// The servers that are to be sent the event at `position`: those in the room before it, including one that leaves
    /// by it.
    pub async fn room_servers_at(&self, room_id: &RoomId, position: Position) -> Result<Vec<OwnedServerName>> {
        todo!()
    }
}
