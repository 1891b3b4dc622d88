//! Which pushers the log may have something for.
//!
//! Who has pushers is kept in memory, so that a message costs what the smaller side costs: those who are in its room, or
//! those who have pushers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rules::change::Position;
use ruma::{OwnedUserId, UserId};

use super::delivery::{ConcernedPusher, ConcernedRow, concerned};
use crate::{
    Result, Storage,
    dialect::{db, list, number_list},
    log::LogKind,
    names::{decode, encode},
};

/// The users who have pushers, and, until the next start, those who had. Never fewer: so nothing but a new pusher has to
/// be noted.
#[derive(Default)]
pub(crate) struct PusherHolders(Mutex<Holders>);

#[derive(Clone, Default)]
struct Holders {
    is_loaded: bool,
    users: Arc<BTreeSet<i64>>,
    /// Those of whom it is not known yet which number they have.
    unnumbered: BTreeSet<OwnedUserId>,
}

impl PusherHolders {
    /// Notes who has a pusher now. To be called after that is committed.
    pub(super) fn add(&self, user_id: &UserId) {
        self.lock().unnumbered.insert(user_id.to_owned());
    }

    fn lock(&self) -> MutexGuard<'_, Holders> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage {
    /// The pushers to which entries of the log with `since < position <= until` may be of interest: their users are
    /// notified of something, have read something, or came or went.
    pub async fn concerned_pushers(&self, since: Position, until: Position) -> Result<Vec<ConcernedPusher>> {
        const ROOMS: &str = "SELECT room_nid, COUNT(*) FROM notified_events
            WHERE position > $1 AND position <= $2 AND everyone IS NOT NULL GROUP BY room_nid";
        const USERS: &str = "SELECT n.user_nid FROM notified n
                WHERE n.position > $1 AND n.position <= $2 AND n.actions >= 0
            UNION SELECT l.user_nid FROM log l
                WHERE l.position > $1 AND l.position <= $2 AND l.user_nid IS NOT NULL AND l.kind IN ($3, $4, $5)";
        let holders = self.pusher_holders().await?;
        if holders.is_empty() {
            return Ok(Vec::new());
        }
        let [event, membership, receipt] = [LogKind::Event, LogKind::Membership, LogKind::Receipt].map(LogKind::code);
        let users: Vec<i64> = db!(self.read(), |pool| {
            let query = sqlx::query_scalar(USERS).bind(since).bind(until).bind(event).bind(membership).bind(receipt);
            query.fetch_all(pool).await
        })?;
        let mut found: BTreeSet<i64> = users.into_iter().filter(|user_nid| holders.contains(user_nid)).collect();
        // In this order: what is taken back in between leaves nobody out.
        let rooms: Vec<(i64, i64)> =
            db!(self.read(), |pool| sqlx::query_as(ROOMS).bind(since).bind(until).fetch_all(pool).await)?;
        let left_out = self.left_out(since, until).await?;
        for (room_nid, events) in rooms {
            let mut holders = self.holders_in(room_nid, &holders).await?;
            holders.retain(|user_nid| left_out.get(&(room_nid, *user_nid)).is_none_or(|count| *count < events));
            found.extend(holders);
        }
        self.pushers_of(found).await
    }

