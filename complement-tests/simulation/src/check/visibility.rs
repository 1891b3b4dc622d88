//! A small model of who may see what, made from the room's history alone, to judge the server's.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#room-history-visibility>

use engine::{Engine, Requester};
use rules::change::Standing;
use ruma::{
    OwnedUserId, RoomId,
    events::{TimelineEventType, room::member::MembershipState},
};
use storage::{StateSpan, StoredEvent};

use super::{Findings, RoomFacts};
use crate::{Failure, universe::Universe};

/// How many events of a room each user asks for one by one.
const PROBES: usize = 10;

/// Whether a user may see an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Yes, and it must be shown.
    Visible,
    /// No, and it must not be shown.
    Hidden,
    /// The event changes what decides about it, or what decides is not known.
    Unclear,
    /// Not any more: it was accepted until all members became known.
    Withdrawn,
}

impl RoomFacts {
    /// Whether a user may see an event of the timeline, as of the position `horizon`.
    pub(super) fn verdict(&self, user_id: &OwnedUserId, event: &StoredEvent, horizon: i64) -> Verdict {
        let Some(order) = event.order else { return Verdict::Hidden };
        if event.standing != Standing::Accepted {
            return Verdict::Withdrawn;
        }
        let memberships = &self.memberships[user_id];
        let joins_later = memberships.iter().any(|span| {
            let joined = span.membership == Some(MembershipState::Join);
            joined && span.since <= horizon && span.until.is_none_or(|until| until > order)
        });
        let (mut yes, mut no) = (false, false);
        for moment in [order - 1, order] {
            let visibility = self.visibilities.iter().find(|(span, _)| span.contains(moment));
            let visibility = match visibility {
                None => "shared",
                Some((_, Some(value))) => value,
                Some((_, None)) => return Verdict::Unclear,
            };
            for moment in [order - 1, order] {
                let allowed = allows(visibility, &membership(memberships, moment), joins_later);
                yes |= allowed;
                no |= !allowed;
            }
        }
        let about_themselves = event.pdu.membership().is_some_and(|(target, _)| target == *user_id);
        let decides_itself = about_themselves || event.pdu.is_state(&TimelineEventType::RoomHistoryVisibility);
        // Branches were resolved, and the user was out by somebody else's event.
        let ends_stay = memberships.iter().any(|span| span.until == Some(order)) && !about_themselves;
        match (yes, no) {
            (true, _) if ends_stay => Verdict::Unclear,
            (true, false) => Verdict::Visible,
            // Nobody is kept from hearing that they were invited, removed or banned.
            (false, _) if about_themselves => Verdict::Unclear,
            (false, _) => Verdict::Hidden,
            (true, true) if decides_itself => Verdict::Visible,
            (true, true) => Verdict::Unclear,
        }
    }

    /// Whether a user has a way to ask for an event that they may see. Who is invited, or was and never came in, has
    /// none.
    fn may_ask(&self, user_id: &OwnedUserId, event: &StoredEvent) -> bool {
        let Some(order) = event.order else { return false };
        let memberships = &self.memberships[user_id];
        let mut joined = memberships.iter().filter(|span| span.membership == Some(MembershipState::Join));
        if [order - 1, order].iter().any(|moment| membership(memberships, *moment) == MembershipState::Invite) {
            return joined.any(|span| span.until.is_none_or(|until| until > order));
        }
        joined.next().is_some()
    }
}

fn membership(spans: &[StateSpan], order: i64) -> MembershipState {
    let span = spans.iter().find(|span| span.contains(order));
    span.and_then(|span| span.membership.clone()).unwrap_or(MembershipState::Leave)
}

fn allows(visibility: &str, membership: &MembershipState, joins_later: bool) -> bool {
    match visibility {
        "world_readable" => true,
        _ if *membership == MembershipState::Join => true,
        "invited" => *membership == MembershipState::Invite,
        "joined" => false,
        _ => joins_later,
    }
}

/// Users ask for single events; what they get must be what they may see.
pub(super) async fn probe(
    universe: &mut Universe,
    room: usize,
    facts: &[RoomFacts],
    findings: &mut Findings,
) -> Result<(), Failure> {
    for user in 0..universe.users.len() {
        let server = universe.users[user].server;
        let Some(facts) = facts.iter().find(|facts| facts.server == server) else { continue };
        for _ in 0..PROBES.min(facts.timeline.len()) {
            let event = universe.dice.pick(&facts.timeline).clone();
            let shown =
                is_shown(universe.engine_of(user), universe.requester(user), &universe.rooms[room], &event).await?;
            let user_id = &universe.requester(user).user_id;
            let verdict = facts.verdict(user_id, &event, i64::MAX);
            let may_ask = facts.may_ask(user_id, &event);
            let right = match verdict {
                Verdict::Visible => shown || !may_ask,
                Verdict::Hidden | Verdict::Withdrawn => !shown,
                Verdict::Unclear => true,
            };
            if !right {
                findings.add(format!(
                    "room {}: {} is {verdict:?} for {user_id}, but the server shows it: {shown}",
                    room + 1,
                    event.pdu.event_id,
                ));
            }
        }
    }
    Ok(())
}

async fn is_shown(
    engine: &Engine,
    requester: &Requester,
    room_id: &RoomId,
    event: &StoredEvent,
) -> Result<bool, Failure> {
    match engine.event(requester, room_id, &event.pdu.event_id).await {
        Ok(_) => Ok(true),
        Err(error) if crate::actions::is_refusal(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_knows_the_four_settings() {
        use MembershipState::{Ban, Invite, Join, Leave};
        for (visibility, membership, joins_later, expected) in [
            ("world_readable", Ban, false, true),
            ("shared", Join, false, true),
            ("shared", Leave, true, true),
            ("shared", Invite, false, false),
            ("invited", Invite, false, true),
            ("invited", Leave, true, false),
            ("joined", Invite, true, false),
            ("joined", Join, false, true),
        ] {
            assert_eq!(allows(visibility, &membership, joins_later), expected, "{visibility} {membership}");
        }
    }
}
