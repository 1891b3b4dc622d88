//! The history of rooms of ours, for servers that are in them.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events>

use std::{
    collections::{BTreeSet, BinaryHeap, HashSet},
    sync::Arc,
};

use rules::{RoomSnapshot, change::Standing, room::redact::redacted_json};
use ruma::{
    EventId, OwnedEventId, RoomId, ServerName,
    events::{StateEventType, room::history_visibility::HistoryVisibility},
};
use serde_json::value::RawValue;
use storage::StoredEvent;

use crate::{Engine, EngineError, Result};

/// The most events that one request gets.
const MAX_EVENTS: usize = 100;
/// How many events are gone through for them, those included that were rejected.
const MAX_WALKED: usize = 10 * MAX_EVENTS;
/// The most ids that one request may start from.
const MAX_STARTS: usize = 100;

impl Engine {
    /// Events before the given ones and these themselves, newest first.
    pub async fn federation_backfill(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        from: &[OwnedEventId],
        limit: usize,
    ) -> Result<Vec<Box<RawValue>>> {
        let room = self.room_shared_with(origin, room_id).await?;
        let found = self.walk_back(&room, from, &BTreeSet::new(), limit.min(MAX_EVENTS), 0).await?;
        self.as_seen_by(origin, &room, found).await
    }

    /// Events that lie between `earliest` and `latest`, oldest first.
    pub async fn federation_missing_events(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        earliest: &[OwnedEventId],
        latest: &[OwnedEventId],
        limit: usize,
        min_depth: u64,
    ) -> Result<Vec<Box<RawValue>>> {
        let room = self.room_shared_with(origin, room_id).await?;
        let latest = &latest[..latest.len().min(MAX_STARTS)];
        let known = self.storage().events(latest).await?;
        let known = known.iter().filter(|event| event.pdu.room_id == room_id);
        let starts: Vec<OwnedEventId> = known.flat_map(|event| event.pdu.prev_events.clone()).collect();
        let stop: BTreeSet<OwnedEventId> = earliest.iter().take(MAX_STARTS).cloned().collect();
        let mut found = self.walk_back(&room, &starts, &stop, limit.min(MAX_EVENTS), min_depth).await?;
        found.reverse();
        self.as_seen_by(origin, &room, found).await
    }

    /// One event.
    pub async fn federation_event(&self, origin: &ServerName, event_id: &EventId) -> Result<Box<RawValue>> {
        let missing = || EngineError::not_found("There is no such event, or your server may not see it");
        let event = self.stored_event(event_id).await?.ok_or_else(missing)?;
        let room = self.room_shared_with(origin, &event.pdu.room_id).await.map_err(|_| missing())?;
        let mut seen = self.as_seen_by(origin, &room, vec![event]).await?;
        seen.pop().ok_or_else(missing)
    }

    /// The room, if the asking server is in it. When we have left, what we know of it is still of use to those who were
    /// in it with us: nobody else may know what our last events build upon.
    pub(crate) async fn room_shared_with(&self, origin: &ServerName, room_id: &RoomId) -> Result<Arc<RoomSnapshot>> {
        let room = self.room(room_id).await?.filter(|room| room.has_server(origin));
        let room = room.ok_or_else(|| EngineError::forbidden("Your server is not in that room"))?;
        self.require_acl(&room, origin).await?;
        Ok(room)
    }

    /// Walks the graph backwards from the given events, deepest first, over stored events of this room only. What was
    /// rejected is not given, but does not hide what lies before it.
    async fn walk_back(
        &self,
        room: &RoomSnapshot,
        from: &[OwnedEventId],
        stop: &BTreeSet<OwnedEventId>,
        limit: usize,
        min_depth: u64,
    ) -> Result<Vec<Arc<StoredEvent>>> {
        let mut found = Vec::new();
        let mut by_id = std::collections::HashMap::new();
        let mut queue: BinaryHeap<(u64, OwnedEventId)> = BinaryHeap::new();
        let mut seen: HashSet<OwnedEventId> = stop.iter().cloned().collect();
        let mut next: Vec<OwnedEventId> = from.iter().take(MAX_STARTS).cloned().collect();
        for _ in 0..MAX_WALKED {
            if found.len() >= limit {
                break;
            }
            next.retain(|event_id| seen.insert(event_id.clone()));
            for event in self.storage().events(&next).await? {
                let fits = event.pdu.room_id == room.room_id
                    && event.pdu.depth >= min_depth
                    && event.standing != Standing::Outlier;
                if fits {
                    queue.push((event.pdu.depth, event.pdu.event_id.clone()));
                    by_id.insert(event.pdu.event_id.clone(), event);
                }
            }
            let Some((_, event_id)) = queue.pop() else { break };
            let Some(event) = by_id.remove(&event_id) else { break };
            next.clone_from(&event.pdu.prev_events);
            if !matches!(event.standing, Standing::Rejected(_)) {
                found.push(event);
            }
        }
        Ok(found)
    }

    /// Events as a server may see them: whole, or, where none of its users may read them, redacted, so that the graph
    /// stays whole.
    async fn as_seen_by(
        &self,
        origin: &ServerName,
        room: &RoomSnapshot,
        events: Vec<Arc<StoredEvent>>,
    ) -> Result<Vec<Box<RawValue>>> {
        let visibilities =
            self.storage().state_history(&room.room_id, &StateEventType::RoomHistoryVisibility, "").await?;
        let mut seen = Vec::with_capacity(events.len());
        for event in events {
            let order = event.order.unwrap_or(room.position);
            let span = visibilities.iter().find(|span| span.contains(order));
            let setting = match span {
                Some(span) => match &span.event_id {
                    Some(event_id) => self
                        .stored_event(event_id)
                        .await?
                        .and_then(|event| event.pdu.content_str("history_visibility").map(HistoryVisibility::from)),
                    None => Some(HistoryVisibility::Joined),
                },
                None => None,
            };
            let members_only = matches!(setting, Some(HistoryVisibility::Joined | HistoryVisibility::Invited));
            let is_state = event.pdu.state_key.is_some();
            let was_there = || self.storage().room_servers_at(&room.room_id, order);
            if !members_only || is_state || was_there().await?.iter().any(|server| server == origin) {
                seen.push(event.pdu.to_raw_json());
            } else if let Some(redacted) = redacted_json(&event.pdu, &room.rules) {
                seen.extend(RawValue::from_string(redacted.into()).ok());
            }
        }
        Ok(seen)
    }
}