    /// Of how many events that notify everyone in a room some there are not notified, by room and user: those who muted
    /// the room, or want to hear of what mentions them only. It is not looked for them what is due.
    async fn left_out(&self, since: Position, until: Position) -> Result<BTreeMap<(i64, i64), i64>> {
        const SQL: &str = "SELECT e.room_nid, n.user_nid, COUNT(*) FROM notified_events e CROSS JOIN notified n
            WHERE e.position > $1 AND e.position <= $2 AND e.everyone IS NOT NULL
            AND n.position = e.position AND n.actions < 0 GROUP BY e.room_nid, n.user_nid";
        let rows: Vec<(i64, i64, i64)> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(since).bind(until).fetch_all(pool).await)?;
        Ok(rows.into_iter().map(|(room_nid, user_nid, events)| ((room_nid, user_nid), events)).collect())
    }

    /// The joined members of a room who have pushers.
    async fn holders_in(&self, room_nid: i64, holders: &BTreeSet<i64>) -> Result<Vec<i64>> {
        const MEMBERS: &str = "SELECT user_nid FROM memberships WHERE room_nid = $1 AND membership = 'join' LIMIT +$2";
        const AMONG: &str = "SELECT m.user_nid FROM json_each($2) listed CROSS JOIN memberships m
            WHERE m.user_nid = CAST(listed.value AS BIGINT) AND m.room_nid = $1 AND m.membership = 'join'";
        let limit = i64::try_from(holders.len()).unwrap_or(i64::MAX).saturating_add(1);
        let members: Vec<i64> =
            db!(self.read(), |pool| sqlx::query_scalar(MEMBERS).bind(room_nid).bind(limit).fetch_all(pool).await)?;
        if members.len() <= holders.len() {
            return Ok(members.into_iter().filter(|user_nid| holders.contains(user_nid)).collect());
        }
        let listed = number_list(holders.iter().copied());
        Ok(db!(self.read(), |pool| sqlx::query_scalar(AMONG).bind(room_nid).bind(listed).fetch_all(pool).await)?)
    }

    async fn pushers_of(&self, users: BTreeSet<i64>) -> Result<Vec<ConcernedPusher>> {
        const SQL: &str = "SELECT p.user_id, p.app_id, p.pushkey, p.gateway, p.retry_at_ts
            FROM json_each($1) listed CROSS JOIN names u CROSS JOIN pushers p
            WHERE u.name_nid = CAST(listed.value AS BIGINT) AND p.user_id = u.name
            ORDER BY p.user_id, p.app_id, p.pushkey";
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let listed = number_list(users);
        let rows: Vec<ConcernedRow> = db!(self.read(), |pool| sqlx::query_as(SQL).bind(listed).fetch_all(pool).await)?;
        rows.into_iter().map(concerned).collect()
    }

    /// The numbers of the users who have pushers. Who has none, has no part in anything yet.
    async fn pusher_holders(&self) -> Result<Arc<BTreeSet<i64>>> {
        const ALL: &str = "SELECT DISTINCT u.name_nid FROM pushers p JOIN names u ON u.name = p.user_id";
        const UNKNOWN: &str = "SELECT DISTINCT p.user_id FROM pushers p
            WHERE NOT EXISTS (SELECT 1 FROM names u WHERE u.name = p.user_id)";
        const NUMBERS: &str = "SELECT u.name, u.name_nid FROM json_each($1) listed CROSS JOIN names u
            WHERE u.name = listed.value";
        let known = self.shared.pusher_holders.lock().clone();
        if !known.is_loaded {
            // Those without a number first: who gets one meanwhile is among the others.
            let unknown: Vec<String> = db!(self.read(), |pool| sqlx::query_scalar(UNKNOWN).fetch_all(pool).await)?;
            let all: Vec<i64> = db!(self.read(), |pool| sqlx::query_scalar(ALL).fetch_all(pool).await)?;
            let mut holders = self.shared.pusher_holders.lock();
            Arc::make_mut(&mut holders.users).extend(all);
            holders.unnumbered.extend(unknown.iter().filter_map(|name| UserId::parse(name).ok()));
            holders.is_loaded = true;
        }
        let unnumbered = self.shared.pusher_holders.lock().unnumbered.clone();
        if !unnumbered.is_empty() {
            let names: Vec<_> = unnumbered.iter().map(|user_id| encode(user_id.as_str())).collect();
            let names = list(names.iter().map(|name| &**name));
            let numbers: Vec<(String, i64)> =
                db!(self.read(), |pool| sqlx::query_as(NUMBERS).bind(names).fetch_all(pool).await)?;
            let mut holders = self.shared.pusher_holders.lock();
            for (name, user_nid) in numbers {
                Arc::make_mut(&mut holders.users).insert(user_nid);
                holders.unnumbered.retain(|user_id| user_id.as_str() != decode(name.clone()));
            }
        }
        Ok(Arc::clone(&self.shared.pusher_holders.lock().users))
    }
}
