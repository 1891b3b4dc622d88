//! A room's timeline: one linear order, live events by position, backfilled ones below zero.

use std::{collections::HashMap, sync::Arc};

use ruma::{OwnedEventId, OwnedRoomId, RoomId, events::TimelineEventType};

use crate::{
    LogEntry, LogKind, Result, Storage, StoredEvent,
    dialect::{db, list, parsed},
    names::{decode, encode},
};

/// Which way to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Ascending, from `after`.
    Forward,
    /// Descending, from `until`.
    Backward,
}

/// A part of a timeline.
#[derive(Clone, Copy, Debug)]
pub struct TimelineRange {
    /// Only events with a greater order.
    pub after: Option<i64>,
    /// Only events with this order or a lesser one.
    pub until: Option<i64>,
    /// Which way to read.
    pub direction: Direction,
    /// How many events at most.
    pub limit: usize,
}

impl Storage {
    /// A part of a room's timeline, without what cannot be read.
    pub async fn timeline(&self, room_id: &RoomId, range: TimelineRange) -> Result<Vec<Arc<StoredEvent>>> {
        let mut unreadable = 0;
        loop {
            // Others take the place of what cannot be read: whoever gets fewer than asked for takes that for the end.
            let event_ids =
                self.timeline_ids(room_id, TimelineRange { limit: range.limit + unreadable, ..range }).await?;
            let mut events = self.readable_events(&event_ids).await?;
            if events.len() >= range.limit || event_ids.len() < range.limit + unreadable {
                events.truncate(range.limit);
                return Ok(events);
            }
            unreadable = event_ids.len() - events.len();
        }
    }

    async fn timeline_ids(&self, room_id: &RoomId, range: TimelineRange) -> Result<Vec<OwnedEventId>> {
        const FORWARD: &str = "SELECT event_id FROM events
            WHERE room_nid = (SELECT name_nid FROM names WHERE name = $1)
            AND timeline_order > $2 AND timeline_order <= $3 ORDER BY timeline_order LIMIT +$4";
        const BACKWARD: &str = "SELECT event_id FROM events
            WHERE room_nid = (SELECT name_nid FROM names WHERE name = $1)
            AND timeline_order > $2 AND timeline_order <= $3 ORDER BY timeline_order DESC LIMIT +$4";
        if let Some(event_ids) = self.recent_timeline(room_id, range) {
            return Ok(event_ids);
        }
        let sql = match range.direction {
            Direction::Forward => FORWARD,
            Direction::Backward => BACKWARD,
        };
        let (after, until) = (range.after.unwrap_or(i64::MIN), range.until.unwrap_or(i64::MAX));
        let limit = i64::try_from(range.limit).unwrap_or(i64::MAX);
        let name = encode(room_id.as_str());
        let event_ids: Vec<String> = db!(self.read(), |pool| {
            sqlx::query_scalar(sql).bind(&*name).bind(after).bind(until).bind(limit).fetch_all(pool).await
        })?;
        event_ids.iter().map(|id| parsed(id, "events", "event_id")).collect()
    }

    /// The same, as far as memory reaches: the order of a live event is its position in the log.
    fn recent_timeline(&self, room_id: &RoomId, range: TimelineRange) -> Option<Vec<OwnedEventId>> {
        let (after, until) = (range.after.filter(|after| *after >= 0)?, range.until.unwrap_or(i64::MAX));
        let event = |entry: &LogEntry| {
            let is_here = entry.kind == LogKind::Event && entry.room_id.as_deref() == Some(room_id);
            entry.event_id.clone().filter(|_| is_here)
        };
        self.shared.bus.read(after, until, |entries| match range.direction {
            Direction::Forward => entries.filter_map(event).take(range.limit).collect(),
            Direction::Backward => entries.rev().filter_map(event).take(range.limit).collect(),
        })
    }

    /// The order, in the timeline of each of some rooms, of the last event that has one of these types. Rooms without one
    /// are left out.
    pub async fn last_of_types(
        &self,
        room_ids: &[OwnedRoomId],
        event_types: &[TimelineEventType],
    ) -> Result<HashMap<OwnedRoomId, i64>> {
        const SQL: &str = "SELECT r.name, (SELECT e.timeline_order FROM events e
                WHERE e.room_nid = r.name_nid AND e.timeline_order IS NOT NULL AND e.standing = 0
                AND e.type_nid IN (SELECT t.name_nid FROM names t WHERE t.name IN (SELECT value FROM json_each($2)))
                ORDER BY e.timeline_order DESC LIMIT 1)
            FROM names r WHERE r.name IN (SELECT value FROM json_each($1))";
        let names: Vec<_> = room_ids.iter().map(|room_id| encode(room_id.as_str())).collect();
        let names = list(names.iter().map(|name| &**name));
        let types: Vec<String> = event_types.iter().map(ToString::to_string).collect();
        let types = list(types.iter().map(String::as_str));
        let rows: Vec<(String, Option<i64>)> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(names).bind(types).fetch_all(pool).await)?;
        let found = rows.into_iter().filter_map(|(room_id, order)| Some((room_id, order?)));
        found.map(|(room_id, order)| Ok((parsed(&decode(room_id), "names", "name")?, order))).collect()
    }

    /// The least order in a room's timeline.
    pub async fn timeline_start(&self, room_id: &RoomId) -> Result<Option<i64>> {
        const SQL: &str = "SELECT MIN(timeline_order) FROM events
            WHERE room_nid = (SELECT name_nid FROM names WHERE name = $1) AND timeline_order IS NOT NULL";
        let name = encode(room_id.as_str());
        Ok(db!(self.read(), |pool| sqlx::query_scalar(SQL).bind(&*name).fetch_one(pool).await)?)
    }
}
