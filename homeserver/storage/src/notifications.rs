//! What local users are notified of, and how much of it they have not read.
//!
//! Counts are worked out from the rows that each commit writes: what somebody was notified of, after the position up to
//! which they have read. So they cannot drift, whatever happens in between.
//!
//! What an event comes to for everyone stands in its one row of `notified_events`. It holds for users of ours who were
//! joined, did not send it, and have no row in `notified`, which says what it comes to for them instead. Who joins or
//! leaves has read all that was before: so of what a user has not read, that which holds for everyone holds for them if
//! they are joined now.

mod recent;
mod unread;

use std::{collections::BTreeMap, sync::Arc};

use rules::change::Position;
use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UInt, UserId};
use serde_json::value::RawValue;

pub(crate) use self::{
    recent::{MAIN_THREAD, RecentRead, UnreadChange},
    unread::UnreadCache,
};
use crate::{
    Result, Storage, StorageError,
    cache::RowCache,
    dialect::{db, number_list, parsed},
    names::{decode, encode},
};

/// How many events one pass of pruning looks at.
const PRUNED_EVENTS_MAX: i64 = 500;
/// How many events are looked through for one page of a user's notifications.
const SEARCHED_EVENTS_MAX: i64 = 10_000;

/// For how many users and rooms it is remembered what was not read. Some 200 bytes each.
const CACHED_ROOMS: u64 = 50_000;

/// Of the room `$2` what the user `$1` was notified of with `$3 < position <= $4` and has not read, by thread; and, of no
/// thread, how many reasons there are to count anew what came up to `$3`, and whether the user is joined.
const UNREAD_BETWEEN: &str = "WITH asked AS (SELECT
        COALESCE((SELECT name_nid FROM names WHERE name = $1), 0) AS user_nid,
        COALESCE((SELECT name_nid FROM names WHERE name = $2), 0) AS room_nid)
    SELECT CAST(NULL AS TEXT), (SELECT COUNT(*) FROM asked CROSS JOIN read_up_to r
            WHERE r.user_nid = asked.user_nid AND r.room_nid = asked.room_nid AND r.changed >= $3)
        + (SELECT COUNT(*) FROM asked CROSS JOIN withdrawn_notifications w
            WHERE w.room_nid = asked.room_nid AND w.changed >= $3)
        + (SELECT COUNT(*) FROM asked CROSS JOIN memberships m
            WHERE m.user_nid = asked.user_nid AND m.room_nid = asked.room_nid AND m.position >= $3),
        (SELECT COUNT(*) FROM asked CROSS JOIN memberships m
            WHERE m.user_nid = asked.user_nid AND m.room_nid = asked.room_nid AND m.membership = 'join')
    UNION ALL SELECT e.thread_id, COUNT(*),
        COALESCE(SUM(CASE WHEN COALESCE(n.highlight, e.everyone_highlight) THEN 1 ELSE 0 END), 0)
    FROM asked CROSS JOIN notified_events e LEFT JOIN notified n
        ON n.position = e.position AND n.user_nid = asked.user_nid
    WHERE e.room_nid = asked.room_nid AND e.position > $3 AND e.position <= $4
    AND e.position > COALESCE((SELECT r.position FROM read_up_to r
        WHERE r.user_nid = asked.user_nid AND r.room_nid = asked.room_nid AND r.thread_id = ''), 0)
    AND (n.actions >= 0 OR n.position IS NULL AND e.everyone IS NOT NULL
        AND e.sender_nid <> asked.user_nid
        AND EXISTS (SELECT 1 FROM memberships m WHERE m.user_nid = asked.user_nid
            AND m.room_nid = asked.room_nid AND m.membership = 'join'))
    AND e.position > COALESCE((SELECT r.position FROM read_up_to r
        WHERE r.user_nid = asked.user_nid AND r.room_nid = e.room_nid AND r.thread_id = e.thread_id), 0)
    GROUP BY e.thread_id";

/// What users had not read of rooms, each as of a position. It is not forgotten when that changes: whether it has is asked
/// with what came since, of memory as far as that reaches back.
pub(crate) type RoomUnreadCache = RowCache<(OwnedUserId, OwnedRoomId), Arc<CountedRoom>>;

