//! Whose devices changed when, who is to hear of it, and what is known of other servers' users.

use rules::change::Position;
use ruma::{OwnedDeviceId, OwnedRoomId, OwnedServerName, OwnedUserId, UserId, events::room::member::MembershipState};

use crate::{
    LogKind, Result, Storage,
    dialect::{db, list, parsed},
    names::{decode, encode},
};

/// A membership that became another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberChange {
    /// Whose.
    pub user_id: OwnedUserId,
    /// What it was.
    pub before: Option<MembershipState>,
    /// What it is.
    pub after: Option<MembershipState>,
    /// Whether the user was not joined at some time in between.
    pub was_away: bool,
}

/// What is known of the device list of another server's user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteDeviceList {
    /// Whose.
    pub user_id: OwnedUserId,
    /// The last update that is in it, by the other server's count.
    pub stream_id: i64,
    /// It was complete as of this position of our log.
    pub position: Position,
    /// Whether an update was missed.
    pub stale: bool,
    /// How often getting it anew failed in a row.
    pub failures: u32,
    /// When to try that again, in milliseconds since the epoch.
    pub retry_at_ts: u64,
}

/// User, stream id, position, stale, failures, retry at.
type Row = (String, i64, Position, bool, i64, i64);

impl Storage {
    /// Of a local user and of those who share a room with them: those whose devices changed with
    /// `since < position <= until`.
    pub async fn device_lists_changed(
        &self,
        user_id: &UserId,
        since: Position,
        until: Position,
    ) -> Result<Vec<OwnedUserId>> {
        const SQL: &str = "SELECT DISTINCT n.name FROM device_list_log d JOIN names n ON n.name_nid = d.user_nid
            WHERE d.position > $2 AND d.position <= $3
            AND (d.viewer_nid IS NULL OR d.viewer_nid = (SELECT name_nid FROM names WHERE name = $1))
            AND (d.viewer_nid IS NULL OR d.viewer_nid <> d.user_nid OR d.device_id IS NULL)
            AND (n.name = $1 OR EXISTS (
                SELECT 1 FROM memberships m JOIN room_state s ON s.room_nid = m.room_nid
                WHERE m.user_nid = (SELECT name_nid FROM names WHERE name = $1) AND m.membership = 'join'
                AND s.type_nid = (SELECT name_nid FROM names WHERE name = 'm.room.member')
                AND s.state_key_nid = d.user_nid AND s.until IS NULL AND s.membership IN ('join', 'invite')))";
        if self.shared.bus.has_none(since, until, |entry| entry.kind == LogKind::DeviceList) {
            return Ok(Vec::new());
        }
        let user = encode(user_id.as_str());
        let names: Vec<String> = db!(self.read(), |pool| {
            sqlx::query_scalar(SQL).bind(&*user).bind(since).bind(until).fetch_all(pool).await
        })?;
        users(names)
    }

