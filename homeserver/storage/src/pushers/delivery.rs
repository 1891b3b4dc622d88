//! How far pushers have got, and what is due to them.

use rules::change::Position;
use ruma::{MilliSecondsSinceUnixEpoch, OwnedUserId, UserId};

use super::PusherKey;
use crate::{
    NotificationRecord, Result, Storage,
    dialect::{db, parsed},
    log::LogKind,
    names::{decode, encode},
};

/// How far a pusher has got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PusherQueue {
    /// Which.
    pub key: PusherKey,
    /// Everything up to this position was delivered, or need not be.
    pub cursor: Position,
    /// The count of what is not read that was told last.
    pub badge: Option<u64>,
    /// How many attempts failed in a row.
    pub failures: u32,
    /// When to go on, in milliseconds since the epoch, if something waits.
    pub retry_at_ts: Option<u64>,
    /// How long to wait after the next letter, in milliseconds.
    pub throttle_ms: u64,
}

/// A pusher that the log may have something for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConcernedPusher {
    /// Which.
    pub key: PusherKey,
    /// Where it leads.
    pub gateway: String,
    /// When to go on, in milliseconds since the epoch, if something waits.
    pub retry_at_ts: Option<u64>,
}

/// Cursor, badge, failures, retry at, throttle.
type QueueRow = (Position, Option<i64>, i64, Option<i64>, i64);

/// User, app, pushkey, gateway, retry at.
type ConcernedRow = (String, String, String, String, Option<i64>);

impl Storage {
    /// How far a pusher has got, if there still is one.
    pub async fn pusher_queue(&self, key: &PusherKey) -> Result<Option<PusherQueue>> {
        const SQL: &str = "SELECT cursor, badge, failures, retry_at_ts, throttle_ms FROM pushers
            WHERE user_id = $1 AND app_id = $2 AND pushkey = $3";
        let row: Option<QueueRow> = db!(self.read(), |pool| {
            let query = sqlx::query_as(SQL).bind(key.user_id.as_str());
            query.bind(&key.app_id).bind(&key.pushkey).fetch_optional(pool).await
        })?;
        Ok(row.map(|(cursor, badge, failures, retry_at_ts, throttle_ms)| PusherQueue {
            key: key.clone(),
            cursor,
            badge: badge.map(i64::unsigned_abs),
            failures: u32::try_from(failures).unwrap_or(u32::MAX),
            retry_at_ts: retry_at_ts.map(i64::unsigned_abs),
            throttle_ms: throttle_ms.unsigned_abs(),
        }))
    }

    /// Notes how far pushers have got. Those that are gone meanwhile stay gone, and none goes back.
    pub async fn save_pusher_queues(&self, queues: &[PusherQueue]) -> Result<()> {
        const SQL: &str = "UPDATE pushers SET cursor = CASE WHEN cursor > $4 THEN cursor ELSE $4 END, badge = $5,
            failures = $6, retry_at_ts = $7, throttle_ms = $8 WHERE user_id = $1 AND app_id = $2 AND pushkey = $3";
        let mut transaction = self.begin().await?;
        for queue in queues {
            let PusherKey { user_id, app_id, pushkey } = &queue.key;
            db!(transaction.connection(), |connection| {
                let query = sqlx::query(SQL).bind(user_id.as_str()).bind(app_id).bind(pushkey).bind(queue.cursor);
                let query = query.bind(queue.badge.map(|badge| badge as i64)).bind(i64::from(queue.failures));
                let query = query.bind(queue.retry_at_ts.map(|ts| ts as i64)).bind(queue.throttle_ms as i64);
                query.execute(connection).await.map(drop)
            })?;
        }
        transaction.commit().await
    }

    /// The pushers that wait for their next attempt.
    pub async fn waiting_pushers(&self) -> Result<Vec<ConcernedPusher>> {
        const SQL: &str = "SELECT user_id, app_id, pushkey, gateway, retry_at_ts FROM pushers
            WHERE retry_at_ts IS NOT NULL ORDER BY retry_at_ts, user_id, app_id, pushkey";
        let rows: Vec<ConcernedRow> = db!(self.read(), |pool| sqlx::query_as(SQL).fetch_all(pool).await)?;
        rows.into_iter().map(concerned).collect()
    }

