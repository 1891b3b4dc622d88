//! An event from another server: the checks that need the room, and what it changes.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu>

use std::{collections::HashSet, sync::Arc};

use ruma::{
    OwnedEventId,
    events::{StateEventType, TimelineEventType},
};

use super::{
    EventsById, RoomSnapshot,
    authorise::{check_auth_events, check_create, check_current_state, check_state},
};
use crate::{Pdu, change::Standing};

/// How many forward extremities we let a room have: as many as one event can name. Peers that make forks cannot make us
/// resolve more than that.
pub const MAX_FORWARD_EXTREMITIES: usize = 20;

/// Checks 4 to 6 on receipt of a PDU; the checks of form, signatures and hash came before.
/// `state_before` looks up the state before the event. `events` must hold the event's auth events, the create event,
/// the events that decide about it in the state before it, and those in the current state.
pub fn judge(
    room: &RoomSnapshot,
    pdu: &Pdu,
    state_before: impl Fn(&StateEventType, &str) -> Option<OwnedEventId>,
    events: &EventsById,
) -> Standing {
    let rules = &room.rules.authorization;
    if pdu.event_type == TimelineEventType::RoomCreate
        && let Err(reason) = check_create(room, pdu)
    {
        return Standing::Rejected(reason.to_string());
    }
    // 4. Passes authorisation rules based on the event's auth events.
    if let Err(reason) = check_auth_events(rules, pdu, events) {
        return Standing::Rejected(format!("by its auth events: {reason}"));
    }
    // 5. Passes authorisation rules based on the state before the event.
    let before =
        check_state(rules, pdu, |event_type, state_key| events.get(&state_before(event_type, state_key)?).cloned());
    if let Err(reason) = before {
        return Standing::Rejected(format!("by the state before it: {reason}"));
    }
    // 6. Passes authorisation rules based on the current state of the room.
    match check_current_state(room, pdu, events) {
        Err(reason) => Standing::SoftFailed(reason.to_string()),
        Ok(()) => Standing::Accepted,
    }
}

/// The forward extremities after an event: those it does not name as `prev_events`, and itself.
///
/// Where there are too many already, one more fork is left out: it counts again when another event builds upon it. Were
/// an old one left out instead, a peer that makes forks of the past would push the present out of the room state.
pub fn extremities_after(room: &RoomSnapshot, pdu: &Arc<Pdu>) -> Vec<(OwnedEventId, u64)> {
    let named: HashSet<&OwnedEventId> = pdu.prev_events.iter().collect();
    let mut extremities: Vec<_> =
        room.forward_extremities.iter().filter(|(event_id, _)| !named.contains(event_id)).cloned().collect();
    if extremities.len() < MAX_FORWARD_EXTREMITIES {
        extremities.push((pdu.event_id.clone(), pdu.depth));
    }
    extremities
}

/// Whether an event builds on exactly the head of the room: then the state before it is the current state, and it
/// needs no resolution.
pub fn builds_on_head(room: &RoomSnapshot, pdu: &Pdu) -> bool {
    let head: HashSet<&OwnedEventId> = room.forward_extremities.iter().map(|(event_id, _)| event_id).collect();
    let named: HashSet<&OwnedEventId> = pdu.prev_events.iter().collect();
    !head.is_empty() && head == named
}