/// What a user had not read of one room, by thread.
pub(crate) struct CountedRoom {
    up_to: Position,
    joined: bool,
    threads: BTreeMap<String, UnreadCounts>,
}

/// What was counted between two positions.
#[derive(Default)]
struct CountedBetween {
    threads: BTreeMap<String, UnreadCounts>,
    /// Whether what came before may have to be counted anew.
    has_changed: bool,
    joined: bool,
}

pub(crate) fn room_unread_cache() -> RoomUnreadCache {
    RowCache::new(CACHED_ROOMS, |_, counted: &Arc<CountedRoom>| {
        u32::try_from(counted.threads.len()).unwrap_or(u32::MAX).saturating_add(1)
    })
}

/// How much somebody has not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnreadCounts {
    /// Of how many events they were notified.
    pub notifications: u64,
    /// How many of these stand out.
    pub highlights: u64,
}

impl std::ops::AddAssign for UnreadCounts {
    fn add_assign(&mut self, other: Self) {
        self.notifications += other.notifications;
        self.highlights += other.highlights;
    }
}

/// One event that somebody was notified of.
#[derive(Clone, Debug)]
pub struct NotificationRecord {
    /// Its place among the notifications.
    pub position: Position,
    /// The room.
    pub room_id: OwnedRoomId,
    /// The event; not stored when it is an invitation to a room that this server is not in.
    pub event_id: OwnedEventId,
    /// When, by our clock.
    pub ts: MilliSecondsSinceUnixEpoch,
    /// Whether it stands out.
    pub highlight: bool,
    /// What was to be done about it: a JSON array of actions.
    pub actions: Box<RawValue>,
    /// Whether the user has read up to it since.
    pub read: bool,
}

/// Position, room, event, time, highlight, which actions, all actions, whether it is read.
type Row = (Position, String, String, i64, bool, i16, String, bool);

impl Storage {
    /// How much of a room a user has not read, by thread: `main`, or the root of a thread. Threads of which all is read
    /// are left out.
    pub async fn unread_counts(&self, user_id: &UserId, room_id: &RoomId) -> Result<BTreeMap<String, UnreadCounts>> {
        let key = (user_id.to_owned(), room_id.to_owned());
        // In this order: what changes while it is counted has changed after this position.
        let (head, known) = (self.head(), self.shared.room_unread.get(&key));
        let remembered = known.as_ref().and_then(|known| {
            let counts = known.counted_on((user_id, room_id), &self.shared.bus, head)?;
            Some(CountedRoom { up_to: head, joined: known.joined, threads: counts })
        });
        let counted = match remembered {
            Some(counted) => counted,
            None => self.count_unread(&key, known.as_deref(), head).await?,
        };
        let counts = counted.threads.clone();
        self.shared.room_unread.put_new(key, Arc::new(counted));
        Ok(counts)
    }

    /// The same out of the database, on top of what was counted before, if that still holds.
    async fn count_unread(
        &self,
        key: &(OwnedUserId, OwnedRoomId),
        known: Option<&CountedRoom>,
        head: Position,
    ) -> Result<CountedRoom> {
        let (after, mut threads) = known.map_or_else(Default::default, |known| (known.up_to, known.threads.clone()));
        let mut added = self.unread_between(key, after, head).await?;
        if added.has_changed && after > 0 {
            threads.clear();
            added = self.unread_between(key, 0, head).await?;
        }
        for (thread, unread) in added.threads {
            *threads.entry(thread).or_default() += unread;
        }
        Ok(CountedRoom { up_to: head, joined: added.joined, threads })
    }

