//! The forward extremities, where events do not come in the order in which they were made.

use std::{collections::HashSet, sync::Arc};

use rules::{Pdu, RoomSnapshot, change::Standing, room::receive::extremities_after};
use ruma::OwnedEventId;

use crate::{Engine, Result};

/// How many events that were not accepted are walked through between an event and those that it builds upon.
const MAX_REFUSED_PASSED: usize = 100;

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
        let missed = self.storage().missing_prev_events(&room.room_id).await?;
        if extremities.len() > 1 && missed.iter().any(|(missing, _, _)| *missing == pdu.event_id) {
            extremities.retain(|(event_id, _)| *event_id != pdu.event_id);
        }
        Ok(extremities)
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
