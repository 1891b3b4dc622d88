//! Texts that can be searched for.
//!
//! The text of an event is stored in the commit that stores the event, and deleted in the one that redacts it: that
//! costs one row. What makes searching fast is made later: [`Storage::seal_search_texts`] takes a block of a room's
//! texts and notes which three characters in a row occur somewhere in it. A search finds the blocks in which all of
//! its own occur, and looks through the texts of those, and of what is not in a block yet.
//!
//! A table of our own, because what the databases have for this differs: PostgreSQL's `pg_trgm` may not be there, its
//! dictionaries know no Chinese or Japanese, and SQLite's trigrams find nothing shorter than three characters. Blocks,
//! because one row for each three characters of each message would take several times the space of the messages.

use std::collections::BTreeSet;

use rules::event::search::{SearchField, grams};
use ruma::{OwnedEventId, OwnedRoomId};

use crate::{
    Result, Storage,
    dialect::{db, list, number_list, parsed},
    insert::{Insert, row},
    names::encode,
};

/// How many texts are in a block at most. With fewer, more rows are needed; with more, more texts are looked through.
const BLOCK_TEXTS_MAX: usize = 128;
/// How long the texts of a block are together at most, in bytes, so that a few long ones do not fill one that holds
/// every piece there is.
const BLOCK_BYTES_MAX: usize = 64 * 1024;
/// How many rooms are looked at in one go.
const ROOMS_MAX: i64 = 100;
/// A search for what is too short to be indexed looks through this many of the latest texts.
const UNINDEXED_MAX: i64 = 50_000;

static GRAMS: Insert = Insert::new("search_grams (gram, room_nid, block)", "ON CONFLICT DO NOTHING");

/// What is looked for.
#[derive(Clone, Debug)]
pub struct SearchQuery {
    /// In which rooms.
    pub rooms: Vec<OwnedRoomId>,
    /// Texts that must all occur, normalised.
    pub terms: Vec<String>,
    /// In which fields.
    pub fields: Vec<SearchField>,
    /// Only events stored up to this number, which an earlier search gave; `None` for all.
    pub until: Option<i64>,
    /// How many at most, the latest.
    pub limit: usize,
}

/// An event in which all terms occur.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchHit {
    /// The event.
    pub event_id: OwnedEventId,
    /// When it was sent, by its sender's word.
    pub ts: i64,
    /// Its number, by which later events can be left out of a later search.
    pub number: i64,
}

pub(crate) fn field_code(field: SearchField) -> i64 {
    match field {
        SearchField::Body => 0,
        SearchField::Name => 1,
        SearchField::Topic => 2,
    }
}

/// What all texts found have in common.
macro_rules! found {
    () => {
        "t.field IN (SELECT CAST(value AS BIGINT) FROM json_each($2)) AND t.event_nid <= $3
        AND NOT EXISTS (SELECT 1 FROM json_each($4) p WHERE t.text NOT LIKE p.value ESCAPE '!')"
    };
}

