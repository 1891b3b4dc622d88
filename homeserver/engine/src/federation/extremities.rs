//! The forward extremities, where events do not come in the order in which they were made.

use std::{collections::HashSet, sync::Arc};

use rules::{Pdu, RoomSnapshot, change::Standing, room::receive::extremities_after};
use ruma::OwnedEventId;

use crate::{Engine, Result};

/// How many events that were not accepted are walked through between an event and those that it builds upon.
const MAX_REFUSED_PASSED: usize = 100;
/// How many events are walked through between the head of the room and an event that was accepted late.
const MAX_LATER_PASSED: usize = 1_000;

impl Engine {
    /// The forward extremities after an event that does not build on exactly the head of the room: without those that
    /// it builds upon by way of events that were not accepted, and without itself when an accepted event that came
    /// before builds upon it.
    pub(crate) async fn extremities_after_fork(
        &self,
        room: &RoomSnapshot,
        pdu: &Arc<Pdu>,
    ) -> Result<Vec<(OwnedEventId, u64)>> {
        let mut extremities = extremities_after(room, pdu);
        let passed = self.passed_by_way_of_refused(pdu).await?;
        extremities.retain(|(event_id, _)| !passed.contains(event_id));
        if extremities.len() > 1 && self.is_built_upon(room, pdu, &extremities).await? {
            extremities.retain(|(event_id, _)| *event_id != pdu.event_id);
        }
        Ok(extremities)
    }

    /// Whether an accepted event that came before builds upon this one: it was missing, or stored without being accepted.
    async fn is_built_upon(
        &self,
        room: &RoomSnapshot,
        pdu: &Arc<Pdu>,
        extremities: &[(OwnedEventId, u64)],
    ) -> Result<bool> {
        if self.stored_event(&pdu.event_id).await?.is_some() {
            return self.is_before(pdu, extremities).await;
        }
        let missed = self.storage().missing_prev_events(&room.room_id).await?;
        Ok(missed.iter().any(|(missing, _, _)| *missing == pdu.event_id))
    }

    /// Whether an event comes before one of the other extremities. When that cannot be told with little work, it does:
    /// to leave out an extremity only means not to name it.
    async fn is_before(&self, pdu: &Arc<Pdu>, extremities: &[(OwnedEventId, u64)]) -> Result<bool> {
        let others = extremities.iter().map(|(event_id, _)| event_id.clone());
        let mut next: Vec<OwnedEventId> = others.filter(|event_id| *event_id != pdu.event_id).collect();
        let mut passed: HashSet<OwnedEventId> = next.iter().cloned().collect();
        while !next.is_empty() {
            let events = self.storage().events(&next).await?;
            let later = events.iter().filter(|event| event.pdu.depth > pdu.depth);
            next = later.flat_map(|event| event.pdu.prev_events.clone()).collect();
            next.retain(|event_id| passed.insert(event_id.clone()));
            if passed.contains(&pdu.event_id) || passed.len() > MAX_LATER_PASSED {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn passed_by_way_of_refused(&self, pdu: &Pdu) -> Result<HashSet<OwnedEventId>> {
        let mut passed = HashSet::new();
        let mut next = pdu.prev_events.clone();
        while !next.is_empty() && passed.len() < MAX_REFUSED_PASSED {
            let events = self.storage().events(&next).await?;
            let refused =
                events.iter().filter(|event| matches!(event.standing, Standing::SoftFailed(_) | Standing::Rejected(_)));
            next = refused.flat_map(|event| event.pdu.prev_events.clone()).collect();
            next.retain(|event_id| passed.insert(event_id.clone()));
        }
        Ok(passed)
    }
}
