//! Rooms that users have muted until a time, and whose mute is to be ended then.

use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};

use crate::{
    Result, Storage,
    dialect::{db, parsed},
};

impl Storage {
    /// Notes until when a room is muted, in milliseconds since the epoch.
    pub async fn set_mute(&self, user_id: &UserId, room_id: &RoomId, until_ts: u64) -> Result<()> {
        const SQL: &str = "INSERT INTO mutes (user_id, room_id, until_ts) VALUES ($1, $2, $3)
            ON CONFLICT (user_id, room_id) DO UPDATE SET until_ts = excluded.until_ts";
        let until_ts = i64::try_from(until_ts).unwrap_or(i64::MAX);
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(user_id.as_str()).bind(room_id.as_str()).bind(until_ts);
            query.execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }

    /// Until when a room is muted, if that is to be ended.
    pub async fn mute(&self, user_id: &UserId, room_id: &RoomId) -> Result<Option<u64>> {
        const SQL: &str = "SELECT until_ts FROM mutes WHERE user_id = $1 AND room_id = $2";
        let until_ts: Option<i64> = db!(self.read(), |pool| {
            sqlx::query_scalar(SQL).bind(user_id.as_str()).bind(room_id.as_str()).fetch_optional(pool).await
        })?;
        Ok(until_ts.map(i64::unsigned_abs))
    }

    /// Forgets that a mute is to be ended; `false` when it was not.
    pub async fn forget_mute(&self, user_id: &UserId, room_id: &RoomId) -> Result<bool> {
        const SQL: &str = "DELETE FROM mutes WHERE user_id = $1 AND room_id = $2";
        let mut transaction = self.begin().await?;
        let forgotten = db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(user_id.as_str()).bind(room_id.as_str());
            query.execute(connection).await.map(|done| done.rows_affected())
        })?;
        transaction.commit().await?;
        Ok(forgotten > 0)
    }

    /// The mutes whose time has come, the earliest first.
    pub async fn due_mutes(&self, now_ts: u64, limit: usize) -> Result<Vec<(OwnedUserId, OwnedRoomId)>> {
        const SQL: &str = "SELECT user_id, room_id FROM mutes WHERE until_ts <= $1
            ORDER BY until_ts, user_id, room_id LIMIT $2";
        let (now_ts, limit) = (i64::try_from(now_ts).unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX));
        let rows: Vec<(String, String)> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(now_ts).bind(limit).fetch_all(pool).await)?;
        let due = |(user_id, room_id): (String, String)| {
            Ok((parsed(&user_id, "mutes", "user_id")?, parsed(&room_id, "mutes", "room_id")?))
        };
        rows.into_iter().map(due).collect()
    }
}
