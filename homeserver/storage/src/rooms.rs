//! Rooms as a whole, and which servers are in them.

use rules::change::Position;
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, RoomVersionId};

use crate::{
    Result, Storage, StorageError,
    dialect::{db, list, parsed},
    names::{decode, encode},
};

/// A room.
#[derive(Clone, Debug)]
pub struct RoomRecord {
    /// Its id.
    pub room_id: OwnedRoomId,
    /// Its version.
    pub version: RoomVersionId,
    /// How often it has been changed: what [`crate::RoomGuard`] compares.
    pub revision: i64,
    /// The position of its last live event or change of state.
    pub position: Position,
    /// The events that new ones name as `prev_events`, with their depths.
    pub forward_extremities: Vec<(OwnedEventId, u64)>,
    /// Whether it is listed in the public room directory.
    pub published: bool,
    /// Since when all of its members are known, if they were not at first; 0 otherwise.
    pub complete_since: Position,
    /// From which position on the states before events are known; 0 for all.
    pub states_since: Position,
}

/// A time during which a server was in a room, and was sent what is for those who are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerStay {
    /// The server.
    pub server: OwnedServerName,
    /// The position after which it was.
    pub since: Position,
    /// The last position of which it was told; `None` while it is there.
    pub until: Option<Position>,
}

impl ServerStay {
    /// Whether the server was told of what is at a position.
    pub fn contains(&self, position: Position) -> bool {
        self.since < position && self.until.is_none_or(|until| position <= until)
    }
}

