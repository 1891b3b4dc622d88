//! What is due to the pushers of a user.

use rules::change::Position;
use ruma::{MilliSecondsSinceUnixEpoch, OwnedUserId, UserId};

use crate::{
    NotificationRecord, Result, Storage,
    dialect::{db, parsed},
    names::{decode, encode},
};

/// How much of the log is looked through first for what is due; then twice as much each time. So what it costs grows with
/// what is found, and not with all that waits.
const WINDOW: Position = 1_000;
/// How many calls are counted.
const CALLS_MAX: i64 = 1_000;

impl Storage {
    /// What a user was notified of with `since < position <= until` in the rooms that they are joined or invited to, and
    /// has not read: up to `limit` events, the earliest first.
    pub async fn due_notifications(
        &self,
        user_id: &UserId,
        since: Position,
        until: Position,
        limit: usize,
    ) -> Result<Vec<NotificationRecord>> {
        let (mut from, mut window) = (since, WINDOW);
        let mut positions = Vec::new();
        while from < until && positions.len() < limit {
            from = self.past_gap(from);
            let to = until.min(from.saturating_add(window));
            positions.extend(self.due_positions(user_id, from, to, limit - positions.len()).await?);
            (from, window) = (to, window.saturating_mul(2));
        }
        if positions.is_empty() {
            return Ok(Vec::new());
        }
        let mut due = self.notifications_at(user_id, positions).await?;
        due.reverse();
        Ok(due)
    }

    async fn due_positions(
        &self,
        user_id: &UserId,
        since: Position,
        until: Position,
        limit: usize,
    ) -> Result<Vec<Position>> {
        const SQL: &str = "SELECT e.position
            FROM memberships m CROSS JOIN notified_events e LEFT JOIN notified n
                ON n.position = e.position AND n.user_nid = m.user_nid
            WHERE m.user_nid = (SELECT name_nid FROM names WHERE name = $1) AND m.membership IN ('join', 'invite')
            AND e.room_nid = m.room_nid AND e.position > $2 AND e.position <= $3
            AND e.position > COALESCE((SELECT r.position FROM read_up_to r
                WHERE r.user_nid = m.user_nid AND r.room_nid = m.room_nid AND r.thread_id = ''), 0)
            AND (n.actions >= 0 OR n.position IS NULL AND e.everyone IS NOT NULL AND e.sender_nid <> m.user_nid
                AND m.membership = 'join')
            AND e.position > COALESCE((SELECT r.position FROM read_up_to r
                WHERE r.user_nid = m.user_nid AND r.room_nid = m.room_nid AND r.thread_id = e.thread_id), 0)
            ORDER BY e.position LIMIT +$4";
        let (user, limit) = (encode(user_id.as_str()), i64::try_from(limit).unwrap_or(i64::MAX));
        Ok(db!(self.read(), |pool| {
            sqlx::query_scalar(SQL).bind(&*user).bind(since).bind(until).bind(limit).fetch_all(pool).await
        })?)
    }

    /// Who invited a user, once for each invitation that notified them and that is neither read nor answered: up to
    /// `limit` of them, the latest first. Of a room that is not known here, the last invitation.
    pub async fn unread_invitations(&self, user_id: &UserId, limit: usize) -> Result<Vec<OwnedUserId>> {
        // Where the room is known, an invitation stands where it became the user's membership, else where their list of
        // rooms changed: so nothing else of the room is looked at, however much there is.
        const SQL: &str = "SELECT i.name FROM (
                SELECT e.position, s.name FROM memberships m CROSS JOIN room_state v CROSS JOIN notified_events e
                    CROSS JOIN notified n CROSS JOIN names s
                WHERE m.user_nid = (SELECT name_nid FROM names WHERE name = $1) AND m.membership = 'invite'
                AND v.room_nid = m.room_nid AND v.state_key_nid = m.user_nid
                AND v.type_nid = (SELECT name_nid FROM names WHERE name = 'm.room.member')
                AND e.position = v.since AND e.room_nid = m.room_nid
                AND n.position = e.position AND n.user_nid = m.user_nid AND n.actions >= 0
                AND s.name_nid = e.sender_nid
                AND e.position > COALESCE((SELECT MAX(r.position) FROM read_up_to r WHERE r.user_nid = m.user_nid
                    AND r.room_nid = m.room_nid AND r.thread_id IN ('', e.thread_id)), 0)
            UNION SELECT e.position, s.name FROM memberships m CROSS JOIN notified_events e
                    CROSS JOIN notified n CROSS JOIN names s
                WHERE m.user_nid = (SELECT name_nid FROM names WHERE name = $1) AND m.membership = 'invite'
                AND e.position = m.position AND e.room_nid = m.room_nid
                AND n.position = e.position AND n.user_nid = m.user_nid AND n.actions >= 0
                AND s.name_nid = e.sender_nid
                AND e.position > COALESCE((SELECT MAX(r.position) FROM read_up_to r WHERE r.user_nid = m.user_nid
                    AND r.room_nid = m.room_nid AND r.thread_id IN ('', e.thread_id)), 0)
            ) AS i ORDER BY i.position DESC LIMIT +$2";
        let (user, limit) = (encode(user_id.as_str()), i64::try_from(limit).unwrap_or(i64::MAX));
        let names: Vec<String> =
            db!(self.read(), |pool| sqlx::query_scalar(SQL).bind(&*user).bind(limit).fetch_all(pool).await)?;
        names.into_iter().map(|name| parsed(&decode(name), "notified_events", "sender_nid")).collect()
    }

    /// How many calls a user was notified of before a time, and has not read since; at most 1,000.
    pub async fn unread_calls(&self, user_id: &UserId, before: MilliSecondsSinceUnixEpoch) -> Result<u64> {
        const SQL: &str = "SELECT COUNT(*) FROM (SELECT e.position
            FROM memberships m CROSS JOIN notified_events e LEFT JOIN notified n
                ON n.position = e.position AND n.user_nid = m.user_nid
            WHERE m.user_nid = (SELECT name_nid FROM names WHERE name = $1) AND m.membership = 'join'
            AND e.room_nid = m.room_nid AND e.is_call AND e.ts < $2
            AND e.position > COALESCE((SELECT r.position FROM read_up_to r
                WHERE r.user_nid = m.user_nid AND r.room_nid = m.room_nid AND r.thread_id = ''), 0)
            AND e.position > COALESCE((SELECT r.position FROM read_up_to r
                WHERE r.user_nid = m.user_nid AND r.room_nid = m.room_nid AND r.thread_id = e.thread_id), 0)
            AND (n.actions >= 0 OR n.position IS NULL AND e.everyone IS NOT NULL AND e.sender_nid <> m.user_nid)
            LIMIT +$3) AS calls";
        let (user, before) = (encode(user_id.as_str()), i64::from(before.0));
        let count: i64 = db!(self.read(), |pool| {
            sqlx::query_scalar(SQL).bind(&*user).bind(before).bind(CALLS_MAX).fetch_one(pool).await
        })?;
        Ok(count.unsigned_abs())
    }
}
