//! Finding rooms by what stands in their state, events by their time.

use ruma::{
    OwnedEventId, OwnedRoomId, RoomId, UserId,
    events::{StateEventType, room::member::MembershipState},
};

use crate::{
    Result, Storage,
    dialect::{db, parsed},
    names::{decode, encode},
};

impl Storage {
    /// The rooms that a user is joined to and whose state has a value for a key; of a member event, with that membership.
    pub async fn joined_rooms_with_state(
        &self,
        user_id: &UserId,
        event_type: &StateEventType,
        state_key: &str,
        membership: Option<&MembershipState>,
    ) -> Result<Vec<OwnedRoomId>> {
        const SQL: &str = "SELECT r.name FROM memberships m JOIN names r ON r.name_nid = m.room_nid
            WHERE m.user_nid = (SELECT name_nid FROM names WHERE name = $1) AND m.membership = 'join' AND EXISTS (
                SELECT 1 FROM room_state s WHERE s.room_nid = m.room_nid
                AND s.type_nid = (SELECT name_nid FROM names WHERE name = $2)
                AND s.state_key_nid = (SELECT name_nid FROM names WHERE name = $3)
                AND s.until IS NULL AND s.event_id IS NOT NULL AND ($4 = '' OR s.membership = $4)
            ) ORDER BY r.name";
        let type_text = event_type.to_string();
        let (user, type_name, key) = (encode(user_id.as_str()), encode(&type_text), encode(state_key));
        let membership = membership.map(MembershipState::as_str).unwrap_or_default();
        let names: Vec<String> = db!(self.read(), |pool| {
            let query = sqlx::query_scalar(SQL).bind(&*user).bind(&*type_name).bind(&*key).bind(membership);
            query.fetch_all(pool).await
        })?;
        names.into_iter().map(|name| parsed(&decode(name), "names", "name")).collect()
    }

    /// The accepted events of a room's timeline that are closest to a time, at it or before, or at it or after; closest first.
    pub async fn events_by_time(
        &self,
        room_id: &RoomId,
        ts: u64,
        forward: bool,
        limit: usize,
    ) -> Result<Vec<OwnedEventId>> {
        const FORWARD: &str = "SELECT event_id FROM events
            WHERE room_nid = (SELECT name_nid FROM names WHERE name = $1) AND timeline_order IS NOT NULL
            AND standing = 0 AND origin_server_ts >= $2 ORDER BY origin_server_ts, timeline_order LIMIT +$3";
        const BACKWARD: &str = "SELECT event_id FROM events
            WHERE room_nid = (SELECT name_nid FROM names WHERE name = $1) AND timeline_order IS NOT NULL
            AND standing = 0 AND origin_server_ts <= $2 ORDER BY origin_server_ts DESC, timeline_order DESC LIMIT +$3";
        let sql = if forward { FORWARD } else { BACKWARD };
        let name = encode(room_id.as_str());
        let (ts, limit) = (i64::try_from(ts).unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX));
        let ids: Vec<String> = db!(self.read(), |pool| {
            sqlx::query_scalar(sql).bind(&*name).bind(ts).bind(limit).fetch_all(pool).await
        })?;
        ids.iter().map(|id| parsed(id, "events", "event_id")).collect()
    }
}