    /// Of a room what a user was notified of with `after < position <= until` and has not read, by thread; and whether
    /// what came up to `after` may have to be counted anew, since something of it was read or taken back, or the user
    /// came or went. Reading has no position of its own, so that it may have changed at `after` itself.
    async fn unread_between(
        &self,
        (user_id, room_id): &(OwnedUserId, OwnedRoomId),
        after: Position,
        until: Position,
    ) -> Result<CountedBetween> {
        let (user, room) = (encode(user_id.as_str()), encode(room_id.as_str()));
        let rows: Vec<(Option<String>, i64, i64)> = db!(self.read(), |pool| {
            sqlx::query_as(UNREAD_BETWEEN).bind(&*user).bind(&*room).bind(after).bind(until).fetch_all(pool).await
        })?;
        let mut counted = CountedBetween::default();
        for (thread, notifications, highlights) in rows {
            match thread {
                None => (counted.has_changed, counted.joined) = (notifications > 0, highlights > 0),
                Some(thread) => {
                    let unread = UnreadCounts { notifications: notifications as u64, highlights: highlights as u64 };
                    counted.threads.insert(thread, unread);
                }
            }
        }
        Ok(counted)
    }

    /// When a user's reading of a room, or of one of its threads, went on last; 0 if it never did.
    pub async fn read_changed(&self, user_id: &UserId, room_id: &RoomId) -> Result<Position> {
        const SQL: &str = "SELECT COALESCE(MAX(changed), 0) FROM read_up_to
            WHERE user_nid = (SELECT name_nid FROM names WHERE name = $1)
            AND room_nid = (SELECT name_nid FROM names WHERE name = $2)";
        let (user, room) = (encode(user_id.as_str()), encode(room_id.as_str()));
        Ok(db!(self.read(), |pool| sqlx::query_scalar(SQL).bind(&*user).bind(&*room).fetch_one(pool).await)?)
    }

