//! The relations of local users to rooms.

use rules::change::Position;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId, events::room::member::MembershipState};
use serde_json::value::RawValue;

use crate::{Result, Storage};

/// A local user's relation to a room.
#[derive(Clone, Debug)]
pub struct MembershipRecord {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The user.
    pub user_id: OwnedUserId,
    /// The membership.
    pub membership: MembershipState,
    /// The member event.
    pub event_id: OwnedEventId,
    /// Who sent the member event.
    pub sender: OwnedUserId,
    /// When it became so.
    pub position: Position,
    /// For invites and knocks: the stripped state, as a JSON array.
    pub stripped_state: Option<Box<RawValue>>,
    /// Whether the user wants to see nothing of the room any more.
    pub forgotten: bool,
}

impl Storage {
    /// All rooms that a user has or had to do with, forgotten ones included.
    pub async fn memberships(&self, user_id: &UserId) -> Result<Vec<MembershipRecord>> {
        todo!()
    }

    /// A user's relation to one room.
    pub async fn membership(&self, user_id: &UserId, room_id: &RoomId) -> Result<Option<MembershipRecord>> {
        todo!()
    }

    /// Marks a room as forgotten by a user, until their membership changes again.
    pub async fn forget_room(&self, user_id: &UserId, room_id: &RoomId) -> Result<()> {
        todo!()
    }
}
