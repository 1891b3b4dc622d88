//! Rooms that users have muted until a time, and whose mute is to be ended then.

use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde_json::value::RawValue;

use crate::{
    Result, Storage, StorageError,
    dialect::{db, parsed},
    names::decode,
};

/// One piece of account data of a room, and the place after which those that come next stand.
#[derive(Clone, Debug)]
pub struct RoomAccountData {
    /// The place: by the numbers of the user and the room.
    pub place: (i64, i64),
    /// Whose it is.
    pub user_id: OwnedUserId,
    /// Of which room.
    pub room_id: OwnedRoomId,
    /// The content.
    pub content: Box<RawValue>,
}

/// What is noted of a room that a user wants to be muted until a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mute {
    /// Until when, in milliseconds since the epoch.
    pub until_ts: u64,
    /// Whether the push rule that mutes the room is the user's own, and so not taken back then.
    pub is_own: bool,
}

/// User and room as numbers and by name, content.
type Row = (i64, i64, String, String, String);

impl Storage {
    /// Notes until when a room is muted.
    pub async fn set_mute(&self, user_id: &UserId, room_id: &RoomId, mute: Mute) -> Result<()> {
        const SQL: &str = "INSERT INTO mutes (user_id, room_id, until_ts, is_own) VALUES ($1, $2, $3, $4)
            ON CONFLICT (user_id, room_id) DO UPDATE SET until_ts = excluded.until_ts, is_own = excluded.is_own";
        let until_ts = i64::try_from(mute.until_ts).unwrap_or(i64::MAX);
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(user_id.as_str()).bind(room_id.as_str()).bind(until_ts);
            query.bind(mute.is_own).execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }

    /// Notes that the push rule that mutes a room is the user's own from now on, if the room is muted until a time.
    pub async fn own_mute(&self, user_id: &UserId, room_id: &RoomId) -> Result<()> {
        const SQL: &str = "UPDATE mutes SET is_own = TRUE WHERE user_id = $1 AND room_id = $2";
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(user_id.as_str()).bind(room_id.as_str());
            query.execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }

    /// What is noted of a room that a user wants to be muted until a time.
    pub async fn mute(&self, user_id: &UserId, room_id: &RoomId) -> Result<Option<Mute>> {
        const SQL: &str = "SELECT until_ts, is_own FROM mutes WHERE user_id = $1 AND room_id = $2";
        let noted: Option<(i64, bool)> = db!(self.read(), |pool| {
            sqlx::query_as(SQL).bind(user_id.as_str()).bind(room_id.as_str()).fetch_optional(pool).await
        })?;
        Ok(noted.map(|(until_ts, is_own)| Mute { until_ts: until_ts.unsigned_abs(), is_own }))
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

    /// What users keep for rooms as account data of a type, of all users: up to `limit`, those after a place. Looks through
    /// all account data.
    pub async fn room_account_data(
        &self,
        event_type: &str,
        after: (i64, i64),
        limit: usize,
    ) -> Result<Vec<RoomAccountData>> {
        const SQL: &str = "SELECT a.user_nid, a.room_nid, u.name, r.name, a.content
            FROM account_data a CROSS JOIN names u CROSS JOIN names r
            WHERE (a.user_nid, a.room_nid) > ($1, $2) AND a.type = $3 AND a.room_nid <> 0
            AND u.name_nid = a.user_nid AND r.name_nid = a.room_nid
            ORDER BY a.user_nid, a.room_nid LIMIT +$4";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows: Vec<Row> = db!(self.read(), |pool| {
            sqlx::query_as(SQL).bind(after.0).bind(after.1).bind(event_type).bind(limit).fetch_all(pool).await
        })?;
        let found = |(user, room, user_id, room_id, content): Row| {
            let content = RawValue::from_string(content)
                .map_err(|error| StorageError::corrupt("account_data", "content", event_type, &error))?;
            let user_id = parsed(&decode(user_id), "account_data", "user_nid")?;
            let room_id = parsed(&decode(room_id), "account_data", "room_nid")?;
            Ok(RoomAccountData { place: (user, room), user_id, room_id, content })
        };
        rows.into_iter().map(found).collect()
    }

    /// The mutes whose time has come, the earliest first.
    pub async fn due_mutes(&self, now_ts: u64, limit: usize) -> Result<Vec<(OwnedUserId, OwnedRoomId)>> {
        const SQL: &str = "SELECT user_id, room_id FROM mutes WHERE until_ts <= $1
            ORDER BY until_ts, user_id, room_id LIMIT +$2";
        let (now_ts, limit) = (i64::try_from(now_ts).unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX));
        let rows: Vec<(String, String)> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(now_ts).bind(limit).fetch_all(pool).await)?;
        let due = |(user_id, room_id): (String, String)| {
            Ok((parsed(&user_id, "mutes", "user_id")?, parsed(&room_id, "mutes", "room_id")?))
        };
        rows.into_iter().map(due).collect()
    }
}