    /// What a user was notified of before a position, the latest first: up to `limit` events, and, if there may be more,
    /// the position to go on before. A page may hold fewer, since a bounded number of events is looked through.
    pub async fn notifications(
        &self,
        user_id: &UserId,
        before: Position,
        limit: usize,
        only_highlights: bool,
    ) -> Result<(Vec<NotificationRecord>, Option<Position>)> {
        const ANY: &str = "SELECT MIN(position), COUNT(*) FROM
            (SELECT position FROM notified_events WHERE position < $1 ORDER BY position DESC LIMIT +$2) AS seen";
        const LOUD: &str = "SELECT MIN(position), COUNT(*) FROM (SELECT position FROM notified_events
            WHERE everyone_highlight AND position < $1 ORDER BY position DESC LIMIT +$2) AS seen";
        let (window, sql) = if only_highlights { (LOUD, HIGHLIGHTS) } else { (ANY, NOTIFICATIONS) };
        let (user, count) = (encode(user_id.as_str()), i64::try_from(limit).unwrap_or(i64::MAX));
        let (least, seen): (Option<Position>, i64) = db!(self.read(), |pool| {
            sqlx::query_as(window).bind(before).bind(SEARCHED_EVENTS_MAX).fetch_one(pool).await
        })?;
        let there_is_more = least.filter(|_| seen == SEARCHED_EVENTS_MAX);
        let from = there_is_more.unwrap_or(0);
        let positions: Vec<Position> = db!(self.read(), |pool| {
            sqlx::query_scalar(sql).bind(&*user).bind(from).bind(before).bind(count).fetch_all(pool).await
        })?;
        let more = positions.last().copied().filter(|_| positions.len() == limit).or(there_is_more);
        Ok((self.notifications_at(user_id, positions).await?, more))
    }

    /// What a user was notified of at these positions, which are known to have notified them, the latest first.
    pub(crate) async fn notifications_at(
        &self,
        user_id: &UserId,
        positions: impl IntoIterator<Item = Position>,
    ) -> Result<Vec<NotificationRecord>> {
        const SQL: &str = "SELECT e.position, r.name, e.event_id, e.ts, COALESCE(n.highlight, e.everyone_highlight),
                COALESCE(n.actions, e.everyone), e.actions,
                e.position <= COALESCE((SELECT MAX(u.position) FROM read_up_to u
                    WHERE u.user_nid = (SELECT name_nid FROM names WHERE name = $1)
                    AND u.room_nid = e.room_nid AND u.thread_id IN ('', e.thread_id)), 0)
            FROM notified_events e JOIN names r ON r.name_nid = e.room_nid LEFT JOIN notified n
                ON n.position = e.position AND n.user_nid = (SELECT name_nid FROM names WHERE name = $1)
            WHERE e.position IN (SELECT CAST(value AS BIGINT) FROM json_each($2))
            AND COALESCE(n.actions, e.everyone) >= 0 ORDER BY e.position DESC";
        let (user, positions) = (encode(user_id.as_str()), number_list(positions));
        let rows: Vec<Row> =
            db!(self.read(), |pool| { sqlx::query_as(SQL).bind(&*user).bind(positions).fetch_all(pool).await })?;
        rows.into_iter().map(record).collect()
    }

    /// Forgets what was notified of before a time and is read since: looks at a bounded number of events after a
    /// position, and returns the last that it looked at, or nothing when there are no more.
    ///
    /// What everyone was notified of goes when all have read it, and with it what it came to for others.
    pub async fn prune_notifications(
        &self,
        after: Position,
        before: MilliSecondsSinceUnixEpoch,
    ) -> Result<Option<Position>> {
        const LAST: &str = "SELECT MAX(position) FROM (SELECT position FROM notified_events
            WHERE position > $1 AND ts < $2 ORDER BY position LIMIT +$3) AS seen";
        const PEOPLE: &str = "DELETE FROM notified WHERE position > $1 AND position <= $2
            AND EXISTS (SELECT 1 FROM notified_events e JOIN read_up_to r ON r.room_nid = e.room_nid
                WHERE e.position = notified.position AND e.everyone IS NULL AND r.user_nid = notified.user_nid
                AND r.thread_id IN ('', e.thread_id) AND r.position >= e.position)";
        const EVENTS: &str = "DELETE FROM notified_events WHERE position > $1 AND position <= $2 AND everyone IS NULL
            AND NOT EXISTS (SELECT 1 FROM notified n WHERE n.position = notified_events.position)";
        const READ_PEOPLE: &str = "DELETE FROM notified
            WHERE position IN (SELECT CAST(value AS BIGINT) FROM json_each($1))";
        const READ_EVENTS: &str = "DELETE FROM notified_events
            WHERE position IN (SELECT CAST(value AS BIGINT) FROM json_each($1))";
        let before = i64::from(before.0);
        let last: Option<Position> = db!(self.read(), |pool| {
            sqlx::query_scalar(LAST).bind(after).bind(before).bind(PRUNED_EVENTS_MAX).fetch_one(pool).await
        })?;
        let Some(last) = last else { return Ok(None) };
        let read = self.read_by_everyone(after, last).await?;
        if read.is_empty() && !self.is_any_read(after, last).await? {
            return Ok(Some(last));
        }
        let read = number_list(read);
        let mut transaction = self.begin().await?;
        for sql in [PEOPLE, EVENTS] {
            db!(transaction.connection(), |connection| {
                sqlx::query(sql).bind(after).bind(last).execute(connection).await.map(drop)
            })?;
        }
        for sql in [READ_PEOPLE, READ_EVENTS] {
            db!(transaction.connection(), |connection| {
                sqlx::query(sql).bind(&read).execute(connection).await.map(drop)
            })?;
        }
        transaction.commit().await?;
        Ok(Some(last))
    }

    /// Whether somebody has read what they alone were notified of.
    async fn is_any_read(&self, after: Position, last: Position) -> Result<bool> {
        const SQL: &str = "SELECT EXISTS (SELECT 1 FROM notified n
            JOIN notified_events e ON e.position = n.position
            JOIN read_up_to r ON r.room_nid = e.room_nid AND r.user_nid = n.user_nid
            WHERE n.position > $1 AND n.position <= $2 AND e.everyone IS NULL
            AND r.thread_id IN ('', e.thread_id) AND r.position >= e.position)";
        Ok(db!(self.read(), |pool| sqlx::query_scalar(SQL).bind(after).bind(last).fetch_one(pool).await)?)
    }

    /// Which events that everyone was notified of all have read. What is read stays read, and who comes has read all.
    async fn read_by_everyone(&self, after: Position, last: Position) -> Result<Vec<Position>> {
        // How far those in the room have read each thread is worked out once, not once for each event.
        const SQL: &str = "SELECT e.position FROM notified_events e JOIN (
                SELECT t.room_nid, t.thread_id, COALESCE((SELECT MIN(COALESCE(
                        (SELECT MAX(r.position) FROM read_up_to r WHERE r.user_nid = m.user_nid
                            AND r.room_nid = m.room_nid AND r.thread_id IN ('', t.thread_id)), 0))
                    FROM memberships m WHERE m.room_nid = t.room_nid AND m.membership = 'join'), $2) AS position
                FROM (SELECT DISTINCT room_nid, thread_id FROM notified_events
                    WHERE position > $1 AND position <= $2 AND everyone IS NOT NULL) AS t
            ) AS read ON read.room_nid = e.room_nid AND read.thread_id = e.thread_id
            WHERE e.position > $1 AND e.position <= $2 AND e.everyone IS NOT NULL AND e.position <= read.position
            AND NOT EXISTS (SELECT 1 FROM notified n WHERE n.position = e.position AND n.actions >= 0
                AND e.position > COALESCE((SELECT MAX(r.position) FROM read_up_to r WHERE r.user_nid = n.user_nid
                    AND r.room_nid = e.room_nid AND r.thread_id IN ('', e.thread_id)), 0))";
        Ok(db!(self.read(), |pool| sqlx::query_scalar(SQL).bind(after).bind(last).fetch_all(pool).await)?)
    }
}

