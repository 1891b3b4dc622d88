//! Room state: a history of the resolved state by position.

use rules::change::{Position, StateEntry};
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedUserId, RoomId,
    events::{StateEventType, room::member::MembershipState},
};

use crate::{
    Result, Storage,
    dialect::{db, list, parsed},
    names::{decode, encode},
    turns::in_turns,
};

/// Since when a value has held that was there when we entered the room.
pub(crate) const BEGINNING: i64 = -(1 << 62);

/// Event type, state key, event, membership.
pub(crate) type Row = (String, String, Option<String>, Option<String>);

impl Storage {
    /// The resolved state of a room now.
    pub async fn current_state(&self, room_id: &RoomId) -> Result<Vec<StateEntry>> {
        const SQL: &str = "SELECT t.name, k.name, s.event_id, s.membership FROM room_state s
            JOIN names t ON t.name_nid = s.type_nid JOIN names k ON k.name_nid = s.state_key_nid
            WHERE s.room_nid = (SELECT name_nid FROM names WHERE name = $1)
            AND s.until IS NULL AND s.event_id IS NOT NULL";
        let name = encode(room_id.as_str());
        let rows: Vec<Row> = db!(self.read(), |pool| sqlx::query_as(SQL).bind(&*name).fetch_all(pool).await)?;
        in_turns(rows, entry).await
    }

