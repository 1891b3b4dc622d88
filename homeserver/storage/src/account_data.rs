//! Account data: what clients keep for themselves, per user or per user and room.

use rules::change::Position;
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde_json::value::RawValue;

use crate::{
    Result, Storage, StorageError,
    dialect::{db, list, parsed, storable},
    names::{decode, encode},
};

/// One piece of account data.
#[derive(Clone, Debug)]
pub struct AccountDataRecord {
    /// The room, or `None` for global account data.
    pub room_id: Option<OwnedRoomId>,
    /// The event type.
    pub event_type: String,
    /// The content.
    pub content: Box<RawValue>,
    /// When it was set.
    pub position: Position,
}

/// Room, type, content, position.
type Row = (Option<String>, String, String, Position);

impl Storage {
    /// One piece of account data.
    pub async fn account_data(
        &self,
        user_id: &UserId,
        room_id: Option<&RoomId>,
        event_type: &str,
    ) -> Result<Option<AccountDataRecord>> {
        const SQL: &str = "SELECT $3, type, content, position FROM account_data
            WHERE user_nid = (SELECT name_nid FROM names WHERE name = $1) AND type = $2
            AND room_nid = CASE WHEN $3 IS NULL THEN 0 ELSE (SELECT name_nid FROM names WHERE name = $3) END";
        let (user, room) = (encode(user_id.as_str()), room_id.map(|room_id| encode(room_id.as_str())));
        let event_type = storable(event_type, "the type of account data")?;
        let row: Option<Row> = db!(self.read(), |pool| {
            sqlx::query_as(SQL).bind(&*user).bind(event_type).bind(room.as_deref()).fetch_optional(pool).await
        })?;
        row.map(record).transpose()
    }

    /// How many pieces of account data a user has.
    pub async fn account_data_count(&self, user_id: &UserId) -> Result<u64> {
        const SQL: &str = "SELECT COUNT(*) FROM account_data
            WHERE user_nid = (SELECT name_nid FROM names WHERE name = $1)";
        let user = encode(user_id.as_str());
        let count: i64 = db!(self.read(), |pool| sqlx::query_scalar(SQL).bind(&*user).fetch_one(pool).await)?;
        Ok(count.unsigned_abs())
    }

    /// The global account data of some users that has one of these types.
    pub async fn account_data_of(
        &self,
        user_ids: &[OwnedUserId],
        event_types: &[&str],
    ) -> Result<Vec<(OwnedUserId, AccountDataRecord)>> {
        const SQL: &str = "SELECT u.name, a.type, a.content, a.position
            FROM names u JOIN account_data a ON a.user_nid = u.name_nid AND a.room_nid = 0
            WHERE u.name IN (SELECT value FROM json_each($1)) AND a.type IN (SELECT value FROM json_each($2))";
        let users: Vec<_> = user_ids.iter().map(|user_id| encode(user_id.as_str())).collect();
        let (users, types) = (list(users.iter().map(|user_id| &**user_id)), list(event_types.iter().copied()));
        let rows: Vec<(String, String, String, Position)> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(users).bind(types).fetch_all(pool).await)?;
        let of_user = |(user_id, event_type, content, position)| {
            let user_id = parsed(&decode(user_id), "account_data", "user_nid")?;
            Ok((user_id, record((None, event_type, content, position))?))
        };
        rows.into_iter().map(of_user).collect()
    }

    /// A user's account data, global and of all rooms, that was set with `since < position <= until`, ascending.
    pub async fn account_data_since(
        &self,
        user_id: &UserId,
        since: Position,
        until: Position,
    ) -> Result<Vec<AccountDataRecord>> {
        const SQL: &str = "SELECT r.name, a.type, a.content, a.position
            FROM account_data a LEFT JOIN names r ON r.name_nid = a.room_nid
            WHERE a.user_nid = (SELECT name_nid FROM names WHERE name = $1)
            AND a.position > $2 AND a.position <= $3 ORDER BY a.position";
        let user = encode(user_id.as_str());
        let rows: Vec<Row> = db!(self.read(), |pool| {
            sqlx::query_as(SQL).bind(&*user).bind(since).bind(until).fetch_all(pool).await
        })?;
        rows.into_iter().map(record).collect()
    }
}

fn record((room_id, event_type, content, position): Row) -> Result<AccountDataRecord> {
    let room_id = room_id.map(|room_id| parsed(&decode(room_id), "account_data", "room_nid")).transpose()?;
    let content = RawValue::from_string(content)
        .map_err(|error| StorageError::corrupt("account_data", "content", event_type.as_str(), &error))?;
    Ok(AccountDataRecord { room_id, event_type, content, position })
}
