//! Finding rooms by what stands in their state, users by their names, events by their time.

use ruma::{
    OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId,
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

    /// Member events, with their users, of those who are joined to a room that the user is joined to or that anybody may
    /// join, and in whose user id or event the text occurs: which of the two, and where in the event, is for the caller
    /// to see. At most `limit` of them, a user as often as there are such rooms.
    pub async fn members_like(
        &self,
        user_id: &UserId,
        text: &str,
        limit: usize,
    ) -> Result<Vec<(OwnedUserId, OwnedEventId)>> {
        // The text as it is, in lower case, and with a first letter in upper case: SQLite compares only ASCII letters
        // without their case.
        const SQL: &str = "SELECT k.name, s.event_id FROM room_state s
            JOIN names k ON k.name_nid = s.state_key_nid JOIN events e ON e.event_id = s.event_id
            WHERE s.type_nid = (SELECT name_nid FROM names WHERE name = 'm.room.member')
            AND s.until IS NULL AND s.membership = 'join'
            AND s.room_nid IN (
                SELECT m.room_nid FROM memberships m
                WHERE m.user_nid = (SELECT name_nid FROM names WHERE name = $1) AND m.membership = 'join'
                UNION SELECT r.room_nid FROM rooms r JOIN room_state j ON j.room_nid = r.room_nid
                    AND j.type_nid = (SELECT name_nid FROM names WHERE name = 'm.room.join_rules')
                    AND j.state_key_nid = (SELECT name_nid FROM names WHERE name = $6) AND j.until IS NULL
                JOIN events o ON o.event_id = j.event_id WHERE o.json LIKE '%\"join_rule\":\"public\"%'
            )
            AND (k.name LIKE $2 ESCAPE '!' OR LOWER(e.json) LIKE $3 ESCAPE '!' OR e.json LIKE $4 ESCAPE '!')
            ORDER BY k.name LIMIT $5";
        let (user, no_key) = (encode(user_id.as_str()), encode(""));
        let lower = text.to_lowercase();
        let (in_name, in_lower, in_upper) = (containing(&lower), containing(&lower), containing(&capitalised(&lower)));
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows: Vec<(String, String)> = db!(self.read(), |pool| {
            let query = sqlx::query_as(SQL).bind(&*user).bind(in_name).bind(in_lower).bind(in_upper);
            query.bind(limit).bind(&*no_key).fetch_all(pool).await
        })?;
        let found = |(user, event): (String, String)| {
            let event_id = parsed(&event, "room_state", "event_id")?;
            // A state key that is no user id is of nobody.
            Ok(OwnedUserId::try_from(decode(user)).ok().map(|user_id| (user_id, event_id)))
        };
        rows.into_iter().map(found).filter_map(Result::transpose).collect()
    }

    /// The events of a room's timeline that are closest to a time, at it or before, or at it or after; closest first.
    pub async fn events_by_time(
        &self,
        room_id: &RoomId,
        ts: u64,
        forward: bool,
        limit: usize,
    ) -> Result<Vec<OwnedEventId>> {
        const FORWARD: &str = "SELECT event_id FROM events
            WHERE room_nid = (SELECT name_nid FROM names WHERE name = $1) AND timeline_order IS NOT NULL
            AND origin_server_ts >= $2 ORDER BY origin_server_ts, timeline_order LIMIT $3";
        const BACKWARD: &str = "SELECT event_id FROM events
            WHERE room_nid = (SELECT name_nid FROM names WHERE name = $1) AND timeline_order IS NOT NULL
            AND origin_server_ts <= $2 ORDER BY origin_server_ts DESC, timeline_order DESC LIMIT $3";
        let sql = if forward { FORWARD } else { BACKWARD };
        let name = encode(room_id.as_str());
        let (ts, limit) = (i64::try_from(ts).unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX));
        let ids: Vec<String> = db!(self.read(), |pool| {
            sqlx::query_scalar(sql).bind(&*name).bind(ts).bind(limit).fetch_all(pool).await
        })?;
        ids.iter().map(|id| parsed(id, "events", "event_id")).collect()
    }
}

/// A pattern for texts that contain this one.
fn containing(text: &str) -> String {
    let mut pattern = String::from("%");
    for letter in text.chars().filter(|letter| *letter != '\0') {
        if matches!(letter, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