impl Storage {
    /// The events in which all terms occur, the latest first.
    pub async fn search(&self, query: &SearchQuery) -> Result<Vec<SearchHit>> {
        const INDEXED: &str = concat!(
            "WITH searched (nid) AS
                (SELECT name_nid FROM names WHERE name IN (SELECT value FROM json_each($1))),
            blocks (room_nid, block) AS (SELECT g.room_nid, g.block FROM search_grams g
                WHERE g.gram IN (SELECT CAST(value AS BIGINT) FROM json_each($6))
                AND g.room_nid IN (SELECT nid FROM searched) GROUP BY g.room_nid, g.block HAVING COUNT(*) = $7),
            found (event_nid, ts) AS (
                SELECT t.event_nid, t.ts FROM searched s JOIN search_texts t
                    ON t.room_nid = s.nid AND t.block IS NULL WHERE ",
            found!(),
            " UNION ALL SELECT t.event_nid, t.ts FROM blocks b JOIN search_texts t
                    ON t.room_nid = b.room_nid AND t.block = b.block WHERE ",
            found!(),
            ") SELECT e.event_id, f.ts, f.event_nid FROM found f JOIN events e ON e.event_nid = f.event_nid
                ORDER BY f.ts DESC, f.event_nid DESC LIMIT +$5"
        );
        const UNINDEXED: &str = concat!(
            "SELECT e.event_id, t.ts, t.event_nid FROM search_texts t JOIN events e ON e.event_nid = t.event_nid
            WHERE t.room_nid IN (SELECT name_nid FROM names WHERE name IN (SELECT value FROM json_each($1)))
            AND t.event_nid > (SELECT COALESCE(MAX(event_nid), 0) FROM search_texts) - $7
            AND CAST($6 AS TEXT) IS NOT NULL AND ",
            found!(),
            " ORDER BY t.ts DESC, t.event_nid DESC LIMIT +$5"
        );
        let rooms: Vec<_> = query.rooms.iter().map(|room_id| encode(room_id.as_str())).collect();
        let rooms = list(rooms.iter().map(|room_id| &**room_id));
        let fields = number_list(query.fields.iter().copied().map(field_code));
        let patterns = query.terms.iter().map(|term| pattern(term)).collect::<serde_json::Value>().to_string();
        let wanted: BTreeSet<i64> = query.terms.iter().flat_map(|term| grams(term)).collect();
        let (sql, number) = match wanted.len() {
            0 => (UNINDEXED, UNINDEXED_MAX),
            count => (INDEXED, count as i64),
        };
        let rows: Vec<(String, i64, i64)> = db!(self.read(), |pool| {
            let search = sqlx::query_as(sql).bind(rooms).bind(fields).bind(query.until.unwrap_or(i64::MAX));
            let search = search.bind(patterns).bind(query.limit as i64).bind(number_list(wanted)).bind(number);
            search.fetch_all(pool).await
        })?;
        let hit = |(event_id, ts, number): (String, i64, i64)| {
            Ok(SearchHit { event_id: parsed(&event_id, "events", "event_id")?, ts, number })
        };
        rows.into_iter().map(hit).collect()
    }

    /// Puts texts that are not in a block yet into one, where a room has enough of them. Returns how many blocks were
    /// made; when it is more than none, there may be more to do.
    pub async fn seal_search_texts(&self) -> Result<usize> {
        const FULL: &str = "SELECT room_nid FROM search_texts WHERE block IS NULL
            GROUP BY room_nid HAVING COUNT(*) >= $1 LIMIT +$2";
        let rooms: Vec<i64> = db!(self.read(), |pool| {
            sqlx::query_scalar(FULL).bind(BLOCK_TEXTS_MAX as i64).bind(ROOMS_MAX).fetch_all(pool).await
        })?;
        for room_nid in &rooms {
            self.seal_block(*room_nid).await?;
        }
        Ok(rooms.len())
    }

    /// A text that is redacted meanwhile is not there to be put into the block; that the block has more pieces than
    /// texts only makes a search look at it in vain.
    async fn seal_block(&self, room_nid: i64) -> Result<()> {
        const OPEN: &str = "SELECT event_nid, text FROM search_texts WHERE room_nid = $1 AND block IS NULL
            ORDER BY event_nid LIMIT +$2";
        const SEAL: &str = "UPDATE search_texts SET block = $1
            WHERE event_nid IN (SELECT CAST(value AS BIGINT) FROM json_each($2)) AND block IS NULL";
        let texts: Vec<(i64, String)> = db!(self.read(), |pool| {
            sqlx::query_as(OPEN).bind(room_nid).bind(BLOCK_TEXTS_MAX as i64).fetch_all(pool).await
        })?;
        let Some(block) = texts.first().map(|(number, _)| *number) else { return Ok(()) };
        let mut bytes = 0;
        let mut sealed = Vec::new();
        let mut pieces = BTreeSet::new();
        for (number, text) in &texts {
            bytes += text.len();
            if bytes > BLOCK_BYTES_MAX && !sealed.is_empty() {
                break;
            }
            sealed.push(*number);
            pieces.extend(grams(text));
        }
        let mut transaction = self.begin().await?;
        GRAMS.run(&mut transaction, pieces.into_iter().map(|gram| row![gram, room_nid, block]).collect()).await?;
        let sealed = number_list(sealed);
        db!(transaction.connection(), |connection| {
            sqlx::query(SEAL).bind(block).bind(sealed).execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }
}

/// The pattern for `LIKE` that a text fits in which the term occurs.
fn pattern(term: &str) -> String {
    let mut pattern = String::with_capacity(term.len() + 2);
    pattern.push('%');
    for character in term.chars() {
        if matches!(character, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}