/// Of the user `$1`, positions from `$2` on and before `$3`, at most `$4`, the latest first: all that notified them.
const NOTIFICATIONS: &str = "SELECT e.position FROM notified_events e LEFT JOIN notified n
        ON n.position = e.position AND n.user_nid = (SELECT name_nid FROM names WHERE name = $1)
    WHERE e.position >= $2 AND e.position < $3
    AND (n.actions >= 0 OR n.position IS NULL AND e.everyone IS NOT NULL
        AND e.sender_nid <> (SELECT name_nid FROM names WHERE name = $1)
        AND 'join' = (SELECT s.membership FROM room_state s WHERE s.room_nid = e.room_nid
            AND s.type_nid = (SELECT name_nid FROM names WHERE name = 'm.room.member')
            AND s.state_key_nid = (SELECT name_nid FROM names WHERE name = $1) AND s.since <= e.position
            ORDER BY s.since DESC LIMIT 1))
    ORDER BY e.position DESC LIMIT +$4";

/// The same, of what stands out.
const HIGHLIGHTS: &str = "SELECT n.position FROM notified n
    WHERE n.user_nid = (SELECT name_nid FROM names WHERE name = $1) AND n.highlight
    AND n.position >= $2 AND n.position < $3
    UNION ALL SELECT e.position FROM notified_events e
    WHERE e.everyone_highlight AND e.position >= $2 AND e.position < $3
    AND e.sender_nid <> (SELECT name_nid FROM names WHERE name = $1)
    AND NOT EXISTS (SELECT 1 FROM notified n
        WHERE n.position = e.position AND n.user_nid = (SELECT name_nid FROM names WHERE name = $1))
    AND 'join' = (SELECT s.membership FROM room_state s WHERE s.room_nid = e.room_nid
        AND s.type_nid = (SELECT name_nid FROM names WHERE name = 'm.room.member')
        AND s.state_key_nid = (SELECT name_nid FROM names WHERE name = $1) AND s.since <= e.position
        ORDER BY s.since DESC LIMIT 1)
    ORDER BY 1 DESC LIMIT +$4";

fn record((position, room_id, event_id, ts, highlight, index, actions, read): Row) -> Result<NotificationRecord> {
    let corrupt = |error: &dyn std::fmt::Display| {
        StorageError::corrupt("notified_events", "actions", position.to_string(), &error)
    };
    let mut actions: Vec<Box<RawValue>> = serde_json::from_str(&actions).map_err(|error| corrupt(&error))?;
    let index = usize::try_from(index).unwrap_or(usize::MAX);
    if index >= actions.len() {
        return Err(corrupt(&"there are fewer"));
    }
    Ok(NotificationRecord {
        position,
        room_id: parsed(&decode(room_id), "notified_events", "room_nid")?,
        event_id: parsed(&event_id, "notified_events", "event_id")?,
        ts: MilliSecondsSinceUnixEpoch(UInt::new_saturating(ts.max(0) as u64)),
        highlight,
        actions: actions.swap_remove(index),
        read,
    })
}
