//! What users were told, sync by sync, against what they should have been told: each event that they may see once and
//! in the server's order, and no other.

use std::{collections::HashSet, sync::Arc};

use ruma::{OwnedEventId, OwnedUserId, events::room::member::MembershipState};
use storage::StoredEvent;

use super::{Findings, Paged, RoomFacts, visibility::Verdict};
use crate::{
    client::{SeenRoom, Stay},
    universe::Universe,
};

/// Whom and what a finding is about.
struct Subject<'a> {
    room: usize,
    user_id: &'a OwnedUserId,
    facts: &'a RoomFacts,
}

pub(super) fn check(universe: &Universe, room: usize, facts: &[RoomFacts], findings: &mut Findings) {
    for user in &universe.users {
        let Some(facts) = facts.iter().find(|facts| facts.server == user.server) else { continue };
        let subject = Subject { room, user_id: &user.requester.user_id, facts };
        if facts.is_partial && subject.is_joined() {
            // Clients that want all members are not shown the room before these are known.
            universe.trace.count("users in rooms of which nobody tells the members");
            continue;
        }
        let empty = SeenRoom::default();
        let seen = user.client.rooms.get(&universe.rooms[room]).unwrap_or(&empty);
        subject.check_presence(seen, findings);
        for stay in &seen.stays {
            universe.trace.count("stays of users in rooms");
            subject.check_told("sync", &subject.placed(stay), stay.until, findings);
        }
        let live: Vec<OwnedEventId> = seen.told().filter(|event_id| subject.is_live(event_id)).cloned().collect();
        subject.check_once(&live, findings);
        if subject.left_at().is_some_and(|left_at| left_at <= facts.complete_since) {
            // Likewise; and then there was only the end to be told of.
            universe.trace.count("users who left before all members were known");
        } else if let (Some(last), Some(left_at)) = (seen.stays.last(), subject.left_at()) {
            let told = seen.heard().cloned().chain(subject.untold(seen)).collect::<Vec<_>>();
            subject.check_complete("all of sync", &told, last.until.min(left_at), findings);
        }
        subject.check_state(seen, findings);
    }
}

pub(super) fn check_paged(universe: &Universe, rooms: &[Vec<RoomFacts>], paged: &[Paged], findings: &mut Findings) {
    for Paged { user, room, events } in paged {
        let server = universe.users[*user].server;
        let Some(facts) = rooms[*room].iter().find(|facts| facts.server == server) else { continue };
        let subject = Subject { room: *room, user_id: &universe.users[*user].requester.user_id, facts };
        let mut events = events.clone().unwrap_or_default();
        events.reverse();
        subject.check_told("pagination", &events, i64::MAX, findings);
        subject.check_withdrawn(&events, findings);
        if subject.is_joined() {
            subject.check_complete("pagination", &events, i64::MAX, findings);
        }
    }
}

