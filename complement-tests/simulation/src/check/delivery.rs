//! What was acknowledged has arrived, and nothing is left to be sent.

use std::collections::BTreeSet;

use rules::change::Standing;
use ruma::{
    EventId, OwnedServerName,
    events::{receipt::ReceiptType, room::member::MembershipState},
};

use super::{Findings, RoomFacts, agreement::together_since};
use crate::{Failure, universe::Universe};

/// What a user was told to be sent is in the room once, and on every server that has been in the room since before,
/// unless that has said that it does not take it: when it cannot get what the event builds upon, it drops it, and asks
/// for it again only when an event that it shows builds upon it.
pub(super) async fn check_promises(
    universe: &Universe,
    room: usize,
    facts: &[RoomFacts],
    findings: &mut Findings,
) -> Result<(), Failure> {
    for promise in universe.promises.iter().filter(|promise| promise.room == room) {
        let event_id = &promise.event_id;
        let Some(own) = facts.iter().find(|facts| facts.server == promise.server) else { continue };
        let times = own.timeline.iter().filter(|event| event.pdu.event_id == *event_id).count();
        if times != 1 {
            let name = universe.servers[own.server].name();
            findings.add(format!(
                "room {}: {event_id}, acknowledged by {name}, is {times} times in its timeline",
                room + 1
            ));
        }
        let Some(order) = own.orders.get(event_id) else { continue };
        if !own.accepts(event_id) {
            // It was made by who had been removed, which was known only when all members were.
            universe.trace.count("acknowledged events that were withdrawn");
            continue;
        }
        check_handed(universe, room, own, event_id, *order, findings).await?;
        for other in facts.iter().filter(|other| other.server != own.server) {
            if together_since(universe, own, other).is_none_or(|since| since >= *order) {
                continue;
            }
            universe.trace.count("acknowledged events that had to arrive");
            let stored = universe.servers[other.server].storage().event(event_id).await?;
            let standing = stored.as_ref().map(|stored| &stored.standing);
            if matches!(standing, Some(Standing::Accepted | Standing::SoftFailed(_))) {
                continue;
            }
            // Judged by a part of the state. Where somebody gives the rest, it has been judged anew by now; a server that was
            // denied before is given nothing.
            if other.is_partial && matches!(standing, Some(Standing::Rejected(_))) {
                universe.trace.count("acknowledged events judged by a part of the state");
            } else if universe.has_not_taken(other.server, event_id) {
                universe.trace.count("acknowledged events that the other server did not take");
            } else {
                findings.add(format!(
                    "room {}: {event_id}, acknowledged by {}, is {standing:?} on {}, which was in the room",
                    room + 1,
                    universe.servers[own.server].name(),
                    universe.servers[other.server].name(),
                ));
            }
        }
    }
    Ok(())
}

/// What a server made was handed by itself to each server that was in the room then, as itself saw it or sees it now that it
/// knows all members: others get what they lack from each other, too, which must not hide that a queue has lost it.
async fn check_handed(
    universe: &Universe,
    room: usize,
    own: &RoomFacts,
    event_id: &EventId,
    order: i64,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let server = &universe.servers[own.server];
    let (room_id, storage) = (&universe.rooms[room], server.storage());
    let before = storage.room_servers_at(room_id, order - 1).await?;
    let after = storage.room_servers_at(room_id, order).await?;
    let Some(event) = storage.event(event_id).await? else { return Ok(()) };
    let mut others: BTreeSet<OwnedServerName> = after.into_iter().filter(|other| before.contains(other)).collect();
    // Who left before all members were known does not get to know them, and who came back, not those of the first time.
    if !own.is_partial && own.presence(universe, own.server).is_some_and(|(since, _)| since < order) {
        others.extend(own.servers_around(order));
    }
    others.remove(server.name());
    for other in &others {
        universe.trace.count("acknowledged events that had to be handed over");
        if !universe.network.has_handed(server.name(), other, &event.pdu) {
            findings.add(format!("room {}: {} never handed {event_id} to {other}", room + 1, server.name()));
        }
    }
    Ok(())
}

/// The last public receipt of each user has arrived wherever the event that it names is shown.
pub(super) async fn check_receipts(
    universe: &Universe,
    room: usize,
    facts: &[RoomFacts],
    findings: &mut Findings,
) -> Result<(), Failure> {
    let room_id = &universe.rooms[room];
    for user in &universe.users {
        let user_id = &user.requester.user_id;
        let Some(own) = facts.iter().find(|facts| facts.server == user.server) else { continue };
        let storage = universe.servers[user.server].storage();
        let Some(receipt) = storage.receipt(room_id, user_id, &ReceiptType::Read, None).await? else { continue };
        // It is not sent again when the server is no longer denied.
        if universe.denied.contains(&(room, universe.servers[own.server].name().to_owned())) {
            continue;
        }
        for other in facts.iter().filter(|other| other.server != own.server) {
            let Some(since) = together_since(universe, own, other) else { continue };
            // The event came the same way before the receipt. One of a third server may come later, and then the
            // receipt found nothing to point to.
            let own_event = own.timeline.iter().find(|event| event.pdu.event_id == receipt.event_id);
            let together = own_event.is_some_and(|event| {
                event.order.is_some_and(|order| order > since)
                    && event.pdu.sender.server_name() == universe.servers[own.server].name()
            });
            // Nor is one taken for an event that was not taken, even when that comes another way later.
            let together = together && !universe.has_not_taken(other.server, &receipt.event_id);
            // Nor for one that was accepted only when all members were known.
            let whole_since = universe.servers[other.server].storage().room(room_id).await?;
            let whole_since = whole_since.map_or(0, |room| room.complete_since);
            let together = together && !other.came_when_whole(&receipt.event_id, whole_since);
            // A server takes receipts of users who are in the room only.
            let always_in = other.memberships[user_id].iter().any(|span| {
                span.membership == Some(MembershipState::Join)
                    && span.until.is_none()
                    && other.orders.get(&receipt.event_id).is_some_and(|order| span.since <= *order)
            });
            if !together || !always_in {
                continue;
            }
            universe.trace.count("receipts that had to arrive");
            let name = universe.servers[other.server].name();
            let copy = universe.servers[other.server].storage();
            let copy = copy.receipt(room_id, user_id, &ReceiptType::Read, None).await?;
            if copy.as_ref().map(|copy| &copy.event_id) != Some(&receipt.event_id) {
                let found = copy.map(|copy| copy.event_id);
                findings.add(format!(
                    "room {}: {user_id} has read up to {}, but on {name} up to {found:?}",
                    room + 1,
                    receipt.event_id,
                ));
            }
        }
    }
    Ok(())
}

/// Every cursor is at the head, and no attempt is under way.
pub(super) async fn check_queues(universe: &Universe, findings: &mut Findings) -> Result<(), Failure> {
    for server in &universe.servers {
        let pending = server.sender().pending().await?;
        if !pending.is_empty() {
            findings.add(format!("{}: something is left for {pending:?}", server.name()));
        }
        for destination in server.storage().destinations().await? {
            if destination.in_flight.is_some() {
                findings.add(format!("{}: the queue is not at rest: {destination:?}", server.name()));
            }
        }
    }
    Ok(())
}
