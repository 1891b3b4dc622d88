//! Rooms that we entered without being told of all their members: what is to be asked for, of whom, and when again.

use std::sync::Arc;

use rules::change::Position;
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, RoomId};

use crate::{
    Result, Storage, StorageError, StoredEvent,
    dialect::{db, parsed},
    names::{decode, encode},
};

/// A room with a partial state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartialStateRecord {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Our join: the state before it is what is lacking.
    pub event_id: OwnedEventId,
    /// The position of that.
    pub position: Position,
    /// Who let us in.
    pub entered_by: OwnedServerName,
    /// The other servers that were said to be in the room.
    pub servers: Vec<OwnedServerName>,
    /// What was said to be part of the state when we entered, and could not be verified. Not members.
    pub unverified: Vec<OwnedEventId>,
    /// How often all that were asked failed, in a row.
    pub failures: u32,
    /// When to ask again, in milliseconds since the epoch.
    pub retry_at_ts: u64,
}

/// Whether all members of a room are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MembersKnown {
    /// Whether they are.
    pub all: bool,
    /// Since when, if they were not at first; 0 otherwise.
    pub since: Position,
}

impl MembersKnown {
    /// Whether all are known, and were not yet at a position.
    pub fn became_known_after(&self, position: Position) -> bool {
        self.all && self.since > position
    }
}

/// Room, event, position, who let us in, servers, state that was not verified, failures, retry at.
type Row = (String, String, Position, String, String, String, i64, i64);

impl Storage {
    /// The partial state of a room; `None` when it is complete.
    pub async fn partial_state(&self, room_id: &RoomId) -> Result<Option<PartialStateRecord>> {
        const SQL: &str = "SELECT n.name, p.event_id, p.position, p.entered_by, p.servers, p.unverified, p.failures,
                p.retry_at_ts FROM partial_states p JOIN names n ON n.name_nid = p.room_nid WHERE n.name = $1";
        let name = encode(room_id.as_str());
        let row: Option<Row> = db!(self.read(), |pool| sqlx::query_as(SQL).bind(&*name).fetch_optional(pool).await)?;
        row.map(record).transpose()
    }

