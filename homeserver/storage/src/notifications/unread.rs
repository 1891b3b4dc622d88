//! How much a user has not read of all their rooms.
//!
//! It is asked for with each thing that a user is told on a device. What was counted is kept in memory as of a position,
//! so that only what came since is counted, and of the rooms where something was read since, all. What is kept is never
//! wrong, only behind: whether it holds is asked of the same rows that say what is read.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rules::change::Position;
use ruma::{OwnedUserId, UserId};

use super::UnreadCounts;
use crate::{
    Result, Storage,
    cache::RowCache,
    dialect::{db, number_list},
    names::encode,
};

/// How many events of a room are looked at, the latest: of those before only what stands out is counted, and what the user
/// alone was notified of. More than anybody reads, and what a count that begins anew costs at most. No more than this counts
/// of a room.
const ROOM_EVENTS_MAX: i64 = 10_000;
/// How much of what a user alone was notified of, in all rooms, is looked at besides. Whoever has more of it, unread, sees a
/// number beyond all reading anyway.
const OWN_MAX: i64 = 10_000;
/// How many invitations count.
const INVITATIONS_MAX: usize = 1_000;
/// How many rooms of how many users are kept, together: at some 60 bytes each, 12 MB.
const CACHED_ROOMS: u64 = 200_000;

/// What users had not read, by room, as of a position.
pub(crate) struct UnreadCache(RowCache<OwnedUserId, Arc<Counted>>);

struct Counted {
    up_to: Position,
    rooms: BTreeMap<i64, UnreadCounts>,
}

impl Default for UnreadCache {
    fn default() -> Self {
        Self(RowCache::new(CACHED_ROOMS, |_, counted: &Arc<Counted>| {
            u32::try_from(counted.rooms.len()).unwrap_or(u32::MAX).saturating_add(1)
        }))
    }
}

/// Of the user `$1`, what was notified of in rooms that they are joined to with `$2 < position <= $3`.
const SINCE: &str = "SELECT m.room_nid, COUNT(*),
        COALESCE(SUM(CASE WHEN COALESCE(n.highlight, e.everyone_highlight) THEN 1 ELSE 0 END), 0)
    FROM memberships m CROSS JOIN notified_events e LEFT JOIN notified n
        ON n.position = e.position AND n.user_nid = m.user_nid
    WHERE m.user_nid = $1 AND m.membership = 'join' AND e.room_nid = m.room_nid AND e.position > $2 AND e.position <= $3
    AND (n.actions >= 0 OR n.position IS NULL AND e.everyone IS NOT NULL AND e.sender_nid <> m.user_nid)
    AND e.position > COALESCE((SELECT r.position FROM read_up_to r
        WHERE r.user_nid = m.user_nid AND r.room_nid = m.room_nid AND r.thread_id = ''), 0)
    AND e.position > COALESCE((SELECT r.position FROM read_up_to r
        WHERE r.user_nid = m.user_nid AND r.room_nid = m.room_nid AND r.thread_id = e.thread_id), 0)
    GROUP BY m.room_nid";

/// Of the room `$2` its latest `$4` events with `position <= $3` that the user `$1` has not read with all of the room: how
/// many these are, where they begin, and what of them the user was notified of and has not read.
const ROOM: &str = "SELECT COUNT(*), COALESCE(MIN(u.position), 0), COALESCE(SUM(CASE WHEN u.counts THEN 1 ELSE 0 END), 0),
        COALESCE(SUM(CASE WHEN u.loud AND u.counts THEN 1 ELSE 0 END), 0)
    FROM (SELECT e.position, COALESCE(n.highlight, e.everyone_highlight) AS loud,
            (n.actions >= 0 OR n.position IS NULL AND e.everyone IS NOT NULL AND e.sender_nid <> $1)
            AND e.position > COALESCE((SELECT r.position FROM read_up_to r
                WHERE r.user_nid = $1 AND r.room_nid = $2 AND r.thread_id = e.thread_id), 0) AS counts
        FROM (SELECT l.position, l.thread_id, l.sender_nid, l.everyone, l.everyone_highlight FROM notified_events l
                WHERE l.room_nid = $2 AND l.position <= $3 AND l.position > COALESCE((SELECT r.position FROM read_up_to r
                    WHERE r.user_nid = $1 AND r.room_nid = $2 AND r.thread_id = ''), 0)
                ORDER BY l.position DESC LIMIT +$4) AS e
            LEFT JOIN notified n ON n.position = e.position AND n.user_nid = $1) AS u";