impl Subject<'_> {
    fn add(&self, findings: &mut Findings, text: &str) {
        findings.add(format!("room {}, {}: {text}", self.room + 1, self.user_id));
    }

    fn is_joined(&self) -> bool {
        let now = self.facts.memberships[self.user_id].iter().find(|span| span.until.is_none());
        now.is_some_and(|span| span.membership == Some(MembershipState::Join))
    }

    /// The order of the event by which the user left for the last time; beyond all orders when the user is in the room,
    /// and nothing when the user never was.
    fn left_at(&self) -> Option<i64> {
        let spans = self.facts.memberships[self.user_id].iter();
        let joined = spans.filter(|span| span.membership == Some(MembershipState::Join));
        joined.map(|span| span.until.unwrap_or(i64::MAX)).max()
    }

    /// What was told of a stay. That an invitation was taken back is told by an event that need not have a place.
    fn placed(&self, stay: &Stay) -> Vec<OwnedEventId> {
        let is_placed = |event_id: &&OwnedEventId| !stay.is_notice() || self.facts.orders.contains_key(*event_id);
        stay.events.iter().filter(is_placed).cloned().collect()
    }

    /// The events that the client had no chance to be told.
    fn untold(&self, seen: &SeenRoom) -> Vec<OwnedEventId> {
        let is_untold = |order: i64| seen.untold.iter().any(|range| range.contains(&order));
        let events = self.facts.timeline.iter().filter(|event| event.order.is_some_and(is_untold));
        events.map(|event| event.pdu.event_id.clone()).collect()
    }

    /// Whether the event came while the server was in the room, as opposed to history fetched later.
    fn is_live(&self, event_id: &OwnedEventId) -> bool {
        self.facts.orders.get(event_id).is_none_or(|order| *order > 0)
    }

    /// The client believes the user to be in the room exactly when the server does.
    fn check_presence(&self, seen: &SeenRoom, findings: &mut Findings) {
        let believes = seen.stays.last().is_some_and(|stay| !stay.over);
        if believes != self.is_joined() {
            let text = format!("is joined: {}, but their client believes: {believes}", self.is_joined());
            self.add(findings, &text);
        }
    }

    /// Nothing twice, nothing out of order, nothing that the user may not see.
    fn check_told(&self, how: &str, told: &[OwnedEventId], horizon: i64, findings: &mut Findings) {
        let mut last: Option<(i64, &OwnedEventId)> = None;
        for event_id in told {
            let Some(order) = self.facts.orders.get(event_id).copied() else {
                self.add(findings, &format!("{how} told {event_id}, which is not in the timeline"));
                continue;
            };
            if let Some((before, other)) = last.filter(|(before, _)| *before >= order) {
                let text = format!("{how} told {event_id} ({order}) after {other} ({before})");
                self.add(findings, &text);
            }
            last = Some((order, event_id));
            // What decides about history is learned with history, and was perhaps not known when this was told.
            let is_live = |event: &&Arc<StoredEvent>| event.pdu.event_id == *event_id && order > 0;
            let event = self.facts.timeline.iter().find(is_live);
            if event.is_some_and(|event| self.facts.verdict(self.user_id, event, horizon) == Verdict::Hidden) {
                self.add(findings, &format!("{how} told {event_id} ({order}), which they may not see"));
            }
        }
    }

    /// Nothing that was told before and is not accepted any more.
    fn check_withdrawn(&self, told: &[OwnedEventId], findings: &mut Findings) {
        for event in self.facts.timeline.iter().filter(|event| told.contains(&event.pdu.event_id)) {
            if self.facts.verdict(self.user_id, event, i64::MAX) == Verdict::Withdrawn {
                self.add(findings, &format!("pagination told {}, which is withdrawn", event.pdu.event_id));
            }
        }
    }

    /// Nothing again at a later time in the room. Not in order: who comes back may then see what came while they were
    /// out, if only by paging back. A room that is shown as a new one when all of its members are known, or when its user
    /// has left it before they were, shows again what was told of an earlier time.
    fn check_once(&self, told: &[OwnedEventId], findings: &mut Findings) {
        let mut once = HashSet::new();
        let is_later = |event_id: &&OwnedEventId| {
            let order = self.facts.orders.get(*event_id);
            !self.facts.is_partial && order.is_none_or(|order| *order > self.facts.complete_since)
        };
        for event_id in told.iter().filter(|event_id| !once.insert(*event_id)).filter(is_later) {
            self.add(findings, &format!("all of sync told {event_id} twice"));
        }
    }

    /// Nothing left out.
    fn check_complete(&self, how: &str, told: &[OwnedEventId], until: i64, findings: &mut Findings) {
        let told: HashSet<&OwnedEventId> = told.iter().collect();
        // What was fetched from before the room was entered came when somebody asked for it.
        let live =
            self.facts.timeline.iter().filter(|event| event.order.is_some_and(|order| order > 0 && order <= until));
        for event in live {
            let visible = self.facts.verdict(self.user_id, event, until) == Verdict::Visible;
            if visible && !told.contains(&event.pdu.event_id) {
                let order = event.order.unwrap_or_default();
                let text = format!("{how} left out {} {} ({order})", event.pdu.event_type, event.pdu.event_id);
                self.add(findings, &text);
            }
        }
    }

    /// The state that the client put together is the current one.
    fn check_state(&self, seen: &SeenRoom, findings: &mut Findings) {
        let Some(state) = &seen.state else { return };
        if !self.is_joined() {
            return;
        }
        for (key, event_id) in &self.facts.state {
            let believed = state.get(key);
            if believed != Some(event_id) {
                let text = format!("the client believes {key:?} to be {believed:?}, but it is {event_id}");
                self.add(findings, &text);
            }
        }
    }
}