    /// The pushers to which entries of the log with `since < position <= until` may be of interest: their users are
    /// notified of something, have read something, or came or went.
    pub async fn concerned_pushers(&self, since: Position, until: Position) -> Result<Vec<ConcernedPusher>> {
        const ANY: &str = "SELECT EXISTS (SELECT 1 FROM pushers)";
        // What everyone is notified of is asked for room by room, so that no one who is elsewhere is looked at.
        const SQL: &str = "SELECT p.user_id, p.app_id, p.pushkey, p.gateway, p.retry_at_ts FROM (
                SELECT m.user_nid FROM (SELECT DISTINCT room_nid FROM notified_events
                    WHERE position > $1 AND position <= $2 AND everyone IS NOT NULL) AS e
                CROSS JOIN memberships m WHERE m.room_nid = e.room_nid AND m.membership = 'join'
                UNION SELECT n.user_nid FROM notified n
                    WHERE n.position > $1 AND n.position <= $2 AND n.actions >= 0
                UNION SELECT l.user_nid FROM log l
                    WHERE l.position > $1 AND l.position <= $2 AND l.user_nid IS NOT NULL AND l.kind IN ($3, $4, $5)
            ) AS c CROSS JOIN names u CROSS JOIN pushers p
            WHERE u.name_nid = c.user_nid AND p.user_id = u.name ORDER BY p.user_id, p.app_id, p.pushkey";
        let there_are: bool = db!(self.read(), |pool| sqlx::query_scalar(ANY).fetch_one(pool).await)?;
        if !there_are {
            return Ok(Vec::new());
        }
        let [event, membership, receipt] = [LogKind::Event, LogKind::Membership, LogKind::Receipt].map(LogKind::code);
        let rows: Vec<ConcernedRow> = db!(self.read(), |pool| {
            let query = sqlx::query_as(SQL).bind(since).bind(until).bind(event).bind(membership).bind(receipt);
            query.fetch_all(pool).await
        })?;
        rows.into_iter().map(concerned).collect()
    }

    /// Up to where the log was read for pushers.
    pub async fn pushers_read(&self) -> Result<Position> {
        const SQL: &str = "SELECT position FROM pushers_read";
        Ok(db!(self.read(), |pool| sqlx::query_scalar(SQL).fetch_one(pool).await)?)
    }

    /// Notes up to where the log was read for pushers.
    pub async fn save_pushers_read(&self, position: Position) -> Result<()> {
        const SQL: &str = "UPDATE pushers_read SET position = $1";
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            sqlx::query(SQL).bind(position).execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }

    /// What a user was notified of with `since < position <= until` in the rooms that they are joined or invited to, and
    /// has not read: up to `limit` events, the earliest first.
    pub async fn due_notifications(
        &self,
        user_id: &UserId,
        since: Position,
        until: Position,
        limit: usize,
    ) -> Result<Vec<NotificationRecord>> {
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
            ORDER BY e.position LIMIT $4";
        let (user, limit) = (encode(user_id.as_str()), i64::try_from(limit).unwrap_or(i64::MAX));
        let positions: Vec<Position> = db!(self.read(), |pool| {
            sqlx::query_scalar(SQL).bind(&*user).bind(since).bind(until).bind(limit).fetch_all(pool).await
        })?;
        if positions.is_empty() {
            return Ok(Vec::new());
        }
        let mut due = self.notifications_at(user_id, positions).await?;
        due.reverse();
        Ok(due)
    }

    /// Who invited a user, once for each invitation that notified them and that is neither read nor answered: up to
    /// `limit` of them, the latest first.
    pub async fn unread_invitations(&self, user_id: &UserId, limit: usize) -> Result<Vec<OwnedUserId>> {
        const SQL: &str = "SELECT s.name FROM memberships m CROSS JOIN notified_events e CROSS JOIN notified n
                CROSS JOIN names s
            WHERE m.user_nid = (SELECT name_nid FROM names WHERE name = $1) AND m.membership = 'invite'
            AND e.room_nid = m.room_nid AND n.position = e.position AND n.user_nid = m.user_nid AND n.actions >= 0
            AND s.name_nid = e.sender_nid
            AND e.position > COALESCE((SELECT r.position FROM read_up_to r
                WHERE r.user_nid = m.user_nid AND r.room_nid = m.room_nid AND r.thread_id = ''), 0)
            AND e.position > COALESCE((SELECT r.position FROM read_up_to r
                WHERE r.user_nid = m.user_nid AND r.room_nid = m.room_nid AND r.thread_id = e.thread_id), 0)
            ORDER BY e.position DESC LIMIT $2";
        let (user, limit) = (encode(user_id.as_str()), i64::try_from(limit).unwrap_or(i64::MAX));
        let names: Vec<String> =
            db!(self.read(), |pool| sqlx::query_scalar(SQL).bind(&*user).bind(limit).fetch_all(pool).await)?;
        names.into_iter().map(|name| parsed(&decode(name), "notified_events", "sender_nid")).collect()
    }

    /// How many calls a user was notified of before a time, and has not read since.
    pub async fn unread_calls(&self, user_id: &UserId, before: MilliSecondsSinceUnixEpoch) -> Result<u64> {
        const SQL: &str = "SELECT COUNT(*)
            FROM memberships m CROSS JOIN notified_events e CROSS JOIN events v LEFT JOIN notified n
                ON n.position = e.position AND n.user_nid = m.user_nid
            WHERE m.user_nid = (SELECT name_nid FROM names WHERE name = $1) AND m.membership = 'join'
            AND e.room_nid = m.room_nid AND e.ts < $2
            AND e.position > COALESCE((SELECT r.position FROM read_up_to r
                WHERE r.user_nid = m.user_nid AND r.room_nid = m.room_nid AND r.thread_id = ''), 0)
            AND e.position > COALESCE((SELECT r.position FROM read_up_to r
                WHERE r.user_nid = m.user_nid AND r.room_nid = m.room_nid AND r.thread_id = e.thread_id), 0)
            AND (n.actions >= 0 OR n.position IS NULL AND e.everyone IS NOT NULL AND e.sender_nid <> m.user_nid)
            AND v.event_id = e.event_id
            AND v.type_nid = (SELECT name_nid FROM names WHERE name = 'm.call.invite')";
        let (user, before) = (encode(user_id.as_str()), i64::from(before.0));
        let count: i64 =
            db!(self.read(), |pool| sqlx::query_scalar(SQL).bind(&*user).bind(before).fetch_one(pool).await)?;
        Ok(count.unsigned_abs())
    }
}

fn concerned((user_id, app_id, pushkey, gateway, retry_at_ts): ConcernedRow) -> Result<ConcernedPusher> {
    let key = PusherKey { user_id: parsed(&user_id, "pushers", "user_id")?, app_id, pushkey };
    Ok(ConcernedPusher { key, gateway, retry_at_ts: retry_at_ts.map(i64::unsigned_abs) })
}
