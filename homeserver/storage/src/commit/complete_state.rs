//! Rooms of which this server did not know all members at first: that it does not, and what is rewritten once it does.

use std::collections::HashMap;

use rules::change::{Change, CompleteState, Position};
use ruma::RoomId;

use crate::{
    LogEntry, LogKind, Result,
    commit::{
        apply::Applying,
        facts::{ACCEPTED, standing_code},
        write::{StateRow, StateWrites},
    },
    database::Transaction,
    dialect::{db, without_nul},
    insert::row,
    state::BEGINNING,
};

/// A room of which all members are known now.
pub(super) struct CompletedRoom {
    room_nid: i64,
    joined_at: Position,
    position: Position,
    state: StateWrites,
}

/// An event that is stored with another standing, and another state before it.
pub(super) struct RejudgedEvent {
    nid: i64,
    standing: i16,
    reason: Option<String>,
    state_base: Option<Position>,
}

impl Applying<'_> {
    pub(super) fn partial_state(&mut self, change: &Change) {
        let Change::PartialState { room_id, event_id, entered_by, servers, unverified, now_ms } = change else {
            return;
        };
        let room_nid = self.name(room_id.as_str());
        let position = self.state_position();
        let (servers, unverified) = (serde_json::json!(servers).to_string(), serde_json::json!(unverified).to_string());
        let row = row![room_nid, event_id.as_str(), position, entered_by.as_str(), servers, unverified, *now_ms as i64];
        self.batch().writes.partial.push(row);
        self.batch().writes.entered_in_part.push((room_nid, position));
    }

    pub(super) fn complete_state(&mut self, complete: &CompleteState) {
        let room_id = complete.room_id.as_str();
        let mut state = StateWrites::default();
        for entry in &complete.before {
            state.begin(self.state_row(room_id, entry, BEGINNING));
        }
        for (position, entries) in &complete.since {
            for entry in entries {
                state.set(self.state_row(room_id, entry, *position));
            }
        }
        let position = self.next_position();
        for entry in &complete.corrected {
            state.set(self.state_row(room_id, entry, position));
        }
        self.touch_room(room_id, position);
        let number = self.name(room_id);
        let room = CompletedRoom { room_nid: number, joined_at: complete.joined_at, position, state };
        self.batch().writes.complete.push(room);
        self.batch().writes.state_changes.insert((position, complete.room_id.clone()));
        // Its members become known to the directory of users.
        self.batch().writes.entered.insert(number);
        self.log_complete(&complete.room_id, position);
    }

    pub(super) fn entered_whole(&mut self, room_id: &RoomId) {
        let (number, position) = (self.name(room_id.as_str()), self.next_position());
        self.batch().writes.entered_whole.push((number, position));
        self.log_complete(room_id, position);
    }

    fn log_complete(&mut self, room_id: &RoomId, position: Position) {
        self.log(LogEntry {
            position,
            kind: LogKind::CompleteState,
            room_id: Some(room_id.to_owned()),
            user_id: None,
            event_id: None,
            outbound: false,
            membership: None,
        });
    }

    pub(super) fn rejudged(&mut self, change: &Change) {
        let Change::Rejudged { event_id, standing, state_before } = change else { return };
        let (code, reason) = (standing_code(standing), standing.reason().map(without_nul));
        let Some(known) = self.batch().facts.events.get_mut(event_id) else { return };
        known.standing = code;
        let nid = known.nid;
        let state_base = state_before.as_ref().map(|reference| reference.base);
        let rejudged = RejudgedEvent { nid, standing: code, reason, state_base };
        self.batch().writes.altered.push(event_id.clone());
        self.batch().writes.rejudged.push(rejudged);
        self.state_delta(state_before.as_ref(), nid);
    }
}

/// Notes that all members of a room are known since a position.
async fn end_partial_state(room_nid: i64, position: Position, transaction: &mut Transaction) -> Result<()> {
    const DONE: &str = "DELETE FROM partial_states WHERE room_nid = $1";
    const COMPLETE: &str = "UPDATE rooms SET complete_since = $2 WHERE room_nid = $1";
    db!(transaction.connection(), |connection| sqlx::query(DONE).bind(room_nid).execute(connection).await.map(drop))?;
    Ok(db!(transaction.connection(), |connection| {
        sqlx::query(COMPLETE).bind(room_nid).bind(position).execute(connection).await.map(drop)
    })?)
}

/// Notes that all members of a room are known since a position, and before it of nobody for sure.
pub(super) async fn enter_whole(room_nid: i64, position: Position, transaction: &mut Transaction) -> Result<()> {
    const SQL: &str = "UPDATE rooms SET states_since = $2 WHERE room_nid = $1";
    end_partial_state(room_nid, position, transaction).await?;
    forget_known_early(room_nid, transaction).await?;
    Ok(db!(transaction.connection(), |connection| {
        sqlx::query(SQL).bind(room_nid).bind(position).execute(connection).await.map(drop)
    })?)
}