/// What the user `$1` was notified of in the room `$2` with `position < $3`, and has not read: how much, and how much of it
/// stands out. Of what stands out to them or to everyone, all; of what else they alone were notified of, what is among the
/// latest `$4` in all rooms. The plus keeps `SQLite` from looking through all of the room for the few that stand out to
/// everyone.
const EARLIER: &str = "SELECT COUNT(*), COALESCE(SUM(CASE WHEN e.loud THEN 1 ELSE 0 END), 0) FROM (
        SELECT e.position, e.thread_id, TRUE AS loud FROM notified n CROSS JOIN notified_events e
            WHERE n.user_nid = $1 AND n.highlight AND n.actions >= 0 AND n.position < $3
            AND n.position > COALESCE((SELECT r.position FROM read_up_to r
                WHERE r.user_nid = $1 AND r.room_nid = $2 AND r.thread_id = ''), 0)
            AND e.position = n.position AND e.room_nid = $2
        UNION ALL SELECT e.position, e.thread_id, FALSE AS loud
            FROM (SELECT o.position FROM notified o
                WHERE o.user_nid = $1 AND o.actions >= 0 AND NOT o.highlight AND o.position < $3
                AND o.position > COALESCE((SELECT r.position FROM read_up_to r
                    WHERE r.user_nid = $1 AND r.room_nid = $2 AND r.thread_id = ''), 0)
                ORDER BY o.position DESC LIMIT +$4) AS own CROSS JOIN notified_events e
            WHERE e.position = own.position AND e.room_nid = $2
        UNION ALL SELECT l.position, l.thread_id, TRUE AS loud FROM notified_events l
            WHERE l.everyone_highlight AND l.position < $3
            AND l.position > COALESCE((SELECT r.position FROM read_up_to r
                WHERE r.user_nid = $1 AND r.room_nid = $2 AND r.thread_id = ''), 0)
            AND +l.room_nid = $2 AND l.everyone IS NOT NULL AND l.sender_nid <> $1
            AND NOT EXISTS (SELECT 1 FROM notified n WHERE n.position = l.position AND n.user_nid = $1)) AS e
    WHERE e.position > COALESCE((SELECT r.position FROM read_up_to r
        WHERE r.user_nid = $1 AND r.room_nid = $2 AND r.thread_id = e.thread_id), 0)";

impl Storage {
    /// How much a user has not read of all rooms that they are joined or invited to. Of each room its latest 10,000 events
    /// that notified anybody count, and what stands out or was for this user alone, however long ago: up to 10,000.
    pub async fn unread_total(&self, user_id: &UserId) -> Result<UnreadCounts> {
        let mut total = self.unread_joined(user_id).await?;
        total.notifications += self.unread_invitations(user_id, INVITATIONS_MAX).await?.len() as u64;
        Ok(total)
    }

    /// The same, without invitations.
    pub async fn unread_joined(&self, user_id: &UserId) -> Result<UnreadCounts> {
        const USER: &str = "SELECT name_nid FROM names WHERE name = $1";
        let name = encode(user_id.as_str());
        let known: Option<i64> =
            db!(self.read(), |pool| sqlx::query_scalar(USER).bind(&*name).fetch_optional(pool).await)?;
        let Some(number) = known else { return Ok(UnreadCounts::default()) };
        // In this order: what changes while it is counted has changed after this position.
        let (head, reading) = (self.head(), self.shared.unread.0.reading());
        let before = self.shared.unread.0.get(&user_id.to_owned());
        let rooms = self.counted_since(number, before.as_deref(), head).await?;
        let mut total = UnreadCounts::default();
        for counts in rooms.values() {
            total += *counts;
        }
        self.shared.unread.0.offer(reading, user_id.to_owned(), Arc::new(Counted { up_to: head, rooms }));
        Ok(total)
    }

    async fn counted_since(
        &self,
        user_nid: i64,
        before: Option<&Counted>,
        head: Position,
    ) -> Result<BTreeMap<i64, UnreadCounts>> {
        const JOINED: &str = "SELECT room_nid, position FROM memberships WHERE user_nid = $1 AND membership = 'join'";
        let joined: Vec<(i64, Position)> =
            db!(self.read(), |pool| sqlx::query_as(JOINED).bind(user_nid).fetch_all(pool).await)?;
        let (mut rooms, mut anew) = (BTreeMap::new(), BTreeSet::new());
        let changed = match before {
            Some(before) => self.rooms_to_count_anew(user_nid, before.up_to).await?,
            None => BTreeSet::new(),
        };
        for (room_nid, joined_at) in joined {
            match before.filter(|before| joined_at < before.up_to && !changed.contains(&room_nid)) {
                // What is not among them was read to its end.
                Some(before) => drop(rooms.insert(room_nid, before.rooms.get(&room_nid).copied().unwrap_or_default())),
                None => drop(anew.insert(room_nid)),
            }
        }
        if let Some(before) = before {
            for (room_nid, counts) in self.notified_since(user_nid, before.up_to, head).await? {
                if let Some(room) = rooms.get_mut(&room_nid) {
                    *room += counts;
                    *room = capped(*room);
                }
            }
        }
        for room_nid in self.rooms_with_unread(user_nid, anew, head).await? {
            rooms.insert(room_nid, self.notified_in(user_nid, room_nid, head).await?);
        }
        rooms.retain(|_, counts| counts.notifications > 0);
        Ok(rooms)
    }

