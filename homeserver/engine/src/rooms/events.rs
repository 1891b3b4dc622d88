//! Single events, and what surrounds them.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#getting-events-for-a-room>

use std::{collections::BTreeSet, sync::Arc};

use rules::Pdu;
use ruma::{EventId, OwnedUserId, RoomId, api::client::filter::RoomEventFilter, events::StateEventType};
use storage::{Direction, StoredEvent, TimelineRange};

use super::{RoomView, SeenEvent};
use crate::{
    ClientEvent, Engine, EngineError, RelationFilter, Requester, Result,
    sync::{Eyes, Scanned, TimelineToken, allows, lazy_loads, senders},
};

/// How many events around one are shown at most, as many as by synchronising.
const CONTEXT_EVENTS_MAX: usize = 100;

/// Which events are wanted.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// By what they are.
    pub events: RoomEventFilter,
    /// By what they relate to.
    pub relations: RelationFilter,
}

impl From<RoomEventFilter> for EventFilter {
    fn from(events: RoomEventFilter) -> Self {
        Self { events, relations: RelationFilter::default() }
    }
}

/// An event and what surrounds it.
#[derive(Clone, Debug)]
pub struct Context {
    /// From where to read on backwards.
    pub start: String,
    /// From where to read on forwards.
    pub end: String,
    /// The event itself.
    pub event: ClientEvent,
    /// What was before, latest first.
    pub before: Vec<ClientEvent>,
    /// What came after, oldest first.
    pub after: Vec<ClientEvent>,
    /// The state of the room at the last event shown.
    pub state: Vec<ClientEvent>,
}

impl Engine {
    /// One event of a room. Whether one exists that may not be seen is not told.
    pub async fn event(&self, requester: &Requester, room_id: &RoomId, event_id: &EventId) -> Result<ClientEvent> {
        let (view, event) = self.event_in_view(requester, room_id, event_id).await?;
        if let Some(seen) = view.see(event.clone()) {
            let served = self.client_events(requester, &[seen], true).await?;
            return served.into_iter().next().ok_or_else(not_found);
        }
        // The state that a room had when we joined it has no place in the timeline, but is shown to members anyway.
        let is_current = event
            .pdu
            .state_key_pair()
            .is_some_and(|(event_type, state_key)| view.room.state_event_id(&event_type, &state_key) == Some(event_id));
        if event.order.is_some() || !is_current || !view.is_joined() {
            return Err(not_found());
        }
        self.client_state(&[event], true).await?.into_iter().next().ok_or_else(not_found)
    }

    /// An event, what surrounds it, and the state there.
    pub async fn context(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        event_id: &EventId,
        limit: usize,
        filter: impl Into<EventFilter> + Send,
    ) -> Result<Context> {
        let filter = filter.into();
        let (view, event) = self.event_in_view(requester, room_id, event_id).await?;
        let order = event.order.ok_or_else(not_found)?;
        let seen = view.see(event).ok_or_else(not_found)?;
        let limit = limit.min(CONTEXT_EVENTS_MAX);
        let half = limit / 2;
        let ignored = self.ignored_users(&requester.user_id).await?;
        let wanted = |pdu: &Pdu| {
            let is_ignored = pdu.state_key.is_none() && ignored.contains(&pdu.sender);
            !is_ignored && allows(&filter.events, pdu) && filter.relations.allows(pdu)
        };
        let mut before = self.surrounding(&view, &wanted, Direction::Backward, order, half).await?;
        let mut after = self.surrounding(&view, &wanted, Direction::Forward, order, limit - half).await?;
        before.events = self.retain_related(&filter.relations, before.events).await?;
        after.events = self.retain_related(&filter.relations, after.events).await?;
        let last = after.events.last().and_then(|seen| seen.event.order).unwrap_or(order);
        let mut members = senders(&before.events);
        members.extend(senders(&after.events));
        members.insert(seen.event.pdu.sender.clone());
        let state = self.context_state(&view, &filter.events, last, members).await?;
        let served = self.client_events(requester, &[seen], true).await?;
        Ok(Context {
            start: before.reached.unwrap_or(TimelineToken(order - 1)).to_string(),
            end: after.reached.unwrap_or(TimelineToken(order)).to_string(),
            event: served.into_iter().next().ok_or_else(not_found)?,
            before: self.client_events(requester, &before.events, true).await?,
            after: self.client_events(requester, &after.events, true).await?,
            state: self.client_state(&state, true).await?,
        })
    }

    /// An event of that room, and what decides whether it may be seen.
    pub(crate) async fn event_in_view(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<(RoomView, Arc<StoredEvent>)> {
        let event = self.stored_event(event_id).await?.filter(|event| event.pdu.room_id == room_id);
        let event = event.ok_or_else(not_found)?;
        match self.reading_view(requester, room_id).await {
            Ok(view) => Ok((view, event)),
            Err(EngineError::Forbidden(_)) => Err(not_found()),
            Err(error) => Err(error),
        }
    }

    async fn surrounding(
        &self,
        view: &RoomView,
        wanted: &(dyn Fn(&Pdu) -> bool + Sync),
        direction: Direction,
        order: i64,
        limit: usize,
    ) -> Result<Scanned> {
        let (after, until) = match direction {
            Direction::Forward => (Some(order), None),
            Direction::Backward => (None, Some(order - 1)),
        };
        let range = TimelineRange { after, until, direction, limit };
        self.scan_timeline(&view.room.room_id, range, Eyes::View(view), wanted).await
    }

    /// The state at an order; with lazy loading, of the members only those given.
    async fn context_state(
        &self,
        view: &RoomView,
        filter: &RoomEventFilter,
        order: i64,
        members: BTreeSet<OwnedUserId>,
    ) -> Result<Vec<Arc<StoredEvent>>> {
        let is_lazy = lazy_loads(filter);
        let event_ids = self
            .readable_state(view, Some(order), |event_type, state_key| {
                let is_member = *event_type == StateEventType::RoomMember;
                !is_lazy || !is_member || members.iter().any(|user_id| user_id.as_str() == state_key)
            })
            .await?;
        let events = self.storage().readable_events(&event_ids).await?;
        Ok(events.into_iter().filter(|event| allows(filter, &event.pdu)).collect())
    }
}

fn not_found() -> EngineError {
    EngineError::not_found("Event not found")
}

impl SeenEvent {
    /// Its place in the timeline.
    pub(crate) fn order(&self) -> Option<i64> {
        self.event.order
    }
}
