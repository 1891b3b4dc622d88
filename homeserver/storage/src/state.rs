//! Room state: a history of the resolved state by position.

use rules::change::{Position, StateEntry};
use ruma::{
    OwnedUserId, RoomId,
    events::{StateEventType, room::member::MembershipState},
};

use crate::{Result, Storage};

impl Storage {
    /// The resolved state of a room now.
    pub async fn current_state(&self, room_id: &RoomId) -> Result<Vec<StateEntry>> {
        todo!()
    }

    /// The resolved state after the event at this timeline order: a position, or below 1 for backfilled events.
    pub async fn state_at(&self, room_id: &RoomId, order: i64) -> Result<Vec<StateEntry>> {
        todo!()
    }

    /// One entry of [`Storage::state_at`].
    pub async fn state_entry_at(
        &self,
        room_id: &RoomId,
        event_type: &StateEventType,
        state_key: &str,
        order: i64,
    ) -> Result<Option<StateEntry>> {
        todo!()
    }

    /// The entries that were set with `since < position <= until`, as of `until`; the event is `None` where the key was
    /// removed.
    pub async fn state_changes(&self, room_id: &RoomId, since: Position, until: Position) -> Result<Vec<StateEntry>> {
        todo!()
    }

    /// The users that now have one of the given memberships.
    pub async fn members_with(&self, room_id: &RoomId, memberships: &[MembershipState]) -> Result<Vec<OwnedUserId>> {
        todo!()
    }
}
