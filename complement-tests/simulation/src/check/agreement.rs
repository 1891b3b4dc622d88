//! The same resolved state on all servers that are in a room, and the same events since they are in it.
//!
//! Two servers of which one holds the other to be out of the room are not compared: soft failure can part them for good.
//! One has made the room private while the other, not knowing, let somebody in; from then on each takes what the other
//! says for the words of strangers. Nor are two of which one denies the other by an access control list: it takes nothing
//! of what the other says. Nor is one to which nobody tells the members of the room.

use rules::change::Standing;
use ruma::events::TimelineEventType;

use super::{Findings, RoomFacts};
use crate::{Failure, universe::Universe};

pub(super) async fn check(
    universe: &Universe,
    room: usize,
    facts: &[RoomFacts],
    findings: &mut Findings,
) -> Result<(), Failure> {
    let residents: Vec<&RoomFacts> = facts.iter().filter(|facts| facts.is_resident(universe)).collect();
    for (one, other) in pairs(&residents) {
        if one.is_partial || other.is_partial {
            universe.trace.count("pairs of servers of which one is not told the members of a room");
            continue;
        }
        if one.denies(universe, other.server).await? || other.denies(universe, one.server).await? {
            universe.trace.count("pairs of servers of which one denies the other");
            continue;
        }
        if one.presence(universe, other.server).is_some() && other.presence(universe, one.server).is_some() {
            universe.trace.count("pairs of servers that agree on a room");
            same_state(universe, room, one, other, findings);
        } else {
            universe.trace.count("pairs of servers of which one holds the other to be out of a room");
        }
        same_events(universe, room, one, other, findings).await?;
        same_redactions(universe, room, one, other, findings).await?;
    }
    Ok(())
}

fn pairs<'a>(residents: &'a [&'a RoomFacts]) -> impl Iterator<Item = (&'a RoomFacts, &'a RoomFacts)> {
    let ordered = residents.iter().flat_map(|one| residents.iter().map(move |other| (*one, *other)));
    ordered.filter(|(one, other)| one.server != other.server)
}

fn same_state(universe: &Universe, room: usize, one: &RoomFacts, other: &RoomFacts, findings: &mut Findings) {
    let keys: std::collections::BTreeSet<_> = one.state.keys().chain(other.state.keys()).collect();
    for key in keys {
        let (here, there) = (one.state.get(key), other.state.get(key));
        // Each pair is looked at from both sides.
        if here != there && one.server < other.server {
            findings.add(format!(
                "room {}: the state differs: {key:?} is {here:?} on {} and {there:?} on {}",
                room + 1,
                universe.servers[one.server].name(),
                universe.servers[other.server].name(),
            ));
        }
    }
}

/// Whatever a server made while both are in the room, the other has, unless it has said that it does not take it: it may
/// think otherwise about whether it may be shown, as soft failure depends on when an event arrives. What a third server made before it had heard that the other
/// came in, the other may never get, or know as part of the state only: nobody sends it, and the request for what lies
/// in between can fail.
async fn same_events(
    universe: &Universe,
    room: usize,
    one: &RoomFacts,
    other: &RoomFacts,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let Some(since) = together_since(universe, one, other) else { return Ok(()) };
    let storage = universe.servers[other.server].storage();
    let accepted = one.timeline.iter().filter(|event| event.standing == Standing::Accepted);
    for event in accepted.filter(|event| event.order.is_some_and(|order| order > since)) {
        let stored = storage.event(&event.pdu.event_id).await?;
        let standing = stored.as_ref().map(|stored| &stored.standing);
        let has = matches!(standing, Some(Standing::Accepted | Standing::SoftFailed(_)));
        let refused = universe.has_not_taken(other.server, &event.pdu.event_id);
        if !has && event.pdu.sender.server_name() != universe.servers[one.server].name() {
            universe.trace.count("events of third servers that did not arrive");
        } else if !has && refused {
            universe.trace.count("events that the other server did not take");
        } else if !has {
            findings.add(format!(
                "room {}: {} {} of {} is accepted on {}, but on {} it is {standing:?}",
                room + 1,
                event.pdu.event_type,
                event.pdu.event_id,
                event.pdu.sender,
                universe.servers[one.server].name(),
                universe.servers[other.server].name(),
            ));
        }
    }
    Ok(())
}

/// Since which order of `one`, without a break, both servers have been in the room, as both of them see it.
pub(super) fn together_since(universe: &Universe, one: &RoomFacts, other: &RoomFacts) -> Option<i64> {
    let (own, _) = one.presence(universe, one.server)?;
    let (peer, _) = one.presence(universe, other.server)?;
    let (_, came_by) = other.presence(universe, other.server)?;
    let came = one.orders.get(&came_by?)?;
    Some(own.max(peer).max(*came))
}

/// An event redacted by its own sender is redacted wherever both events were accepted.
async fn same_redactions(
    universe: &Universe,
    room: usize,
    one: &RoomFacts,
    other: &RoomFacts,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let storage = universe.servers[other.server].storage();
    for event in one.timeline.iter().filter(|event| event.redacted_by.is_some()) {
        let Some(redaction) = event.redacted_by.as_ref() else { continue };
        let Some(redaction) = storage.event(redaction).await? else { continue };
        // A server that may not see a redaction is given one that redacts nothing.
        let target = redaction.pdu.redacts.as_ref().map(ToString::to_string);
        let target = target.or_else(|| redaction.pdu.content_str("redacts"));
        let own = redaction.pdu.sender == event.pdu.sender
            && target.as_deref() == Some(event.pdu.event_id.as_str())
            && redaction.pdu.event_type == TimelineEventType::RoomRedaction
            && redaction.standing == Standing::Accepted;
        let Some(copy) = storage.event(&event.pdu.event_id).await?.filter(|_| own) else { continue };
        if copy.standing == Standing::Accepted && copy.redacted_by.is_none() {
            findings.add(format!(
                "room {}: {} is redacted by its sender on {}, but not on {}",
                room + 1,
                event.pdu.event_id,
                universe.servers[one.server].name(),
                universe.servers[other.server].name(),
            ));
        }
    }
    Ok(())
}
