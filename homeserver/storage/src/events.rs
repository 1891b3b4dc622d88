//! Events by id, and the graph between them.

use std::{collections::HashSet, sync::Arc};

use rules::{
    Pdu,
    change::{Standing, StateReference},
};
use ruma::{EventId, OwnedEventId, RoomId};

use crate::{Result, Storage};

/// An event as it is stored.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    /// The event. `rejected` is set from its standing.
    pub pdu: Arc<Pdu>,
    /// What the checks said.
    pub standing: Standing,
    /// Its place in the room's timeline: a position, or below 1 when it was backfilled; `None` when it has none.
    pub order: Option<i64>,
    /// The state before the event, when it is not the resolved state after the order before it.
    pub state_before: Option<StateReference>,
    /// The event that redacted it. The JSON is what remained.
    pub redacted_by: Option<OwnedEventId>,
}

impl Storage {
    /// An event, if it is stored.
    pub async fn event(&self, event_id: &EventId) -> Result<Option<Arc<StoredEvent>>> {
        todo!()
    }

    /// Those of the events that are stored, in the order asked.
    pub async fn events(&self, event_ids: &[OwnedEventId]) -> Result<Vec<Arc<StoredEvent>>> {
        todo!()
    }

    /// Which of the events are stored, with whatever standing.
    pub async fn event_ids_known(&self, event_ids: &[OwnedEventId]) -> Result<HashSet<OwnedEventId>> {
        todo!()
    }

    /// The given events and all of their ancestors by `auth_events`, as far as they are stored, in no particular order.
    pub async fn auth_chain(&self, event_ids: &[OwnedEventId]) -> Result<Vec<OwnedEventId>> {
        todo!()
    }

    /// The backward extremities: events that are missing from the timeline, each with a known event that names it in
    /// its `prev_events`, and the depth of that.
    pub async fn missing_prev_events(&self, room_id: &RoomId) -> Result<Vec<(OwnedEventId, OwnedEventId, u64)>> {
        todo!()
    }
}
