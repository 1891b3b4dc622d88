//! Events that are delivered to whoever is in the room until a time.
//!
//! Proposal: <https://github.com/matrix-org/matrix-spec-proposals/pull/4354>

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use rules::change::Position;
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId, UserId};

use crate::{
    Result, Storage,
    database::Shared,
    dialect::{db, parsed},
    names::{decode, encode},
};

/// The sticky events, by their rooms. In nearly all rooms none ever is, and every answer to a client that synchronises
/// asks. Holds no more than the table does.
#[derive(Default)]
pub(crate) struct StickyRooms(RwLock<HashMap<OwnedRoomId, StickyRoom>>);

#[derive(Default)]
struct StickyRoom {
    /// Until when the last of them is sticky.
    last_ms: u64,
    until_ms: HashMap<OwnedEventId, u64>,
}

impl StickyRooms {
    /// Takes in sticky events, and until when they are. To be called before anybody hears of them.
    pub(crate) fn extend(&self, events: impl IntoIterator<Item = (OwnedRoomId, OwnedEventId, u64)>) {
        let mut rooms = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (room_id, event_id, until_ms) in events {
            let room = rooms.entry(room_id).or_default();
            room.last_ms = until_ms.max(room.last_ms);
            room.until_ms.insert(event_id, until_ms);
        }
    }

    fn has_any(&self, room_id: &RoomId, now_ms: u64) -> bool {
        let rooms = self.0.read().unwrap_or_else(PoisonError::into_inner);
        rooms.get(room_id).is_some_and(|room| room.last_ms > now_ms)
    }

    fn forget_until(&self, now_ms: u64) {
        let mut rooms = self.0.write().unwrap_or_else(PoisonError::into_inner);
        rooms.retain(|_, room| {
            room.until_ms.retain(|_, until_ms| *until_ms > now_ms);
            !room.until_ms.is_empty()
        });
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
    /// When it was sent.
    pub position: Position,
}

impl Shared {
    /// Takes in what was sticky when the server stopped. For the start, before anybody asks.
    pub(crate) async fn load_sticky_rooms(&self) -> Result<()> {
        const SQL: &str = "SELECT r.name, s.event_id, s.until_ts FROM sticky_events s
            JOIN names r ON r.name_nid = s.room_nid";
        let rows: Vec<(String, String, i64)> = db!(self.read(), |pool| sqlx::query_as(SQL).fetch_all(pool).await)?;
        let event = |(room_id, event_id, until_ms): (String, String, i64)| {
            let room_id = parsed(&decode(room_id), "sticky_events", "room_nid")?;
            Ok((room_id, parsed(&event_id, "sticky_events", "event_id")?, until_ms.unsigned_abs()))
        };
        self.sticky_rooms.extend(rows.into_iter().map(event).collect::<Result<Vec<_>>>()?);
        Ok(())
    }
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
            AND position > $2 AND position <= $3 AND until_ts > $4 ORDER BY position DESC LIMIT +$5";
        if !self.shared.sticky_rooms.has_any(room_id, now_ms) {
            return Ok(Vec::new());
        }
        let room = encode(room_id.as_str());
        let found: Vec<String> = db!(self.read(), |pool| {
            let query = sqlx::query_scalar(SQL).bind(&*room).bind(after).bind(until);
            query.bind(now_ms as i64).bind(limit as i64).fetch_all(pool).await
        })?;
        found.iter().rev().map(|event_id| parsed(event_id, "sticky_events", "event_id")).collect()
    }

    /// Until when an event of a room is sticky, in milliseconds since the epoch; nothing if it never was, or no longer is
    /// for some time. Costs no query.
    pub fn sticky_until(&self, room_id: &RoomId, event_id: &EventId) -> Option<u64> {
        let rooms = self.shared.sticky_rooms.0.read().unwrap_or_else(PoisonError::into_inner);
        rooms.get(room_id)?.until_ms.get(event_id).copied()
    }

    /// The events that are sticky at a time in rooms that a local user is joined to, and concern the user since after
    /// `after` and up to `until`: in that order, the first of them. All that concern the user since the same moment, for
    /// the user came into the room then, are told apart by their own positions, of which those up to the second of
    /// `after` are left out.
    pub async fn sticky_events_for(
        &self,
        user_id: &UserId,
        after: (Position, Position),
        until: Position,
        now_ms: u64,
        limit: usize,
    ) -> Result<Vec<StickyEvent>> {
        const SQL: &str = "SELECT room, event_id, since, position FROM (
                SELECT r.name AS room, s.event_id AS event_id, s.position AS position,
                    CASE WHEN m.position > s.position THEN m.position ELSE s.position END AS since
                FROM sticky_events s
                JOIN memberships m ON m.room_nid = s.room_nid AND m.membership = 'join'
                    AND m.user_nid = (SELECT name_nid FROM names WHERE name = $1)
                JOIN names r ON r.name_nid = s.room_nid
                WHERE s.until_ts > $5 AND s.position <= $4 AND m.position <= $4
            ) found
            WHERE since > $2 OR (since = $2 AND position > $3)
            ORDER BY since, position LIMIT +$6";
        let user = encode(user_id.as_str());
        let rows: Vec<(String, String, Position, Position)> = db!(self.read(), |pool| {
            let query = sqlx::query_as(SQL).bind(&*user).bind(after.0).bind(after.1).bind(until);
            query.bind(now_ms as i64).bind(limit as i64).fetch_all(pool).await
        })?;
        let event = |(room_id, event_id, since, position): (String, String, Position, Position)| {
            Ok(StickyEvent {
                room_id: parsed(&decode(room_id), "sticky_events", "room_nid")?,
                event_id: parsed(&event_id, "sticky_events", "event_id")?,
                since,
                position,
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
        self.shared.sticky_rooms.forget_until(now_ms);
        Ok(pruned)
    }
}