impl Storage {
    /// A room, if it is known.
    pub async fn room(&self, room_id: &RoomId) -> Result<Option<RoomRecord>> {
        const SQL: &str =
            "SELECT version, revision, position, forward_extremities, published, complete_since, states_since FROM rooms
            WHERE room_nid = (SELECT name_nid FROM names WHERE name = $1)";
        let name = encode(room_id.as_str());
        let row: Option<(String, i64, Position, String, bool, Position, Position)> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(&*name).fetch_optional(pool).await)?;
        let Some((version, revision, position, extremities, published, complete_since, states_since)) = row else {
            return Ok(None);
        };
        let version = parsed(&version, "rooms", "version")?;
        let forward_extremities = serde_json::from_str(&extremities)
            .map_err(|error| StorageError::corrupt("rooms", "forward_extremities", room_id.as_str(), &error))?;
        Ok(Some(RoomRecord {
            room_id: room_id.to_owned(),
            version,
            revision,
            position,
            forward_extremities,
            published,
            complete_since,
            states_since,
        }))
    }

    /// Lists a room in the public directory, or takes it out. Nothing happens when the room is unknown.
    pub async fn set_room_published(&self, room_id: &RoomId, published: bool) -> Result<()> {
        const SQL: &str =
            "UPDATE rooms SET published = $1 WHERE room_nid = (SELECT name_nid FROM names WHERE name = $2)";
        let name = encode(room_id.as_str());
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            sqlx::query(SQL).bind(published).bind(&*name).execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }

    /// The first rooms in the public directory, with their revisions.
    pub async fn published_rooms(&self, limit: usize) -> Result<Vec<(OwnedRoomId, i64)>> {
        const SQL: &str = "SELECT n.name, r.revision FROM rooms r JOIN names n ON n.name_nid = r.room_nid
            WHERE r.published ORDER BY r.room_nid LIMIT +$1";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows: Vec<(String, i64)> = db!(self.read(), |pool| sqlx::query_as(SQL).bind(limit).fetch_all(pool).await)?;
        rows.into_iter().map(|(name, revision)| Ok((parsed(&decode(name), "names", "name")?, revision))).collect()
    }

    /// The revisions of rooms, of those that this server knows.
    pub async fn room_revisions(&self, rooms: &[OwnedRoomId]) -> Result<Vec<(OwnedRoomId, i64)>> {
        const SQL: &str = "SELECT n.name, r.revision FROM rooms r JOIN names n ON n.name_nid = r.room_nid
            WHERE n.name IN (SELECT value FROM json_each($1))";
        if rooms.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<_> = rooms.iter().map(|room_id| encode(room_id.as_str())).collect();
        let names = list(names.iter().map(|name| &**name));
        let rows: Vec<(String, i64)> = db!(self.read(), |pool| sqlx::query_as(SQL).bind(names).fetch_all(pool).await)?;
        rows.into_iter().map(|(name, revision)| Ok((parsed(&decode(name), "names", "name")?, revision))).collect()
    }

    /// The rooms of which all members became known with `since < position <= until`, after they were entered without.
    pub async fn rooms_completed(&self, since: Position, until: Position) -> Result<Vec<OwnedRoomId>> {
        const SQL: &str = "SELECT n.name FROM rooms r JOIN names n ON n.name_nid = r.room_nid
            WHERE r.complete_since > 0 AND r.complete_since > $1 AND r.complete_since <= $2";
        let names: Vec<String> =
            db!(self.read(), |pool| sqlx::query_scalar(SQL).bind(since).bind(until).fetch_all(pool).await)?;
        names.into_iter().map(|name| parsed(&decode(name), "names", "name")).collect()
    }

    /// The servers that are in a room now.
    pub async fn room_servers(&self, room_id: &RoomId) -> Result<Vec<OwnedServerName>> {
        const SQL: &str = "SELECT n.name FROM room_servers s JOIN names n ON n.name_nid = s.server_nid
            WHERE s.room_nid = (SELECT name_nid FROM names WHERE name = $1) AND s.until IS NULL";
        let name = encode(room_id.as_str());
        let names: Vec<String> = db!(self.read(), |pool| sqlx::query_scalar(SQL).bind(&*name).fetch_all(pool).await)?;
        names.into_iter().map(|name| parsed(&decode(name), "names", "name")).collect()
    }

    /// The servers that are to be sent the event at `position`: those in the room before it, including one that leaves
    /// by it, and those that are told though they are not in the room.
    pub async fn recipients_at(&self, room_id: &RoomId, position: Position) -> Result<Vec<OwnedServerName>> {
        const SQL: &str = "SELECT n.name FROM log_recipients l JOIN names n ON n.name_nid = l.server_nid
            WHERE l.position = $1";
        let mut servers = self.room_servers_at(room_id, position).await?;
        let names: Vec<String> = db!(self.read(), |pool| sqlx::query_scalar(SQL).bind(position).fetch_all(pool).await)?;
        for name in names {
            servers.push(parsed(&decode(name), "names", "name")?);
        }
        Ok(servers)
    }

    /// When which servers were in a room, as far as they were later than `position`.
    pub async fn room_servers_since(&self, room_id: &RoomId, position: Position) -> Result<Vec<ServerStay>> {
        const SQL: &str =
            "SELECT n.name, s.since, s.until FROM room_servers s JOIN names n ON n.name_nid = s.server_nid
            WHERE s.room_nid = (SELECT name_nid FROM names WHERE name = $1) AND (s.until IS NULL OR s.until > $2)
            ORDER BY s.since, s.server_nid";
        let name = encode(room_id.as_str());
        let rows: Vec<(String, Position, Option<Position>)> =
            db!(self.read(), |pool| { sqlx::query_as(SQL).bind(&*name).bind(position).fetch_all(pool).await })?;
        let stay =
            |(name, since, until)| Ok(ServerStay { server: parsed(&decode(name), "names", "name")?, since, until });
        rows.into_iter().map(stay).collect()
    }

    /// The servers in the room before the event at `position`, including one that leaves by it.
    pub async fn room_servers_at(&self, room_id: &RoomId, position: Position) -> Result<Vec<OwnedServerName>> {
        const SQL: &str = "SELECT DISTINCT n.name FROM room_servers s JOIN names n ON n.name_nid = s.server_nid
            WHERE s.room_nid = (SELECT name_nid FROM names WHERE name = $1)
            AND s.since < $2 AND (s.until IS NULL OR s.until >= $2)";
        let name = encode(room_id.as_str());
        let names: Vec<String> =
            db!(self.read(), |pool| { sqlx::query_scalar(SQL).bind(&*name).bind(position).fetch_all(pool).await })?;
        names.into_iter().map(|name| parsed(&decode(name), "names", "name")).collect()
    }
}