    /// Whose devices changed at a position, and who alone may know of it, if that is not everybody.
    pub async fn device_list_changes_at(&self, position: Position) -> Result<Vec<(OwnedUserId, Option<OwnedUserId>)>> {
        const SQL: &str = "SELECT n.name, v.name FROM device_list_log d JOIN names n ON n.name_nid = d.user_nid
            LEFT JOIN names v ON v.name_nid = d.viewer_nid WHERE d.position = $1
            AND (d.viewer_nid IS NULL OR d.viewer_nid <> d.user_nid OR d.device_id IS NULL)";
        let rows: Vec<(String, Option<String>)> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(position).fetch_all(pool).await)?;
        let read = |name: String| parsed(&decode(name), "device_list_log", "name");
        rows.into_iter().map(|(user, viewer)| Ok((read(user)?, viewer.map(read).transpose()?))).collect()
    }

    /// The memberships of these rooms that became others between two positions.
    pub async fn member_changes(
        &self,
        rooms: &[OwnedRoomId],
        since: Position,
        until: Position,
    ) -> Result<Vec<MemberChange>> {
        const SQL: &str = "SELECT k.name, s.membership, (SELECT b.membership FROM room_state b
                WHERE b.room_nid = s.room_nid AND b.type_nid = s.type_nid AND b.state_key_nid = s.state_key_nid
                AND b.since <= $2 AND (b.until IS NULL OR b.until > $2)),
                EXISTS (SELECT 1 FROM room_state g
                WHERE g.room_nid = s.room_nid AND g.type_nid = s.type_nid AND g.state_key_nid = s.state_key_nid
                AND g.since > $2 AND g.since < s.since AND (g.membership IS NULL OR g.membership <> 'join'))
            FROM room_state s JOIN names r ON r.name_nid = s.room_nid JOIN names k ON k.name_nid = s.state_key_nid
            WHERE r.name IN (SELECT value FROM json_each($1))
            AND s.type_nid = (SELECT name_nid FROM names WHERE name = 'm.room.member')
            AND s.since > $2 AND s.since <= $3 AND (s.until IS NULL OR s.until > $3)";
        let changed = rooms.iter().filter(|room_id| !self.shared.bus.keeps_state(room_id, since, until));
        let names: Vec<_> = changed.map(|room_id| encode(room_id.as_str())).collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let names = list(names.iter().map(|name| &**name));
        let rows: Vec<(String, Option<String>, Option<String>, bool)> =
            db!(self.read(), |pool| { sqlx::query_as(SQL).bind(names).bind(since).bind(until).fetch_all(pool).await })?;
        // A state key that is no user id has no membership.
        let change = |(user_id, after, before, was_away): (String, Option<String>, Option<String>, bool)| {
            let user_id = OwnedUserId::try_from(decode(user_id)).ok()?;
            Some(MemberChange { user_id, before: before.map(Into::into), after: after.map(Into::into), was_away })
        };
        Ok(rows.into_iter().filter_map(change).collect())
    }

    /// Those who were joined to or invited to one of these rooms at a position.
    pub async fn members_at(&self, rooms: &[OwnedRoomId], position: Position) -> Result<Vec<OwnedUserId>> {
        const SQL: &str = "SELECT DISTINCT k.name
            FROM room_state s JOIN names r ON r.name_nid = s.room_nid JOIN names k ON k.name_nid = s.state_key_nid
            WHERE r.name IN (SELECT value FROM json_each($1))
            AND s.type_nid = (SELECT name_nid FROM names WHERE name = 'm.room.member')
            AND s.since <= $2 AND (s.until IS NULL OR s.until > $2) AND s.membership IN ('join', 'invite')";
        let names: Vec<_> = rooms.iter().map(|room_id| encode(room_id.as_str())).collect();
        let names = list(names.iter().map(|name| &**name));
        let names: Vec<String> =
            db!(self.read(), |pool| sqlx::query_scalar(SQL).bind(names).bind(position).fetch_all(pool).await)?;
        Ok(names.into_iter().filter_map(|name| OwnedUserId::try_from(decode(name)).ok()).collect())
    }

    /// Those who were joined to or invited to one of these rooms at a position, without those of whom a reader up to `since`
    /// was told that they had joined, before all members were known.
    pub async fn members_found(
        &self,
        rooms: &[OwnedRoomId],
        since: Position,
        position: Position,
    ) -> Result<Vec<OwnedUserId>> {
        const SQL: &str = "SELECT DISTINCT k.name
            FROM room_state s JOIN names r ON r.name_nid = s.room_nid JOIN names k ON k.name_nid = s.state_key_nid
            WHERE r.name IN (SELECT value FROM json_each($1))
            AND s.type_nid = (SELECT name_nid FROM names WHERE name = 'm.room.member')
            AND s.since <= $2 AND (s.until IS NULL OR s.until > $2) AND s.membership IN ('join', 'invite')
            AND NOT EXISTS (SELECT 1 FROM members_known_early e
                WHERE e.room_nid = s.room_nid AND e.user_nid = s.state_key_nid AND e.since <= $3)";
        self.members_by(SQL, rooms, since, position).await
    }

    /// Those of whom a reader up to `since` knew that they had joined one of these rooms, and who are not in it at a position,
    /// perhaps because it turned out that they never were.
    pub async fn members_lost(
        &self,
        rooms: &[OwnedRoomId],
        since: Position,
        position: Position,
    ) -> Result<Vec<OwnedUserId>> {
        const SQL: &str = "SELECT DISTINCT k.name FROM members_known_early e
            JOIN names r ON r.name_nid = e.room_nid JOIN names k ON k.name_nid = e.user_nid
            WHERE r.name IN (SELECT value FROM json_each($1)) AND e.since <= $3
            AND NOT EXISTS (SELECT 1 FROM room_state s WHERE s.room_nid = e.room_nid AND s.state_key_nid = e.user_nid
                AND s.type_nid = (SELECT name_nid FROM names WHERE name = 'm.room.member')
                AND s.since <= $2 AND (s.until IS NULL OR s.until > $2) AND s.membership IN ('join', 'invite'))";
        self.members_by(SQL, rooms, since, position).await
    }

    async fn members_by(
        &self,
        sql: &'static str,
        rooms: &[OwnedRoomId],
        since: Position,
        position: Position,
    ) -> Result<Vec<OwnedUserId>> {
        let names: Vec<_> = rooms.iter().map(|room_id| encode(room_id.as_str())).collect();
        let names = list(names.iter().map(|name| &**name));
        let names: Vec<String> = db!(self.read(), |pool| {
            sqlx::query_scalar(sql).bind(names).bind(position).bind(since).fetch_all(pool).await
        })?;
        Ok(names.into_iter().filter_map(|name| OwnedUserId::try_from(decode(name)).ok()).collect())
    }

    /// Those of `others` who are joined or invited to a room that a local user is joined to now.
    pub async fn sharing_a_room(&self, user_id: &UserId, others: &[OwnedUserId]) -> Result<Vec<OwnedUserId>> {
        const SQL: &str = "SELECT n.name FROM names n WHERE n.name IN (SELECT value FROM json_each($2)) AND EXISTS (
                SELECT 1 FROM memberships m JOIN room_state s ON s.room_nid = m.room_nid
                WHERE m.user_nid = (SELECT name_nid FROM names WHERE name = $1) AND m.membership = 'join'
                AND s.type_nid = (SELECT name_nid FROM names WHERE name = 'm.room.member')
                AND s.state_key_nid = n.name_nid AND s.until IS NULL AND s.membership IN ('join', 'invite'))";
        if others.is_empty() {
            return Ok(Vec::new());
        }
        let user = encode(user_id.as_str());
        let others: Vec<_> = others.iter().map(|other| encode(other.as_str())).collect();
        let others = list(others.iter().map(|other| &**other));
        let names: Vec<String> =
            db!(self.read(), |pool| sqlx::query_scalar(SQL).bind(&*user).bind(others).fetch_all(pool).await)?;
        users(names)
    }

    /// The rooms that a user is joined to, local or remote, as far as this server is in them.
    pub async fn rooms_with(&self, user_id: &UserId) -> Result<Vec<OwnedRoomId>> {
        const SQL: &str = "SELECT r.name FROM room_state s JOIN names r ON r.name_nid = s.room_nid
            WHERE s.state_key_nid = (SELECT name_nid FROM names WHERE name = $1)
            AND s.type_nid = (SELECT name_nid FROM names WHERE name = 'm.room.member')
            AND s.until IS NULL AND s.membership = 'join' AND EXISTS (SELECT 1 FROM room_servers o
                WHERE o.room_nid = s.room_nid AND o.until IS NULL
                AND o.server_nid = (SELECT name_nid FROM names WHERE name = $2))";
        let user = encode(user_id.as_str());
        let server = encode(self.shared.server_name.as_str());
        let names: Vec<String> =
            db!(self.read(), |pool| sqlx::query_scalar(SQL).bind(&*user).bind(&*server).fetch_all(pool).await)?;
        names.into_iter().map(|name| parsed(&decode(name), "names", "name")).collect()
    }

    /// The other servers in the rooms that a local user is joined to.
    pub async fn servers_sharing_rooms(&self, user_id: &UserId) -> Result<Vec<OwnedServerName>> {
        const SQL: &str = "SELECT DISTINCT n.name FROM memberships m
            JOIN room_servers s ON s.room_nid = m.room_nid JOIN names n ON n.name_nid = s.server_nid
            WHERE m.user_nid = (SELECT name_nid FROM names WHERE name = $1) AND m.membership = 'join'
            AND s.until IS NULL AND n.name <> $2";
        let user = encode(user_id.as_str());
        let server = encode(self.shared.server_name.as_str());
        let names: Vec<String> =
            db!(self.read(), |pool| sqlx::query_scalar(SQL).bind(&*user).bind(&*server).fetch_all(pool).await)?;
        names.into_iter().map(|name| parsed(&decode(name), "names", "name")).collect()
    }

    /// The other servers that have been in rooms that a local user is joined to since `until` or longer; only rooms whose
    /// members are all known count.
    pub async fn servers_sharing_whole_rooms(&self, user_id: &UserId, until: Position) -> Result<Vec<OwnedServerName>> {
        const SQL: &str = "SELECT DISTINCT n.name FROM memberships m
            JOIN room_servers s ON s.room_nid = m.room_nid JOIN names n ON n.name_nid = s.server_nid
            WHERE m.user_nid = (SELECT name_nid FROM names WHERE name = $1) AND m.membership = 'join'
            AND s.until IS NULL AND s.since <= $2 AND n.name <> $3
            AND NOT EXISTS (SELECT 1 FROM partial_states p WHERE p.room_nid = m.room_nid)";
        let user = encode(user_id.as_str());
        let server = encode(self.shared.server_name.as_str());
        let names: Vec<String> = db!(self.read(), |pool| sqlx::query_scalar(SQL)
            .bind(&*user)
            .bind(until)
            .bind(&*server)
            .fetch_all(pool)
            .await)?;
        names.into_iter().map(|name| parsed(&decode(name), "names", "name")).collect()
    }

    /// The last position at which a device of a user changed; 0 when none ever did.
    pub async fn device_list_position(&self, user_id: &UserId) -> Result<Position> {
        const SQL: &str = "SELECT COALESCE(MAX(position), 0) FROM device_list_log
            WHERE user_nid = (SELECT name_nid FROM names WHERE name = $1) AND device_id IS NOT NULL
            AND viewer_nid IS NULL";
        let user = encode(user_id.as_str());
        Ok(db!(self.read(), |pool| sqlx::query_scalar(SQL).bind(&*user).fetch_one(pool).await)?)
    }

    /// The devices of a local user that came, changed or went after a position.
    pub async fn devices_changed_since(&self, user_id: &UserId, position: Position) -> Result<Vec<OwnedDeviceId>> {
        const SQL: &str = "SELECT DISTINCT device_id FROM device_list_log
            WHERE user_nid = (SELECT name_nid FROM names WHERE name = $1) AND device_id IS NOT NULL
            AND viewer_nid IS NULL AND position > $2 ORDER BY device_id";
        let user = encode(user_id.as_str());
        let device_ids: Vec<String> =
            db!(self.read(), |pool| sqlx::query_scalar(SQL).bind(&*user).bind(position).fetch_all(pool).await)?;
        Ok(device_ids.into_iter().map(OwnedDeviceId::from).collect())
    }

    /// What is known of the device lists of other servers' users; nothing of those who were never asked for.
    pub async fn remote_device_lists(&self, user_ids: &[OwnedUserId]) -> Result<Vec<RemoteDeviceList>> {
        const SQL: &str = "SELECT user_id, stream_id, position, stale, failures, retry_at_ts FROM remote_device_lists
            WHERE user_id IN (SELECT value FROM json_each($1))";
        let asked = list(user_ids.iter().map(|user_id| user_id.as_str()));
        let rows: Vec<Row> = db!(self.read(), |pool| sqlx::query_as(SQL).bind(asked).fetch_all(pool).await)?;
        rows.into_iter().map(remote_list).collect()
    }

    /// Up to `limit` device lists that are to be got anew, those first that wait longest.
    pub async fn stale_device_lists(&self, now_ts: u64, limit: usize) -> Result<Vec<RemoteDeviceList>> {
        const SQL: &str = "SELECT user_id, stream_id, position, stale, failures, retry_at_ts FROM remote_device_lists
            WHERE stale AND retry_at_ts <= $1 ORDER BY retry_at_ts LIMIT +$2";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows: Vec<Row> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(now_ts as i64).bind(limit).fetch_all(pool).await)?;
        rows.into_iter().map(remote_list).collect()
    }

    /// Notes what is known of a device list.
    pub async fn save_remote_device_list(&self, known: &RemoteDeviceList) -> Result<()> {
        const SQL: &str = "INSERT INTO remote_device_lists (user_id, stream_id, position, stale, failures, retry_at_ts)
            VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (user_id) DO UPDATE SET stream_id = excluded.stream_id,
            position = excluded.position, stale = excluded.stale, failures = excluded.failures,
            retry_at_ts = excluded.retry_at_ts";
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(known.user_id.as_str()).bind(known.stream_id).bind(known.position);
            let query = query.bind(known.stale).bind(i64::from(known.failures)).bind(known.retry_at_ts as i64);
            query.execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }

    /// Whether another server's user has been in one same room with us ever since a position, so that their server
    /// has told us of all changes of their devices. Of members who were there before us and whom we did not know yet we
    /// took none; whoever came after us was known at once.
    pub async fn is_followed_since(&self, user_id: &UserId, position: Position) -> Result<bool> {
        const SQL: &str = "SELECT s.room_nid FROM room_state s JOIN room_servers o ON o.room_nid = s.room_nid
            WHERE s.state_key_nid = (SELECT name_nid FROM names WHERE name = $1)
            AND s.type_nid = (SELECT name_nid FROM names WHERE name = 'm.room.member')
            AND s.until IS NULL AND s.membership = 'join' AND s.since <= $3
            AND o.server_nid = (SELECT name_nid FROM names WHERE name = $2) AND o.until IS NULL AND o.since <= $3
            AND (s.since > o.since OR NOT EXISTS (SELECT 1 FROM partial_states p WHERE p.room_nid = s.room_nid)
                AND NOT EXISTS (SELECT 1 FROM rooms r WHERE r.room_nid = s.room_nid AND r.complete_since > $3))
            LIMIT 1";
        let user = encode(user_id.as_str());
        let server = encode(self.shared.server_name.as_str());
        let room: Option<i64> = db!(self.read(), |pool| {
            sqlx::query_scalar(SQL).bind(&*user).bind(&*server).bind(position).fetch_optional(pool).await
        })?;
        Ok(room.is_some())
    }
}

fn users(names: Vec<String>) -> Result<Vec<OwnedUserId>> {
    names.into_iter().map(|name| parsed(&decode(name), "names", "name")).collect()
}

fn remote_list((user_id, stream_id, position, stale, failures, retry_at_ts): Row) -> Result<RemoteDeviceList> {
    Ok(RemoteDeviceList {
        user_id: parsed(&user_id, "remote_device_lists", "user_id")?,
        stream_id,
        position,
        stale,
        failures: u32::try_from(failures).unwrap_or(u32::MAX),
        retry_at_ts: retry_at_ts.unsigned_abs(),
    })
}
