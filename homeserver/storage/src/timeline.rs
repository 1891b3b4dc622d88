//! A room's timeline: one linear order, live events by position, backfilled ones below 1.

use std::sync::Arc;

use ruma::RoomId;

use crate::{Result, Storage, StoredEvent};

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
        todo!()
    }

    /// The least order in a room's timeline.
    pub async fn timeline_start(&self, room_id: &RoomId) -> Result<Option<i64>> {
        todo!()
    }
}
