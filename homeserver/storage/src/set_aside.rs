//! Events from other servers of which something that they build upon was not to be had: to be judged again.

use std::sync::Arc;

use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedServerName, RoomId};

use crate::{
    Result, Storage,
    dialect::{db, parsed, storable, without_nul},
    names::encode,
};

/// An event that waits for what it builds upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAsideEvent {
    /// The event.
    pub event_id: OwnedEventId,
    /// The room that it is for.
    pub room_id: OwnedRoomId,
    /// The server that sent it.
    pub origin: OwnedServerName,
    /// The event as it came.
    pub json: String,
    /// Since when it waits, in milliseconds since the epoch.
    pub since_ts: u64,
    /// How often it was tried since.
    pub attempts: u32,
    /// When to try it next, in milliseconds since the epoch.
    pub next_ts: u64,
}

/// The fields of a [`SetAsideEvent`], in its order.
type Row = (String, String, String, String, i64, i64, i64);

impl Storage {
    /// Keeps an event that is to be judged again, and leaves one that is kept already as it is. Whether it is kept: a
    /// room has at most `max_in_room` of them, of each server that sends them at most `max_of_origin`.
    pub async fn set_event_aside(
        &self,
        event: &SetAsideEvent,
        max_in_room: usize,
        max_of_origin: usize,
    ) -> Result<bool> {
        const INSERT: &str =
            "INSERT INTO set_aside_events (event_id, room_id, origin, json, since_ts, attempts, next_ts)
            SELECT $1, $2, $3, $4, $5, $6, $7 WHERE (SELECT COUNT(*) FROM set_aside_events WHERE room_id = $2) < $8
            AND (SELECT COUNT(*) FROM set_aside_events WHERE room_id = $2 AND origin = $3) < $9
            ON CONFLICT (event_id) DO NOTHING";
        const KEPT: &str = "SELECT COUNT(*) FROM set_aside_events WHERE event_id = $1";
        let event_id = storable(event.event_id.as_str(), "an event id")?;
        let room_id = storable(event.room_id.as_str(), "a room id")?;
        let origin = storable(event.origin.as_str(), "a server name")?;
        let json = without_nul(&event.json);
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            let query = sqlx::query(INSERT).bind(event_id).bind(room_id).bind(origin).bind(json);
            let query = query.bind(event.since_ts as i64).bind(i64::from(event.attempts)).bind(event.next_ts as i64);
            let query = query.bind(max_in_room as i64).bind(max_of_origin as i64);
            query.execute(connection).await.map(drop)
        })?;
        let kept: i64 = db!(transaction.connection(), |connection| {
            sqlx::query_scalar(KEPT).bind(event_id).fetch_one(connection).await
        })?;
        transaction.commit().await?;
        Ok(kept > 0)
    }

    /// Notes how often an event was tried, and when to try it next.
    pub async fn postpone_set_aside(&self, event_id: &EventId, attempts: u32, next_ts: u64) -> Result<()> {
        const SQL: &str = "UPDATE set_aside_events SET attempts = $1, next_ts = $2 WHERE event_id = $3";
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(i64::from(attempts)).bind(next_ts as i64).bind(event_id.as_str());
            query.execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }

    /// Lets all events of a room that wait be tried at `next_ts` at the latest.
    pub async fn hasten_set_aside(&self, room_id: &RoomId, next_ts: u64) -> Result<()> {
        const SQL: &str = "UPDATE set_aside_events SET next_ts = $2 WHERE room_id = $1 AND next_ts > $2";
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(room_id.as_str()).bind(next_ts as i64);
            query.execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }

    /// The events of a room that wait, those that wait longest first.
    pub async fn events_set_aside(&self, room_id: &RoomId) -> Result<Vec<SetAsideEvent>> {
        const SQL: &str = "SELECT event_id, room_id, origin, json, since_ts, attempts, next_ts FROM set_aside_events
            WHERE room_id = $1 ORDER BY since_ts, event_id";
        let rows: Vec<Row> = db!(self.read(), |pool| sqlx::query_as(SQL).bind(room_id.as_str()).fetch_all(pool).await)?;
        rows.into_iter().map(set_aside_event).collect()
    }

    /// Rooms with events that are to be tried by now, each once, those that are to be tried longest first: up to `limit`.
    pub async fn rooms_with_due_events(&self, now_ts: u64, limit: usize) -> Result<Vec<OwnedRoomId>> {
        const SQL: &str = "SELECT room_id FROM set_aside_events WHERE next_ts <= $1
            GROUP BY room_id ORDER BY MIN(next_ts), room_id LIMIT +$2";
        let rooms: Vec<String> = db!(self.read(), |pool| {
            sqlx::query_scalar(SQL).bind(now_ts as i64).bind(limit as i64).fetch_all(pool).await
        })?;
        rooms.iter().map(|room_id| parsed(room_id, "set_aside_events", "room_id")).collect()
    }

    /// Events of a room that were soft-failed for that reason and do not wait, those that came first first: up to `limit`.
    pub async fn soft_failed_for(&self, room_id: &RoomId, reason: &str, limit: usize) -> Result<Vec<OwnedEventId>> {
        const SQL: &str = "SELECT event_id FROM events
            WHERE room_nid = (SELECT name_nid FROM names WHERE name = $1) AND standing = 1 AND reason = $2
            AND NOT EXISTS (SELECT 1 FROM set_aside_events w WHERE w.event_id = events.event_id)
            ORDER BY event_nid LIMIT +$3";
        let name = encode(room_id.as_str());
        let found: Vec<String> = db!(self.read(), |pool| {
            sqlx::query_scalar(SQL).bind(&*name).bind(reason).bind(limit as i64).fetch_all(pool).await
        })?;
        found.iter().map(|event_id| parsed(event_id, "events", "event_id")).collect()
    }

    /// Keeps an event no longer that was soft-failed, for the time being, for that reason: from now on it is for good,
    /// for another one.
    pub async fn give_up_soft_failed(&self, event_id: &EventId, reason: &str, for_good: &'static str) -> Result<()> {
        const KEPT: &str = "DELETE FROM set_aside_events WHERE event_id = $1";
        const SQL: &str = "UPDATE events SET reason = $3 WHERE event_id = $1 AND standing = 1 AND reason = $2";
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            sqlx::query(KEPT).bind(event_id.as_str()).execute(connection).await.map(drop)
        })?;
        db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(event_id.as_str()).bind(reason).bind(for_good);
            query.execute(connection).await.map(drop)
        })?;
        let (shared, changed) = (Arc::clone(&self.shared), [event_id.to_owned()]);
        transaction.afterwards(move || shared.events.forget(&changed));
        transaction.commit().await
    }

    /// Keeps an event no longer.
    pub async fn forget_event_set_aside(&self, event_id: &EventId) -> Result<()> {
        const SQL: &str = "DELETE FROM set_aside_events WHERE event_id = $1";
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            sqlx::query(SQL).bind(event_id.as_str()).execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }
}

fn set_aside_event(row: Row) -> Result<SetAsideEvent> {
    let (event_id, room_id, origin, json, since_ts, attempts, next_ts) = row;
    Ok(SetAsideEvent {
        event_id: parsed(&event_id, "set_aside_events", "event_id")?,
        room_id: parsed(&room_id, "set_aside_events", "room_id")?,
        origin: parsed(&origin, "set_aside_events", "origin")?,
        json,
        since_ts: since_ts as u64,
        attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
        next_ts: next_ts as u64,
    })
}
