//! Which users have a name in which a text occurs.
//!
//! What is searched for is cut into the same pieces as the names were, and whoever has all of them is a candidate; the
//! caller looks at the names themselves. Pieces are only added: a name that somebody had before makes a candidate more,
//! and no result. [`Storage::index_members`] reads the members of rooms in the order in which they joined, so that what
//! stands in the state of a room that was just joined gets its turn, too.

use std::collections::{BTreeMap, BTreeSet};

use rules::event::search::{name_pieces, wanted_pieces};
use ruma::{OwnedEventId, OwnedUserId, UserId};

use crate::{
    Result, Storage,
    dialect::{db, number_list, parsed},
    insert::{Insert, row},
    names::{decode, encode},
};

/// How many members one pass looks at.
const PASS_MEMBERS: i64 = 1_000;
/// How much of a display name counts, in characters.
const NAME_CHARS_MAX: usize = 256;

static PIECES: Insert = Insert::new("user_directory (piece, user_nid)", "ON CONFLICT DO NOTHING");

impl Storage {
    /// Member events, with their users, of those who are joined to a room that the user is joined to or that anybody may
    /// join, and in whose names the pieces of the text occur: whether the text does, is for the caller to see. At most
    /// `limit` of them, a user as often as there are such rooms.
    pub async fn members_like(
        &self,
        user_id: &UserId,
        text: &str,
        limit: usize,
    ) -> Result<Vec<(OwnedUserId, OwnedEventId)>> {
        const SQL: &str = "WITH found (nid) AS (SELECT d.user_nid FROM user_directory d
                WHERE d.piece IN (SELECT CAST(value AS BIGINT) FROM json_each($2))
                GROUP BY d.user_nid HAVING COUNT(*) = $3)
            SELECT k.name, s.event_id FROM found f JOIN room_state s ON s.state_key_nid = f.nid
            JOIN names k ON k.name_nid = f.nid
            WHERE s.until IS NULL AND s.membership = 'join'
            AND s.type_nid = (SELECT name_nid FROM names WHERE name = 'm.room.member')
            AND (EXISTS (SELECT 1 FROM memberships m
                WHERE m.user_nid = (SELECT name_nid FROM names WHERE name = $1) AND m.room_nid = s.room_nid
                AND m.membership = 'join')
            OR EXISTS (SELECT 1 FROM room_state j JOIN events o ON o.event_id = j.event_id
                WHERE j.room_nid = s.room_nid AND j.until IS NULL
                AND j.type_nid = (SELECT name_nid FROM names WHERE name = 'm.room.join_rules')
                AND j.state_key_nid = (SELECT name_nid FROM names WHERE name = $5)
                AND o.json LIKE '%\"join_rule\":\"public\"%'))
            ORDER BY f.nid, s.room_nid LIMIT $4";
        let (user, no_key) = (encode(user_id.as_str()), encode(""));
        let pieces = wanted_pieces(text);
        if pieces.is_empty() {
            return Ok(Vec::new());
        }
        let (count, limit) = (pieces.len() as i64, limit as i64);
        let rows: Vec<(String, String)> = db!(self.read(), |pool| {
            let query = sqlx::query_as(SQL).bind(&*user).bind(number_list(pieces)).bind(count);
            query.bind(limit).bind(&*no_key).fetch_all(pool).await
        })?;
        let found = |(user, event): (String, String)| {
            let event_id = parsed(&event, "room_state", "event_id")?;
            // A state key that is no user id is of nobody.
            Ok(OwnedUserId::try_from(decode(user)).ok().map(|user_id| (user_id, event_id)))
        };
        rows.into_iter().map(found).filter_map(Result::transpose).collect()
    }

    /// Takes up the names of users who joined rooms since the last pass. Returns how many it looked at; when it is more
    /// than none, there may be more to do.
    pub async fn index_members(&self) -> Result<usize> {
        const READ: &str = "SELECT since, room_nid, user_nid FROM user_directory_read";
        const NEXT: &str = "SELECT s.since, s.room_nid, s.state_key_nid, k.name, e.json FROM room_state s
            JOIN names k ON k.name_nid = s.state_key_nid JOIN events e ON e.event_id = s.event_id
            WHERE s.until IS NULL AND s.membership = 'join'
            AND (s.since, s.room_nid, s.state_key_nid) > ($1, $2, $3)
            ORDER BY s.since, s.room_nid, s.state_key_nid LIMIT $4";
        const DONE: &str = "UPDATE user_directory_read SET since = $1, room_nid = $2, user_nid = $3";
        let read: (i64, i64, i64) = db!(self.read(), |pool| sqlx::query_as(READ).fetch_one(pool).await)?;
        let rows: Vec<(i64, i64, i64, String, String)> = db!(self.read(), |pool| {
            sqlx::query_as(NEXT).bind(read.0).bind(read.1).bind(read.2).bind(PASS_MEMBERS).fetch_all(pool).await
        })?;
        let Some(last) = rows.last().map(|row| (row.0, row.1, row.2)) else { return Ok(0) };
        let mut names: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
        for (_, _, user_nid, user, json) in &rows {
            let known = names.entry(*user_nid).or_default();
            known.extend(OwnedUserId::try_from(decode(user.clone())).ok().map(|id| id.localpart().to_lowercase()));
            known.extend(display_name(json));
        }
        let pieces = names.iter().flat_map(|(user_nid, names)| {
            let pieces: BTreeSet<i64> = names.iter().flat_map(|name| name_pieces(name)).collect();
            pieces.into_iter().map(move |piece| row![piece, *user_nid])
        });
        let mut transaction = self.begin().await?;
        PIECES.run(&mut transaction, pieces.collect()).await?;
        db!(transaction.connection(), |connection| {
            sqlx::query(DONE).bind(last.0).bind(last.1).bind(last.2).execute(connection).await.map(drop)
        })?;
        transaction.commit().await?;
        Ok(rows.len())
    }
}

fn display_name(json: &str) -> Option<String> {
    let event: serde_json::Value = serde_json::from_str(json).ok()?;
    let name = event.pointer("/content/displayname")?.as_str()?;
    Some(name.chars().take(NAME_CHARS_MAX).collect::<String>().to_lowercase())
}
