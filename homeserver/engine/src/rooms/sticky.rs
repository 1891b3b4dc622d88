//! Events that are delivered to whoever is in the room for a while: who is in a call says so by such events, and whoever
//! comes in must hear of it, however much was said since.
//!
//! Proposal: <https://github.com/matrix-org/matrix-spec-proposals/pull/4354>

use std::{collections::HashSet, sync::Arc};

use rules::{
    Change, Pdu, RoomSnapshot,
    change::{NewEvent, Placement, Position, Standing},
};
use ruma::{EventId, OwnedEventId, OwnedUserId, RoomId};
use storage::{StickyEvent, StoredEvent};

use super::SeenEvent;
use crate::{ClientEvent, Engine, Requester, Result};

/// How many sticky events of one room are told at once, the latest of them: more than there are people in a call.
const OF_ROOM_MAX: usize = 1_000;
/// How many sticky events of our users a server gets that comes into the room.
const RESENT_MAX: usize = 200;
/// How many sticky events of all rooms of a user are told at once, at most and by default.
const OF_USER_MAX: usize = 1_000;
const OF_USER_DEFAULT: usize = 100;

/// How far somebody has been told of sticky events: of those that concern the user since before the first position, and
/// of those since then that were sent up to the second.
pub(crate) type StickyCursor = (Position, Position);

/// A part of the sticky events that concern a user.
pub(crate) struct StickyPage {
    pub(crate) events: Vec<StickyEvent>,
    /// Up to where this is everything.
    pub(crate) until: StickyCursor,
}

impl Engine {
    /// What follows from changes of a room: which of the new events are sticky, and which of those that were sticky
    /// before go to servers that come in.
    pub(crate) async fn sticky_changes(&self, room: &RoomSnapshot, changes: &[Change]) -> Result<Vec<Change>> {
        let sticky: Vec<&Arc<Pdu>> = changes.iter().filter_map(sticky_event).collect();
        let mut following = Vec::new();
        if !sticky.is_empty() {
            let now_ms = self.world().clock.now_ms();
            following.extend(sticky.into_iter().filter_map(|pdu| stickiness(pdu, now_ms)));
        }
        let entering = |change: &Change| match change {
            Change::RoomServer { server, present: true, .. } if server != self.server_name() => Some(server.clone()),
            _ => None,
        };
        let servers: Vec<_> = changes.iter().filter_map(entering).collect();
        if !servers.is_empty() {
            for event in self.sticky_events_in(&room.room_id, (0, Position::MAX), RESENT_MAX).await? {
                if self.is_local(&event.pdu.sender) {
                    let (event_id, servers) = (event.pdu.event_id.clone(), servers.clone());
                    following.push(Change::Resend { event_id, servers });
                }
            }
        }
        Ok(following)
    }

    /// What is sticky in a room that the asker is joined to, of what happened within some positions, but for what is
    /// shown in the timeline. Whatever the history visibility: who is in the room may see it while it is sticky.
    pub(crate) async fn sticky_in_room(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        between: (Position, Position),
        shown: &[SeenEvent],
        ignored: &HashSet<OwnedUserId>,
    ) -> Result<Vec<ClientEvent>> {
        let mut events = self.sticky_events_in(room_id, between, OF_ROOM_MAX).await?;
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let shown: HashSet<&EventId> = shown.iter().map(|seen| &*seen.event.pdu.event_id).collect();
        events.retain(|event| !shown.contains(&*event.pdu.event_id) && !ignored.contains(&event.pdu.sender));
        self.sticky_client_events(requester, room_id, events).await
    }

    /// Sticky events of one room, as a member sees them.
    pub(crate) async fn sticky_client_events(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        events: Vec<Arc<StoredEvent>>,
    ) -> Result<Vec<ClientEvent>> {
        let view = self.view_unchecked(room_id, &requester.user_id).await?;
        let seen = events.into_iter().map(|event| {
            let membership = view.membership_at(event.order.unwrap_or(Position::MAX));
            SeenEvent { event, membership }
        });
        self.client_events(requester, &seen.collect::<Vec<_>>(), false).await
    }

    /// The sticky events that concern a user after what was told, and up to a position.
    pub(crate) async fn sticky_page(
        &self,
        requester: &Requester,
        after: StickyCursor,
        until: Position,
        limit: Option<usize>,
    ) -> Result<StickyPage> {
        let limit = limit.unwrap_or(OF_USER_DEFAULT).clamp(1, OF_USER_MAX);
        let now_ms = self.world().clock.now_ms();
        let events = self.storage().sticky_events_for(&requester.user_id, after, until, now_ms, limit).await?;
        let last = events.last().map(|event| (event.since, event.position)).filter(|_| events.len() == limit);
        Ok(StickyPage { events, until: last.unwrap_or((until, Position::MAX)) })
    }

    /// Those of some sticky events that still are: what was redacted is not.
    pub(crate) async fn still_sticky(&self, event_ids: &[OwnedEventId]) -> Result<Vec<Arc<StoredEvent>>> {
        let mut events = self.storage().events(event_ids).await?;
        events.retain(|event| event.standing == Standing::Accepted && event.pdu.sticky_duration_ms.is_some());
        Ok(events)
    }

    async fn sticky_events_in(
        &self,
        room_id: &RoomId,
        (after, until): (Position, Position),
        limit: usize,
    ) -> Result<Vec<Arc<StoredEvent>>> {
        let now_ms = self.world().clock.now_ms();
        let event_ids = self.storage().sticky_events(room_id, after, until, now_ms, limit).await?;
        if event_ids.is_empty() { Ok(Vec::new()) } else { self.still_sticky(&event_ids).await }
    }
}

/// A new event that says that it is sticky.
fn sticky_event(change: &Change) -> Option<&Arc<Pdu>> {
    let Change::Event(new) = change else { return None };
    let NewEvent { pdu, standing: Standing::Accepted, placement: Placement::Live, .. } = &**new else { return None };
    pdu.sticky_duration_ms.map(|_| pdu)
}

/// That an event is sticky from now on, if it is not too old for that.
fn stickiness(pdu: &Pdu, now_ms: u64) -> Option<Change> {
    let until_ms = pdu.sticky_until_ms(now_ms).filter(|until_ms| *until_ms > now_ms)?;
    Some(Change::Sticky { room_id: pdu.room_id.clone(), event_id: pdu.event_id.clone(), until_ms })
}
