//! One key of a room's state through time.

use ruma::{OwnedEventId, RoomId, events::{StateEventType, room::member::MembershipState}};

use crate::{Result, Storage};

/// How long one value of a key held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateSpan {
    /// The first timeline order at which it held.
    pub since: i64,
    /// The first timeline order at which it no longer held; `None` when it holds now.
    pub until: Option<i64>,
    /// The event; `None` when the key had no value, or which it had is not known.
    pub event_id: Option<OwnedEventId>,
    /// For `m.room.member`: the membership that the event gives.
    pub membership: Option<MembershipState>,
}

impl StateSpan {
    /// Whether the value held after the event at this order.
    pub fn contains(&self, order: i64) -> bool {
        self.since <= order && self.until.is_none_or(|until| order < until)
    }
}

impl Storage {
    /// All values that a key has had, oldest first.
    pub async fn state_history(
        &self,
        room_id: &RoomId,
        event_type: &StateEventType,
        state_key: &str,
    ) -> Result<Vec<StateSpan>> {
        todo!()
    }
}
