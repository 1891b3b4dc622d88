//! Room aliases of this server.

use ruma::{OwnedRoomAliasId, OwnedRoomId, OwnedUserId, RoomAliasId, RoomId, UserId};

use crate::{Result, Storage};

impl Storage {
    /// Creates an alias; `false` when it is taken.
    pub async fn create_alias(&self, alias: &RoomAliasId, room_id: &RoomId, creator: &UserId) -> Result<bool> {
        todo!()
    }

    /// The room that an alias leads to, and who created the alias.
    pub async fn alias(&self, alias: &RoomAliasId) -> Result<Option<(OwnedRoomId, OwnedUserId)>> {
        todo!()
    }

    /// Deletes an alias; `false` when there is none.
    pub async fn delete_alias(&self, alias: &RoomAliasId) -> Result<bool> {
        todo!()
    }

    /// All aliases that lead to a room.
    pub async fn aliases_of(&self, room_id: &RoomId) -> Result<Vec<OwnedRoomAliasId>> {
        todo!()
    }
}
