//! Which users have a name in which a text occurs.
//!
//! What is searched for is cut into the same pieces as the names were, and whoever has all of them is a candidate; the
//! caller looks at the names themselves. Pieces are only added: a name that somebody had before makes a candidate more,
//! and no result. [`Storage::index_members`] reads the members of rooms in the order in which they joined, and before them
//! those of rooms that became known with members in them.

use std::collections::{BTreeMap, BTreeSet};

use rules::event::search::{name_pieces, wanted_pieces};
use ruma::{OwnedEventId, OwnedUserId, UserId};

use crate::{
    Result, Storage,
    dialect::{db, number_list, parsed},
    insert::{Insert, Script, Value, row},
    names::{decode, encode},
};

/// How many members one pass looks at.
const PASS_MEMBERS: i64 = 1_000;
/// How much of a display name counts, in characters.
const NAME_CHARS_MAX: usize = 64;

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
            ORDER BY f.nid, s.room_nid LIMIT +$4";
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
        let pass = match self.members_of_entered_room().await? {
            Some(pass) => pass,
            None => self.joined_members().await?,
        };
        let Some(done) = pass.done else { return Ok(0) };
        let mut script = Script::default();
        script.insert(&PIECES, pieces(&pass.members));
        script.add(done.0, done.1);
        let mut transaction = self.begin().await?;
        script.run(&mut transaction).await?;
        transaction.commit().await?;
        Ok(pass.members.len().max(1))
    }

    /// Those who were in a room before us.
    async fn members_of_entered_room(&self) -> Result<Option<Pass>> {
        const ROOM: &str = "SELECT room_nid, user_nid FROM user_directory_rooms ORDER BY room_nid LIMIT 1";
        const NEXT: &str = "SELECT s.state_key_nid, k.name, e.json FROM room_state s
            JOIN names k ON k.name_nid = s.state_key_nid JOIN events e ON e.event_id = s.event_id
            WHERE s.room_nid = $1 AND s.type_nid = (SELECT name_nid FROM names WHERE name = 'm.room.member')
            AND s.state_key_nid > $2 AND s.since < 0 AND s.until IS NULL AND s.membership = 'join'
            ORDER BY s.state_key_nid LIMIT +$3";
        let room: Option<(i64, i64)> = db!(self.read(), |pool| sqlx::query_as(ROOM).fetch_optional(pool).await)?;
        let Some((room_nid, user_nid)) = room else { return Ok(None) };
        let members: Vec<Member> = db!(self.read(), |pool| {
            sqlx::query_as(NEXT).bind(room_nid).bind(user_nid).bind(PASS_MEMBERS).fetch_all(pool).await
        })?;
        let done = match members.last() {
            Some((last, ..)) => {
                ("UPDATE user_directory_rooms SET user_nid = ? WHERE room_nid = ?", row![*last, room_nid])
            }
            None => ("DELETE FROM user_directory_rooms WHERE room_nid = ?", row![room_nid]),
        };
        Ok(Some(Pass { members, done: Some(done) }))
    }

    /// Those who joined while we were there.
    async fn joined_members(&self) -> Result<Pass> {
        const READ: &str = "SELECT since, room_nid, user_nid FROM user_directory_read";
        const NEXT: &str = "SELECT s.since, s.room_nid, s.state_key_nid, k.name, e.json FROM room_state s
            JOIN names k ON k.name_nid = s.state_key_nid JOIN events e ON e.event_id = s.event_id
            WHERE s.until IS NULL AND s.membership = 'join'
            AND (s.since, s.room_nid, s.state_key_nid) > ($1, $2, $3)
            ORDER BY s.since, s.room_nid, s.state_key_nid LIMIT +$4";
        const DONE: &str = "UPDATE user_directory_read SET since = ?, room_nid = ?, user_nid = ?";
        let read: (i64, i64, i64) = db!(self.read(), |pool| sqlx::query_as(READ).fetch_one(pool).await)?;
        let rows: Vec<(i64, i64, i64, String, String)> = db!(self.read(), |pool| {
            sqlx::query_as(NEXT).bind(read.0).bind(read.1).bind(read.2).bind(PASS_MEMBERS).fetch_all(pool).await
        })?;
        let done = rows.last().map(|(since, room_nid, user_nid, ..)| (DONE, row![*since, *room_nid, *user_nid]));
        let members = rows.into_iter().map(|(_, _, user_nid, name, json)| (user_nid, name, json)).collect();
        Ok(Pass { members, done })
    }
}

/// A member: the number of the user, their encoded id, and their member event.
type Member = (i64, String, String);

/// What one pass looks at, and the statement that notes that it did; none when there is nothing to look at.
struct Pass {
    members: Vec<Member>,
    done: Option<(&'static str, Vec<Value>)>,
}

/// The pieces of the members' names.
fn pieces(members: &[Member]) -> Vec<Vec<Value>> {
    let mut names: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
    for (user_nid, user, json) in members {
        let known = names.entry(*user_nid).or_default();
        known.extend(OwnedUserId::try_from(decode(user.clone())).ok().map(|id| id.localpart().to_lowercase()));
        known.extend(display_name(json));
    }
    let rows = names.iter().flat_map(|(user_nid, names)| {
        let pieces: BTreeSet<i64> = names.iter().flat_map(|name| name_pieces(name)).collect();
        pieces.into_iter().map(move |piece| row![piece, *user_nid])
    });
    rows.collect()
}

fn display_name(json: &str) -> Option<String> {
    let event: serde_json::Value = serde_json::from_str(json).ok()?;
    let name = event.pointer("/content/displayname")?.as_str()?;
    Some(name.chars().take(NAME_CHARS_MAX).collect::<String>().to_lowercase())
}