    /// The rooms of which a user has read something since a position, or where something was taken back. `changed` may be
    /// the position itself, as reading has none of its own.
    async fn rooms_to_count_anew(&self, user_nid: i64, since: Position) -> Result<BTreeSet<i64>> {
        const SQL: &str = "SELECT room_nid FROM read_up_to WHERE user_nid = $1 AND changed >= $2
            UNION SELECT w.room_nid FROM memberships m CROSS JOIN withdrawn_notifications w
                WHERE m.user_nid = $1 AND w.room_nid = m.room_nid AND w.changed >= $2";
        let rooms: Vec<i64> =
            db!(self.read(), |pool| { sqlx::query_scalar(SQL).bind(user_nid).bind(since).fetch_all(pool).await })?;
        Ok(rooms.into_iter().collect())
    }

    async fn notified_since(
        &self,
        user_nid: i64,
        since: Position,
        until: Position,
    ) -> Result<BTreeMap<i64, UnreadCounts>> {
        let rows: Vec<(i64, i64, i64)> = db!(self.read(), |pool| {
            sqlx::query_as(SINCE).bind(user_nid).bind(since).bind(until).fetch_all(pool).await
        })?;
        Ok(rows.into_iter().map(|(room_nid, all, loud)| (room_nid, counts((all, loud)))).collect())
    }

    /// Which of these rooms have anything after what a user has read of all of the room: in most there is nothing.
    async fn rooms_with_unread(&self, user_nid: i64, rooms: BTreeSet<i64>, until: Position) -> Result<Vec<i64>> {
        const SQL: &str = "SELECT m.room_nid FROM json_each($2) listed CROSS JOIN memberships m
            WHERE m.user_nid = $1 AND m.room_nid = CAST(listed.value AS BIGINT)
            AND EXISTS (SELECT 1 FROM notified_events e WHERE e.room_nid = m.room_nid AND e.position <= $3
                AND e.position > COALESCE((SELECT r.position FROM read_up_to r
                    WHERE r.user_nid = m.user_nid AND r.room_nid = m.room_nid AND r.thread_id = ''), 0))";
        if rooms.is_empty() {
            return Ok(Vec::new());
        }
        let rooms = number_list(rooms);
        Ok(db!(self.read(), |pool| {
            sqlx::query_scalar(SQL).bind(user_nid).bind(rooms).bind(until).fetch_all(pool).await
        })?)
    }

    async fn notified_in(&self, user_nid: i64, room_nid: i64, until: Position) -> Result<UnreadCounts> {
        let row: (i64, Position, i64, i64) = db!(self.read(), |pool| {
            let query = sqlx::query_as(ROOM).bind(user_nid).bind(room_nid).bind(until).bind(ROOM_EVENTS_MAX);
            query.fetch_one(pool).await
        })?;
        let (seen, first, notifications, highlights) = row;
        // However much came since that is nothing to the user.
        let (earlier, earlier_highlights): (i64, i64) = if seen < ROOM_EVENTS_MAX {
            (0, 0)
        } else {
            db!(self.read(), |pool| {
                let query = sqlx::query_as(EARLIER).bind(user_nid).bind(room_nid).bind(first).bind(OWN_MAX);
                query.fetch_one(pool).await
            })?
        };
        Ok(capped(counts((notifications + earlier, highlights + earlier_highlights))))
    }
}

/// No more of a room than is counted when it is counted anew, so that both ways come to the same.
fn capped(counts: UnreadCounts) -> UnreadCounts {
    let max = ROOM_EVENTS_MAX.unsigned_abs();
    UnreadCounts { notifications: counts.notifications.min(max), highlights: counts.highlights.min(max) }
}

fn counts((notifications, highlights): (i64, i64)) -> UnreadCounts {
    UnreadCounts { notifications: notifications.unsigned_abs(), highlights: highlights.unsigned_abs() }
}
