//! Events that are delivered to whoever is in the room until a time.
//!
//! Proposal: <https://github.com/matrix-org/matrix-spec-proposals/pull/4354>

use rules::change::Position;
use ruma::{OwnedEventId, OwnedRoomId, RoomId, UserId};

use crate::{
    Result, Storage,
    cache::RowCache,
    dialect::{db, parsed},
    names::{decode, encode},
};

/// For how many rooms it is remembered until when events are sticky there.
const ROOMS_REMEMBERED_MAX: u64 = 100_000;

/// Until when the events of rooms are sticky; 0 where none is. In nearly all rooms none ever is, and every answer to a
/// client that synchronises asks.
pub(crate) struct StickyRooms(RowCache<OwnedRoomId, i64>);

impl Default for StickyRooms {
    fn default() -> Self {
        Self(RowCache::new(ROOMS_REMEMBERED_MAX, |_, _| 1))
    }
}

impl StickyRooms {
    /// Forgets rooms that have a new sticky event. To be called after that is committed.
    pub(crate) fn forget<'a>(&self, rooms: impl IntoIterator<Item = &'a OwnedRoomId>) {
        self.0.forget(rooms);
    }
}

/// An event that is sticky, for a user who is in its room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StickyEvent {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The event.
    pub event_id: OwnedEventId,
    /// Since when it concerns the user: since it was sent, or since the user came into the room.
    pub since: Position,
}

impl Storage {
    /// The last events of a room with `after < position <= until` that are sticky at a time, oldest first.
    pub async fn sticky_events(
        &self,
        room_id: &RoomId,
        after: Position,
        until: Position,
        now_ms: u64,
        limit: usize,
    ) -> Result<Vec<OwnedEventId>> {
        const SQL: &str = "SELECT event_id FROM sticky_events
            WHERE room_nid = (SELECT name_nid FROM names WHERE name = $1)
            AND position > $2 AND position <= $3 AND until_ts > $4 ORDER BY position DESC LIMIT $5";
        if !self.has_sticky_events(room_id, now_ms).await? {
            return Ok(Vec::new());
        }
        let room = encode(room_id.as_str());
        let found: Vec<String> = db!(self.read(), |pool| {
            let query = sqlx::query_scalar(SQL).bind(&*room).bind(after).bind(until);
            query.bind(now_ms as i64).bind(limit as i64).fetch_all(pool).await
        })?;
        found.iter().rev().map(|event_id| parsed(event_id, "sticky_events", "event_id")).collect()
    }

    async fn has_sticky_events(&self, room_id: &RoomId, now_ms: u64) -> Result<bool> {
        const SQL: &str = "SELECT COALESCE(MAX(until_ts), 0) FROM sticky_events
            WHERE room_nid = (SELECT name_nid FROM names WHERE name = $1)";
        let known = &self.shared.sticky_rooms.0;
        let key = room_id.to_owned();
        if let Some(until_ms) = known.get(&key) {
            return Ok(until_ms.unsigned_abs() > now_ms);
        }
        let (reading, room) = (known.reading(), encode(room_id.as_str()));
        let until_ms: i64 = db!(self.read(), |pool| sqlx::query_scalar(SQL).bind(&*room).fetch_one(pool).await)?;
        known.offer(reading, key, until_ms);
        Ok(until_ms.unsigned_abs() > now_ms)
    }

    /// The events that are sticky at a time in rooms that a local user is joined to, and concern the user with
    /// `after < since <= until`: in that order, the first of them.
    pub async fn sticky_events_for(
        &self,
        user_id: &UserId,
        after: Position,
        until: Position,
        now_ms: u64,
        limit: usize,
    ) -> Result<Vec<StickyEvent>> {
        const SQL: &str = "SELECT r.name, s.event_id,
                CASE WHEN m.position > s.position THEN m.position ELSE s.position END AS since
            FROM sticky_events s
            JOIN memberships m ON m.room_nid = s.room_nid AND m.membership = 'join'
                AND m.user_nid = (SELECT name_nid FROM names WHERE name = $1)
            JOIN names r ON r.name_nid = s.room_nid
            WHERE s.until_ts > $4 AND s.position <= $3 AND m.position <= $3 AND (s.position > $2 OR m.position > $2)
            ORDER BY since, s.position LIMIT $5";
        let user = encode(user_id.as_str());
        let rows: Vec<(String, String, Position)> = db!(self.read(), |pool| {
            let query = sqlx::query_as(SQL).bind(&*user).bind(after).bind(until);
            query.bind(now_ms as i64).bind(limit as i64).fetch_all(pool).await
        })?;
        let event = |(room_id, event_id, since): (String, String, Position)| {
            Ok(StickyEvent {
                room_id: parsed(&decode(room_id), "sticky_events", "room_nid")?,
                event_id: parsed(&event_id, "sticky_events", "event_id")?,
                since,
            })
        };
        rows.into_iter().map(event).collect()
    }

    /// Forgets that events were sticky which no longer are. Returns how many.
    pub async fn prune_sticky_events(&self, now_ms: u64) -> Result<u64> {
        const SQL: &str = "DELETE FROM sticky_events WHERE until_ts <= $1";
        let mut transaction = self.begin().await?;
        let pruned = db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(now_ms as i64);
            query.execute(connection).await.map(|done| done.rows_affected())
        })?;
        transaction.commit().await?;
        Ok(pruned)
    }
}
