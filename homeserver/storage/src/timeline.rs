//! A room's timeline: one linear order, live events by position, backfilled ones below zero.

use std::sync::Arc;

use ruma::RoomId;

use crate::{
    Result, Storage, StoredEvent,
    dialect::{db, parsed},
    names::encode,
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
    /// A part of a room's timeline.
    pub async fn timeline(&self, room_id: &RoomId, range: TimelineRange) -> Result<Vec<Arc<StoredEvent>>> {
        const FORWARD: &str = "SELECT event_id FROM events
            WHERE room_nid = (SELECT name_nid FROM names WHERE name = $1)
            AND timeline_order > $2 AND timeline_order <= $3 ORDER BY timeline_order LIMIT $4";
        const BACKWARD: &str = "SELECT event_id FROM events
            WHERE room_nid = (SELECT name_nid FROM names WHERE name = $1)
            AND timeline_order > $2 AND timeline_order <= $3 ORDER BY timeline_order DESC LIMIT $4";
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
        let event_ids: Result<Vec<_>> = event_ids.iter().map(|id| parsed(id, "events", "event_id")).collect();
        self.events(&event_ids?).await
    }

    /// The least order in a room's timeline.
    pub async fn timeline_start(&self, room_id: &RoomId) -> Result<Option<i64>> {
        const SQL: &str = "SELECT MIN(timeline_order) FROM events
            WHERE room_nid = (SELECT name_nid FROM names WHERE name = $1) AND timeline_order IS NOT NULL";
        let name = encode(room_id.as_str());
        Ok(db!(self.read(), |pool| sqlx::query_scalar(SQL).bind(&*name).fetch_one(pool).await)?)
    }
}
