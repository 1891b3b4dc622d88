//! Events that are to be sent later.

use ruma::{DeviceId, OwnedDeviceId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde_json::value::RawValue;

use crate::{
    Result, Storage, StorageError,
    dialect::{db, parsed, storable},
};

/// An event that is to be sent later.
#[derive(Clone, Debug)]
pub struct DelayedEvent {
    /// What it is called: a secret, for who knows it may prevent or hasten the event.
    pub delay_id: String,
    /// Who sends it.
    pub user_id: OwnedUserId,
    /// From which device.
    pub device_id: OwnedDeviceId,
    /// Into which room.
    pub room_id: OwnedRoomId,
    /// The event type.
    pub event_type: String,
    /// For a state event: its key.
    pub state_key: Option<String>,
    /// The content.
    pub content: Box<RawValue>,
    /// How long it waits, in milliseconds.
    pub delay_ms: u64,
    /// Since when.
    pub running_since_ts: u64,
    /// Until when.
    pub send_ts: u64,
    /// The transaction id of the request that asked for it.
    pub transaction_id: Option<String>,
    /// For how long it will be sticky, in milliseconds, if it will.
    pub sticky_duration_ms: Option<u32>,
}

/// The fields of a [`DelayedEvent`], in its order.
type Row = (String, String, String, String, String, Option<String>, String, i64, i64, i64, Option<String>, i64);

/// The columns of a [`Row`].
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT delay_id, user_id, device_id, room_id, event_type, state_key, content, delay_ms, running_since_ts,
            send_ts, transaction_id, sticky_duration_ms FROM delayed_events ",
            $rest
        )
    };
}