    /// The resolved state after the event at this timeline order: a position, or negative for backfilled events. What
    /// the state was when we entered the room counts for all history before, as far as that does not say otherwise.
    pub async fn state_at(&self, room_id: &RoomId, order: i64) -> Result<Vec<StateEntry>> {
        const SQL: &str = "SELECT t.name, k.name, s.event_id, s.membership FROM room_state s
            JOIN names t ON t.name_nid = s.type_nid JOIN names k ON k.name_nid = s.state_key_nid
            WHERE s.room_nid = (SELECT name_nid FROM names WHERE name = $1)
            AND s.since <= $2 AND (s.until IS NULL OR s.until > $2) AND s.event_id IS NOT NULL";
        let name = encode(room_id.as_str());
        let rows: Vec<Row> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(&*name).bind(order).fetch_all(pool).await)?;
        in_turns(rows, entry).await
    }

    /// One entry of [`Storage::state_at`].
    pub async fn state_entry_at(
        &self,
        room_id: &RoomId,
        event_type: &StateEventType,
        state_key: &str,
        order: i64,
    ) -> Result<Option<StateEntry>> {
        const SQL: &str = "SELECT s.event_id, s.membership FROM room_state s
            WHERE s.room_nid = (SELECT name_nid FROM names WHERE name = $1)
            AND s.type_nid = (SELECT name_nid FROM names WHERE name = $2)
            AND s.state_key_nid = (SELECT name_nid FROM names WHERE name = $3)
            AND s.since <= $4 AND (s.until IS NULL OR s.until > $4) AND s.event_id IS NOT NULL";
        let type_text = event_type.to_string();
        let (room, type_name, key) = (encode(room_id.as_str()), encode(&type_text), encode(state_key));
        let row: Option<(Option<String>, Option<String>)> = db!(self.read(), |pool| {
            let query = sqlx::query_as(SQL).bind(&*room).bind(&*type_name).bind(&*key).bind(order);
            query.fetch_optional(pool).await
        })?;
        let row = row.map(|(event_id, membership)| (type_name.into_owned(), key.into_owned(), event_id, membership));
        row.map(entry).transpose()
    }

    /// The entries that were set with `since < position <= until`, as of `until`; the event is `None` where the key was
    /// removed. What the state was when we entered the room is not in it: that is older than all positions.
    pub async fn state_changes(&self, room_id: &RoomId, since: Position, until: Position) -> Result<Vec<StateEntry>> {
        const SQL: &str = "SELECT t.name, k.name, s.event_id, s.membership FROM room_state s
            JOIN names t ON t.name_nid = s.type_nid JOIN names k ON k.name_nid = s.state_key_nid
            WHERE s.room_nid = (SELECT name_nid FROM names WHERE name = $1)
            AND s.since > $2 AND s.since <= $3 AND (s.until IS NULL OR s.until > $3)";
        if self.shared.bus.keeps_state(room_id, since, until) {
            return Ok(Vec::new());
        }
        let name = encode(room_id.as_str());
        let rows: Vec<Row> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(&*name).bind(since).bind(until).fetch_all(pool).await)?;
        in_turns(rows, entry).await
    }

    /// The values, in some rooms, of a type of state with an empty state key. Rooms without one are left out.
    pub async fn current_state_of(
        &self,
        room_ids: &[OwnedRoomId],
        event_type: &StateEventType,
    ) -> Result<Vec<(OwnedRoomId, OwnedEventId)>> {
        const SQL: &str = "SELECT r.name, s.event_id FROM names r JOIN room_state s ON s.room_nid = r.name_nid
            WHERE r.name IN (SELECT value FROM json_each($1))
            AND s.type_nid = (SELECT name_nid FROM names WHERE name = $2)
            AND s.state_key_nid = (SELECT name_nid FROM names WHERE name = '')
            AND s.until IS NULL AND s.event_id IS NOT NULL";
        let names: Vec<_> = room_ids.iter().map(|room_id| encode(room_id.as_str())).collect();
        let (names, type_text) = (list(names.iter().map(|name| &**name)), event_type.to_string());
        let type_name = encode(&type_text);
        let rows: Vec<(String, String)> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(names).bind(&*type_name).fetch_all(pool).await)?;
        let value = |(room_id, event_id): (String, String)| {
            Ok((parsed(&decode(room_id), "names", "name")?, parsed(&event_id, "room_state", "event_id")?))
        };
        rows.into_iter().map(value).collect()
    }

    /// Whether a key of a room's state has, or had, a value, or was removed.
    pub async fn knows_state_key(
        &self,
        room_id: &RoomId,
        event_type: &StateEventType,
        state_key: &str,
    ) -> Result<bool> {
        const SQL: &str = "SELECT EXISTS (SELECT 1 FROM room_state
            WHERE room_nid = (SELECT name_nid FROM names WHERE name = $1)
            AND type_nid = (SELECT name_nid FROM names WHERE name = $2)
            AND state_key_nid = (SELECT name_nid FROM names WHERE name = $3))";
        let type_text = event_type.to_string();
        let (room, type_name, key) = (encode(room_id.as_str()), encode(&type_text), encode(state_key));
        Ok(db!(self.read(), |pool| {
            sqlx::query_scalar(SQL).bind(&*room).bind(&*type_name).bind(&*key).fetch_one(pool).await
        })?)
    }

    /// The users of this server who were joined to a room at this timeline order.
    pub async fn local_members_at(&self, room_id: &RoomId, order: i64) -> Result<Vec<OwnedUserId>> {
        const SQL: &str = "SELECT k.name FROM room_state s JOIN names k ON k.name_nid = s.state_key_nid
            WHERE s.room_nid = (SELECT name_nid FROM names WHERE name = $1)
            AND s.type_nid = (SELECT name_nid FROM names WHERE name = 'm.room.member')
            AND s.since <= $2 AND (s.until IS NULL OR s.until > $2) AND s.membership = 'join'
            AND EXISTS (SELECT 1 FROM memberships m WHERE m.user_nid = s.state_key_nid AND m.room_nid = s.room_nid)";
        let name = encode(room_id.as_str());
        let users: Vec<String> =
            db!(self.read(), |pool| { sqlx::query_scalar(SQL).bind(&*name).bind(order).fetch_all(pool).await })?;
        Ok(users.into_iter().filter_map(|user| OwnedUserId::try_from(decode(user)).ok()).collect())
    }

    /// The users that now have one of the given memberships.
    pub async fn members_with(&self, room_id: &RoomId, memberships: &[MembershipState]) -> Result<Vec<OwnedUserId>> {
        const SQL: &str = "SELECT k.name FROM room_state s JOIN names k ON k.name_nid = s.state_key_nid
            WHERE s.room_nid = (SELECT name_nid FROM names WHERE name = $1)
            AND s.type_nid = (SELECT name_nid FROM names WHERE name = 'm.room.member')
            AND s.until IS NULL AND s.membership IN (SELECT value FROM json_each($2))";
        let name = encode(room_id.as_str());
        let memberships = list(memberships.iter().map(MembershipState::as_str));
        let users: Vec<String> =
            db!(self.read(), |pool| { sqlx::query_scalar(SQL).bind(&*name).bind(memberships).fetch_all(pool).await })?;
        // A state key that is no user id has no membership.
        Ok(users.into_iter().filter_map(|user| OwnedUserId::try_from(decode(user)).ok()).collect())
    }
}

/// A row as an entry.
pub(crate) fn entry((event_type, state_key, event_id, membership): Row) -> Result<StateEntry> {
    Ok(StateEntry {
        event_type: decode(event_type).into(),
        state_key: decode(state_key),
        event_id: event_id.map(|id| parsed(&id, "room_state", "event_id")).transpose()?,
        membership: membership.map(Into::into),
    })
}