impl CompletedRoom {
    /// Replaces what held right before our join and all since. What ended before that stays.
    pub(super) async fn write(self, transaction: &mut Transaction) -> Result<()> {
        const HELD: &str = "DELETE FROM room_state WHERE room_nid = $1 AND (until IS NULL OR until >= $2)";
        let Self { room_nid, joined_at, position, state } = self;
        end_partial_state(room_nid, position, transaction).await?;
        note_joined_since(room_nid, joined_at, transaction).await?;
        db!(transaction.connection(), |connection| {
            sqlx::query(HELD).bind(room_nid).bind(joined_at).execute(connection).await.map(drop)
        })?;
        let ended = ended(room_nid, transaction).await?;
        let mut rows = state.rows;
        for row in rows.iter_mut().filter(|row| row.since == BEGINNING) {
            row.since = ended.get(&(row.key.1, row.key.2)).copied().unwrap_or(BEGINNING);
        }
        StateRow::insert(&rows, transaction).await
    }
}

/// Notes who is known to be joined to a room that was just entered without its members. Of the invited nobody told us what
/// became of their devices.
pub(super) async fn note_known_early(room_nid: i64, entered_at: Position, transaction: &mut Transaction) -> Result<()> {
    const SQL: &str = "INSERT INTO members_known_early (room_nid, user_nid, since)
        SELECT room_nid, state_key_nid, $2 FROM room_state WHERE room_nid = $1
        AND type_nid = (SELECT name_nid FROM names WHERE name = 'm.room.member')
        AND until IS NULL AND membership = 'join'";
    forget_known_early(room_nid, transaction).await?;
    Ok(db!(transaction.connection(), |connection| {
        sqlx::query(SQL).bind(room_nid).bind(entered_at).execute(connection).await.map(drop)
    })?)
}

/// Of no member of a room it matters any more since when they are known.
async fn forget_known_early(room_nid: i64, transaction: &mut Transaction) -> Result<()> {
    const SQL: &str = "DELETE FROM members_known_early WHERE room_nid = $1";
    Ok(db!(transaction.connection(), |connection| {
        sqlx::query(SQL).bind(room_nid).execute(connection).await.map(drop)
    })?)
}

/// Notes who joined while not all members were known, before what tells of it is replaced: readers were told of them as they
/// came. Not those who had joined before, and of whom we learned by what they said.
async fn note_joined_since(room_nid: i64, joined_at: Position, transaction: &mut Transaction) -> Result<()> {
    const SQL: &str = "INSERT INTO members_known_early (room_nid, user_nid, since)
        SELECT room_nid, state_key_nid, MIN(since) FROM room_state WHERE room_nid = $1
        AND type_nid = (SELECT name_nid FROM names WHERE name = 'm.room.member') AND membership = 'join'
        GROUP BY room_nid, state_key_nid HAVING MIN(since) > $2
        ON CONFLICT DO NOTHING";
    Ok(db!(transaction.connection(), |connection| {
        sqlx::query(SQL).bind(room_nid).bind(joined_at).execute(connection).await.map(drop)
    })?)
}

/// When the last of the values ended that are still stored, by type and state key.
async fn ended(room_nid: i64, transaction: &mut Transaction) -> Result<HashMap<(i64, i64), i64>> {
    const SQL: &str = "SELECT type_nid, state_key_nid, MAX(until) FROM room_state
        WHERE room_nid = $1 GROUP BY type_nid, state_key_nid";
    let rows: Vec<(i64, i64, i64)> =
        db!(transaction.connection(), |connection| { sqlx::query_as(SQL).bind(room_nid).fetch_all(connection).await })?;
    Ok(rows.into_iter().map(|(type_nid, key_nid, until)| ((type_nid, key_nid), until)).collect())
}

impl RejudgedEvent {
    /// Must come before the new entries of the state are written.
    pub(super) async fn forget_state(&self, transaction: &mut Transaction) -> Result<()> {
        const SQL: &str = "DELETE FROM event_state_delta WHERE event_nid = $1";
        Ok(db!(transaction.connection(), |connection| {
            sqlx::query(SQL).bind(self.nid).execute(connection).await.map(drop)
        })?)
    }

    /// What is not accepted is shown to nobody any more, nor what was made of it for readers.
    pub(super) async fn write(&self, transaction: &mut Transaction) -> Result<()> {
        const SQL: &str = "UPDATE events SET standing = $2, reason = $3, state_base = $4 WHERE event_nid = $1";
        const FORGET: [&str; 6] = [
            "DELETE FROM relations WHERE room_nid = (SELECT room_nid FROM events WHERE event_nid = $1)
                AND timeline_order = (SELECT timeline_order FROM events WHERE event_nid = $1)",
            "DELETE FROM search_texts WHERE event_nid = $1",
            // What was counted of the room does not hold any more.
            "INSERT INTO withdrawn_notifications (room_nid, changed)
                SELECT n.room_nid, (SELECT position FROM log_head) FROM notified_events n
                    WHERE n.position = (SELECT timeline_order FROM events WHERE event_nid = $1)
                ON CONFLICT (room_nid) DO UPDATE SET changed = excluded.changed",
            "DELETE FROM notified WHERE position = (SELECT timeline_order FROM events WHERE event_nid = $1)",
            "DELETE FROM notified_events WHERE position = (SELECT timeline_order FROM events WHERE event_nid = $1)",
            "DELETE FROM sticky_events WHERE position = (SELECT timeline_order FROM events WHERE event_nid = $1)",
        ];
        db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(self.nid).bind(self.standing).bind(&self.reason).bind(self.state_base);
            query.execute(connection).await.map(drop)
        })?;
        for sql in FORGET.into_iter().filter(|_| self.standing != ACCEPTED) {
            db!(transaction.connection(), |connection| {
                sqlx::query(sql).bind(self.nid).execute(connection).await.map(drop)
            })?;
        }
        Ok(())
    }
}
