//! The event of a room that is closest to a time.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidtimestamp_to_event>

use std::sync::Arc;

use rules::{RoomSnapshot, change::Standing};
use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId, RoomId, UInt};
use storage::{Direction, StoredEvent, TimelineRange};

use super::{RoomView, SeenEvent};
use crate::{Engine, EngineError, Requester, Result};

/// How many events are looked at for one that may be seen.
const MAX_LOOKED_AT: usize = 200;
/// How often history is fetched to get to the one that another server has named, and how many events at a time.
const MAX_BACKFILLS: usize = 5;
const BACKFILL_EVENTS: usize = 100;

/// An event and its time.
pub type EventAtTime = (OwnedEventId, MilliSecondsSinceUnixEpoch);

impl Engine {
    /// The event closest to a time that the asker may see: at it or after, or at it or before.
    pub async fn timestamp_to_event(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        ts: u64,
        forward: bool,
    ) -> Result<EventAtTime> {
        let view = self.reading_view(requester, room_id).await?;
        let found = self.closest_seen(&view, ts, forward).await?;
        if !self.may_be_elsewhere(&view.room, ts, found.as_ref()).await? {
            return found.map(|seen| at_time(&seen.event)).ok_or_else(not_found);
        }
        let closer = self.ask_for_closer(&view.room, ts, forward, found.as_ref()).await?;
        if closer {
            let view = self.reading_view(requester, room_id).await?;
            return self.closest_seen(&view, ts, forward).await?.map(|seen| at_time(&seen.event)).ok_or_else(not_found);
        }
        found.map(|seen| at_time(&seen.event)).ok_or_else(not_found)
    }

    /// The event closest to a time, of what we have of a room, for a server that is in it.
    pub async fn federation_timestamp_to_event(
        &self,
        origin: &ruma::ServerName,
        room_id: &RoomId,
        ts: u64,
        forward: bool,
    ) -> Result<EventAtTime> {
        self.room_shared_with(origin, room_id).await?;
        let event_ids = self.storage().events_by_time(room_id, ts, forward, 1).await?;
        self.storage().events(&event_ids).await?.first().map(at_time).ok_or_else(not_found)
    }

    async fn closest_seen(&self, view: &RoomView, ts: u64, forward: bool) -> Result<Option<SeenEvent>> {
        let event_ids = self.storage().events_by_time(&view.room.room_id, ts, forward, MAX_LOOKED_AT).await?;
        let events = self.storage().events(&event_ids).await?;
        Ok(events.into_iter().find_map(|event| view.see(event)))
    }

    /// Whether the time lies before what we have of the room, so that another server may know better.
    async fn may_be_elsewhere(&self, room: &RoomSnapshot, ts: u64, found: Option<&SeenEvent>) -> Result<bool> {
        if self.storage().missing_prev_events(&room.room_id).await?.is_empty() {
            return Ok(false);
        }
        let limit = MAX_LOOKED_AT;
        let range = TimelineRange { after: None, until: None, direction: Direction::Forward, limit };
        let timeline = self.storage().timeline(&room.room_id, range).await?;
        let first = timeline.iter().find(|event| event.standing == Standing::Accepted);
        Ok(found.is_none() || first.is_none_or(|event| u64::from(event.pdu.origin_server_ts.0) >= ts))
    }

    /// Asks other servers in the room for a closer event, and fetches the history up to it. Says whether there is one.
    async fn ask_for_closer(
        &self,
        room: &RoomSnapshot,
        ts: u64,
        forward: bool,
        found: Option<&SeenEvent>,
    ) -> Result<bool> {
        let distance = found.map(|seen| u64::from(seen.event.pdu.origin_server_ts.0).abs_diff(ts));
        let mut asking = self.asking(room);
        while let Some(server) = asking.next() {
            let asked = self.federation().timestamp_to_event(&server, &room.room_id, ts, forward);
            let Some((event_id, found_ts)) = asking.answer(asked).await else { continue };
            let is_on_that_side = if forward { found_ts >= ts } else { found_ts <= ts };
            if !is_on_that_side || distance.is_some_and(|distance| found_ts.abs_diff(ts) >= distance) {
                continue;
            }
            return self.fetch_back_to(room, &event_id).await;
        }
        Ok(false)
    }

    async fn fetch_back_to(&self, room: &RoomSnapshot, event_id: &OwnedEventId) -> Result<bool> {
        for _ in 0..MAX_BACKFILLS {
            let is_there = |event: &Arc<StoredEvent>| event.order.is_some() && event.pdu.room_id == room.room_id;
            if self.stored_event(event_id).await?.as_ref().is_some_and(is_there) {
                return Ok(true);
            }
            if !self.backfill(room, BACKFILL_EVENTS).await? {
                break;
            }
        }
        // What was fetched may be closer, even so.
        Ok(true)
    }
}

fn at_time(event: &Arc<StoredEvent>) -> EventAtTime {
    (event.pdu.event_id.clone(), MilliSecondsSinceUnixEpoch(UInt::new_saturating(event.pdu.origin_server_ts.0.into())))
}

fn not_found() -> EngineError {
    EngineError::not_found("There is no such event that you may see")
}