impl Storage {
    /// Keeps an event to be sent later. The same request of the same device again keeps nothing, and returns the id
    /// that was given then.
    pub async fn store_delayed_event(&self, event: &DelayedEvent) -> Result<()> {
        const SQL: &str = "INSERT INTO delayed_events (delay_id, user_id, device_id, room_id, event_type, state_key,
            content, delay_ms, running_since_ts, send_ts, transaction_id, sticky_duration_ms)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
        let event_type = storable(&event.event_type, "an event type")?;
        let state_key = event.state_key.as_deref().map(|key| storable(key, "a state key")).transpose()?;
        let transaction_id = event.transaction_id.as_deref().map(|id| storable(id, "a transaction id")).transpose()?;
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(&event.delay_id).bind(event.user_id.as_str());
            let query = query.bind(event.device_id.as_str()).bind(event.room_id.as_str()).bind(event_type);
            let query = query.bind(state_key).bind(event.content.get()).bind(event.delay_ms as i64);
            let query = query.bind(event.running_since_ts as i64).bind(event.send_ts as i64).bind(transaction_id);
            let query = query.bind(i64::from(event.sticky_duration_ms.unwrap_or(0)));
            query.execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }

    /// One event that waits.
    pub async fn delayed_event(&self, delay_id: &str) -> Result<Option<DelayedEvent>> {
        const SQL: &str = select!("WHERE delay_id = $1");
        let delay_id = storable(delay_id, "a delay id")?;
        let row: Option<Row> = db!(self.read(), |pool| sqlx::query_as(SQL).bind(delay_id).fetch_optional(pool).await)?;
        row.map(delayed_event).transpose()
    }

    /// What a request of a device led to, if it was done before.
    pub async fn delayed_event_of_transaction(
        &self,
        user_id: &UserId,
        device_id: &DeviceId,
        room_id: &RoomId,
        transaction_id: &str,
    ) -> Result<Option<DelayedEvent>> {
        const SQL: &str = select!("WHERE user_id = $1 AND device_id = $2 AND room_id = $3 AND transaction_id = $4");
        let transaction_id = storable(transaction_id, "a transaction id")?;
        let row: Option<Row> = db!(self.read(), |pool| {
            let query = sqlx::query_as(SQL).bind(user_id.as_str()).bind(device_id.as_str());
            query.bind(room_id.as_str()).bind(transaction_id).fetch_optional(pool).await
        })?;
        row.map(delayed_event).transpose()
    }

    /// A user's events that wait, the next one first.
    pub async fn delayed_events(&self, user_id: &UserId) -> Result<Vec<DelayedEvent>> {
        const SQL: &str = select!("WHERE user_id = $1 ORDER BY send_ts, delay_id");
        let rows: Vec<Row> = db!(self.read(), |pool| sqlx::query_as(SQL).bind(user_id.as_str()).fetch_all(pool).await)?;
        rows.into_iter().map(delayed_event).collect()
    }

    /// Events whose time has come, the earliest first.
    pub async fn due_delayed_events(&self, now_ts: u64, limit: usize) -> Result<Vec<DelayedEvent>> {
        const SQL: &str = select!("WHERE send_ts <= $1 ORDER BY send_ts, delay_id LIMIT +$2");
        let rows: Vec<Row> = db!(self.read(), |pool| {
            sqlx::query_as(SQL).bind(now_ts as i64).bind(limit as i64).fetch_all(pool).await
        })?;
        rows.into_iter().map(delayed_event).collect()
    }

    /// The rooms of which state waits to be set.
    pub async fn rooms_with_delayed_state(&self) -> Result<Vec<OwnedRoomId>> {
        const SQL: &str = "SELECT DISTINCT room_id FROM delayed_events WHERE state_key IS NOT NULL";
        let rooms: Vec<String> = db!(self.read(), |pool| sqlx::query_scalar(SQL).fetch_all(pool).await)?;
        rooms.iter().map(|room_id| parsed(room_id, "delayed_events", "room_id")).collect()
    }

    /// When the next event is due.
    pub async fn next_delayed_event_ts(&self) -> Result<Option<u64>> {
        const SQL: &str = "SELECT MIN(send_ts) FROM delayed_events";
        let next: Option<i64> = db!(self.read(), |pool| sqlx::query_scalar(SQL).fetch_one(pool).await)?;
        Ok(next.map(i64::unsigned_abs))
    }

    /// Lets an event wait anew from now on. Returns whether it was still there.
    pub async fn restart_delayed_event(&self, delay_id: &str, now_ts: u64) -> Result<bool> {
        const SQL: &str =
            "UPDATE delayed_events SET running_since_ts = $2, send_ts = $2 + delay_ms WHERE delay_id = $1";
        let delay_id = storable(delay_id, "a delay id")?;
        let mut transaction = self.begin().await?;
        let restarted = db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(delay_id).bind(now_ts as i64);
            query.execute(connection).await.map(|done| done.rows_affected())
        })?;
        transaction.commit().await?;
        Ok(restarted > 0)
    }

    /// Forgets an event that waits. Returns whether it was still there: who takes it away may do with it what they will.
    pub async fn take_delayed_event(&self, delay_id: &str) -> Result<bool> {
        const SQL: &str = "DELETE FROM delayed_events WHERE delay_id = $1";
        let delay_id = storable(delay_id, "a delay id")?;
        let mut transaction = self.begin().await?;
        let taken = db!(transaction.connection(), |connection| {
            sqlx::query(SQL).bind(delay_id).execute(connection).await.map(|done| done.rows_affected())
        })?;
        transaction.commit().await?;
        Ok(taken > 0)
    }

    /// Forgets the events of a key of a room's state that wait, but for those of one user if one is given.
    pub async fn cancel_delayed_state(
        &self,
        room_id: &RoomId,
        event_type: &str,
        state_key: &str,
        but_of: Option<&UserId>,
    ) -> Result<u64> {
        const SQL: &str = "DELETE FROM delayed_events WHERE room_id = $1 AND event_type = $2 AND state_key = $3
            AND ($4 IS NULL OR user_id <> $4)";
        let (event_type, state_key) = (storable(event_type, "an event type")?, storable(state_key, "a state key")?);
        let mut transaction = self.begin().await?;
        let cancelled = db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(room_id.as_str()).bind(event_type).bind(state_key);
            query.bind(but_of.map(UserId::as_str)).execute(connection).await.map(|done| done.rows_affected())
        })?;
        transaction.commit().await?;
        Ok(cancelled)
    }
}

fn delayed_event(row: Row) -> Result<DelayedEvent> {
    let (
        delay_id,
        user_id,
        device_id,
        room_id,
        event_type,
        state_key,
        content,
        delay_ms,
        since,
        send,
        transaction_id,
        sticky,
    ) = row;
    let content = RawValue::from_string(content)
        .map_err(|error| StorageError::corrupt("delayed_events", "content", delay_id.as_str(), &error))?;
    Ok(DelayedEvent {
        delay_id,
        user_id: parsed(&user_id, "delayed_events", "user_id")?,
        device_id: device_id.into(),
        room_id: parsed(&room_id, "delayed_events", "room_id")?,
        event_type,
        state_key,
        content,
        delay_ms: delay_ms.unsigned_abs(),
        running_since_ts: since.unsigned_abs(),
        send_ts: send.unsigned_abs(),
        transaction_id,
        sticky_duration_ms: u32::try_from(sticky).ok().filter(|duration_ms| *duration_ms > 0),
    })
}
