//! A room's timeline: one linear order, live events by position, backfilled ones below zero.

use std::{collections::HashMap, sync::Arc};

use ruma::{OwnedEventId, OwnedRoomId, RoomId, events::TimelineEventType};

use crate::{
    Result, Storage, StorageError, StoredEvent,
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

/// The ids of a part of a timeline, in its order, as one JSON array: a row for each of them costs more than to find it.
macro_rules! page_sql {
    (sqlite, $direction:literal) => {
        page_sql!("json_group_array(event_id)", $direction)
    };
    (postgres, $direction:literal) => {
        page_sql!("CAST(COALESCE(json_agg(event_id), '[]') AS TEXT)", $direction)
    };
    ($gathered:literal, $direction:literal) => {
        concat!(
            "SELECT ",
            $gathered,
            " FROM (SELECT event_id FROM events
            WHERE room_nid = (SELECT name_nid FROM names WHERE name = $1)
            AND timeline_order > $2 AND timeline_order <= $3 ORDER BY timeline_order ",
            $direction,
            " LIMIT +$4) AS page"
        )
    };
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
        if let Some(event_ids) = self.recent_timeline(room_id, range) {
            return Ok(event_ids);
        }
        let readers = self.read();
        let sql = match range.direction {
            Direction::Forward => readers.spelled(page_sql!(sqlite, "ASC"), page_sql!(postgres, "ASC")),
            Direction::Backward => readers.spelled(page_sql!(sqlite, "DESC"), page_sql!(postgres, "DESC")),
        };
        let (after, until) = (range.after.unwrap_or(i64::MIN), range.until.unwrap_or(i64::MAX));
        let limit = i64::try_from(range.limit).unwrap_or(i64::MAX);
        let name = encode(room_id.as_str());
        let page: String = db!(readers, |pool| {
            sqlx::query_scalar(sql).bind(&*name).bind(after).bind(until).bind(limit).fetch_one(pool).await
        })?;
        let unreadable =
            |error: serde_json::Error| StorageError::corrupt("events", "event_id", room_id.as_str(), &error);
        serde_json::from_str(&page).map_err(unreadable)
    }

    /// The same, as far as memory reaches: the order of a live event is its position in the log.
    fn recent_timeline(&self, room_id: &RoomId, range: TimelineRange) -> Option<Vec<OwnedEventId>> {
        let (after, until) = (range.after.filter(|after| *after >= 0)?, range.until.unwrap_or(i64::MAX));
        self.shared.bus.read_events(room_id, after, until, |event_ids| match range.direction {
            Direction::Forward => event_ids.take(range.limit).cloned().collect(),
            Direction::Backward => event_ids.rev().take(range.limit).cloned().collect(),
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