    /// Whether all members of a room are known. Of a room that is not known, there are none.
    pub async fn members_known(&self, room_id: &RoomId) -> Result<MembersKnown> {
        const SQL: &str =
            "SELECT NOT EXISTS (SELECT 1 FROM partial_states p WHERE p.room_nid = r.room_nid), r.complete_since
            FROM rooms r WHERE r.room_nid = (SELECT name_nid FROM names WHERE name = $1)";
        let name = encode(room_id.as_str());
        let row: Option<(bool, Position)> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(&*name).fetch_optional(pool).await)?;
        let (all, since) = row.unwrap_or((true, 0));
        Ok(MembersKnown { all, since })
    }

    /// Up to `limit` rooms with a partial state that are to be asked for by `due_ts`, those first that are to be asked for
    /// first.
    pub async fn partial_states(&self, due_ts: u64, limit: usize) -> Result<Vec<PartialStateRecord>> {
        const SQL: &str = "SELECT n.name, p.event_id, p.position, p.entered_by, p.servers, p.unverified, p.failures,
                p.retry_at_ts FROM partial_states p JOIN names n ON n.name_nid = p.room_nid
            WHERE p.retry_at_ts <= $1 ORDER BY p.retry_at_ts, p.room_nid LIMIT +$2";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let due = i64::try_from(due_ts).unwrap_or(i64::MAX);
        let rows: Vec<Row> = db!(self.read(), |pool| sqlx::query_as(SQL).bind(due).bind(limit).fetch_all(pool).await)?;
        // What is unreadable of one room is not to keep the others from being asked for.
        let readable = |row| record(row).inspect_err(|error| tracing::error!(%error, "a room stays partial")).ok();
        Ok(rows.into_iter().filter_map(readable).collect())
    }

    /// Notes that asking for the state of a room failed once more, and when to ask again, in milliseconds since the epoch.
    /// Not when we entered it anew since the record was read; and when somebody wants it to be asked for sooner, it is.
    pub async fn postpone_partial_state(&self, record: &PartialStateRecord, retry_at_ts: u64) -> Result<()> {
        const SQL: &str = "UPDATE partial_states SET failures = $3 + 1,
                retry_at_ts = CASE WHEN retry_at_ts = $4 THEN $5 ELSE retry_at_ts END
            WHERE room_nid = (SELECT name_nid FROM names WHERE name = $1) AND event_id = $2";
        let name = encode(record.room_id.as_str());
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(&*name).bind(record.event_id.as_str()).bind(i64::from(record.failures));
            let query = query.bind(record.retry_at_ts as i64).bind(retry_at_ts as i64);
            query.execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }

    /// Lets a room be asked for at `retry_at_ts`, if its state is partial.
    pub async fn hasten_partial_state(&self, room_id: &RoomId, retry_at_ts: u64) -> Result<()> {
        const SQL: &str = "UPDATE partial_states SET retry_at_ts = $2
            WHERE room_nid = (SELECT name_nid FROM names WHERE name = $1)";
        let name = encode(room_id.as_str());
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            sqlx::query(SQL).bind(&*name).bind(retry_at_ts as i64).execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }

    /// What came into a room after a position, in the order in which it came: events, whether they were accepted or not,
    /// with the positions of those that are in the timeline. Not outliers, nor history.
    pub async fn came_after(
        &self,
        room_id: &RoomId,
        position: Position,
    ) -> Result<Vec<(OwnedEventId, Option<Position>)>> {
        const SQL: &str = "WITH room(nid) AS (SELECT name_nid FROM names WHERE name = $1)
            SELECT event_id, timeline_order FROM (
                SELECT event_id, timeline_order, timeline_order AS came, event_nid FROM events
                    WHERE room_nid = (SELECT nid FROM room) AND timeline_order > $2
                UNION ALL SELECT event_id, timeline_order, state_base AS came, event_nid FROM events
                    WHERE room_nid = (SELECT nid FROM room) AND timeline_order IS NULL AND standing IN (1, 2)
                    AND state_base >= $2) arrived
            ORDER BY came, timeline_order IS NULL, event_nid";
        let name = encode(room_id.as_str());
        let rows: Vec<(String, Option<Position>)> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(&*name).bind(position).fetch_all(pool).await)?;
        rows.into_iter().map(|(id, order)| Ok((parsed(&id, "events", "event_id")?, order))).collect()
    }

    /// The events of [`Storage::came_after`].
    pub async fn events_that_came_after(&self, room_id: &RoomId, position: Position) -> Result<Vec<Arc<StoredEvent>>> {
        let came = self.came_after(room_id, position).await?;
        self.events(&came.into_iter().map(|(event_id, _)| event_id).collect::<Vec<_>>()).await
    }
}

fn record(
    (room_id, event_id, position, entered_by, servers, unverified, failures, retry_at_ts): Row,
) -> Result<PartialStateRecord> {
    let servers = serde_json::from_str(&servers)
        .map_err(|error| StorageError::corrupt("partial_states", "servers", room_id.as_str(), &error))?;
    let unverified = serde_json::from_str(&unverified)
        .map_err(|error| StorageError::corrupt("partial_states", "unverified", room_id.as_str(), &error))?;
    Ok(PartialStateRecord {
        room_id: parsed(&decode(room_id), "names", "name")?,
        event_id: parsed(&event_id, "partial_states", "event_id")?,
        position,
        entered_by: parsed(&entered_by, "partial_states", "entered_by")?,
        servers,
        unverified,
        failures: u32::try_from(failures).unwrap_or(u32::MAX),
        retry_at_ts: retry_at_ts.unsigned_abs(),
    })
}
