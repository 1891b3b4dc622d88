//! Which events relate to which, and in how many ways to look at that.

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};

use crate::{
    Direction, Result, Storage,
    cache::RowCache,
    dialect::{db, event_id_list, is_storable, list, number_list, parsed},
    names::{decode, encode},
};

/// How far relations of relations are followed.
const DEPTH_MAX: i64 = 3;

/// For how many rooms it is remembered whether anything relates to anything there.
const ROOMS_REMEMBERED_MAX: u64 = 100_000;
/// How many relations of a room are looked at to find out that all are annotations.
const LOOKED_AT_MAX: i64 = 100;

/// In which rooms something may relate to something else, other than by annotations. In most that are only for two, or
/// bridged, nothing does; and every page of every room is asked what relates to it.
pub(crate) struct RelatedRooms(RowCache<OwnedRoomId, bool>);

impl Default for RelatedRooms {
    fn default() -> Self {
        Self(RowCache::new(ROOMS_REMEMBERED_MAX, |_, _| 1))
    }
}

impl RelatedRooms {
    /// Forgets rooms in which something new relates to something. To be called after that is committed.
    pub(crate) fn forget_all(&self) {
        self.0.forget_all();
    }

    pub(crate) fn forget<'a>(&self, rooms: impl IntoIterator<Item = &'a OwnedRoomId>) {
        self.0.forget(rooms);
    }
}

/// How many events of one sender relate to one event in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationCount {
    /// What they relate to.
    pub target_id: OwnedEventId,
    /// How.
    pub rel_type: String,
    /// Who sent them.
    pub sender: OwnedUserId,
    /// How many there are.
    pub count: u64,
    /// The order of the last of them.
    pub last_order: i64,
}

/// An event that relates to another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelatedEvent {
    /// What it relates to.
    pub target_id: OwnedEventId,
    /// The event.
    pub event_id: OwnedEventId,
    /// Who sent it.
    pub sender: OwnedUserId,
    /// Its order.
    pub order: i64,
}

/// A part of the relations of one event.
#[derive(Clone, Copy, Debug)]
pub struct RelationsRange<'a> {
    /// Only events with a greater order.
    pub after: Option<i64>,
    /// Only events with this order or a lesser one.
    pub until: Option<i64>,
    /// Which way to read.
    pub direction: Direction,
    /// How many at most.
    pub limit: usize,
    /// Only relations of this kind.
    pub rel_type: Option<&'a str>,
    /// Only events of this type.
    pub event_type: Option<&'a str>,
    /// Whether relations of relations are wanted too.
    pub recurse: bool,
}

/// A part of the threads of a room, the one with the latest event first.
#[derive(Clone, Copy, Debug)]
pub struct ThreadsRange<'a> {
    /// Only threads whose latest event has this order or a lesser one.
    pub until: i64,
    /// Events of a greater order are not looked at.
    pub visible_until: i64,
    /// How many at most.
    pub limit: usize,
    /// Only threads in which this user takes part.
    pub participant: Option<&'a UserId>,
    /// Events of these users are not looked at.
    pub ignored: &'a [OwnedUserId],
}

/// Relations of an event, and of those that relate to it. `UNION` drops what was met before, so that cycles end.
macro_rules! relations_sql {
    () => {
        "WITH RECURSIVE tree (id, depth) AS (
            SELECT CAST($2 AS TEXT), CAST(0 AS BIGINT)
            UNION
            SELECT r.event_id, t.depth + 1 FROM tree t JOIN relations r
                ON r.room_nid = (SELECT name_nid FROM names WHERE name = $1) AND r.target_id = t.id
                WHERE t.depth + 1 < $3
        )
        SELECT DISTINCT r.target_id, r.event_id, s.name, r.timeline_order FROM relations r
        JOIN names s ON s.name_nid = r.sender_nid
        WHERE r.room_nid = (SELECT name_nid FROM names WHERE name = $1)
        AND r.target_id IN (SELECT id FROM tree) AND r.timeline_order > $4 AND r.timeline_order <= $5
        AND ($6 IS NULL OR r.rel_type = $6)
        AND ($7 IS NULL OR r.type_nid = (SELECT name_nid FROM names WHERE name = $7))"
    };
}
type CountRow = (String, String, String, i64, i64);
type EventRow = (String, String, String, i64);

impl Storage {
    /// By how many events of whom, and how, events of a room are related to, up to an order. Mostly nobody asks for
    /// annotations, and there are many of them.
    pub async fn relation_counts(
        &self,
        room_id: &RoomId,
        targets: &[OwnedEventId],
        until: i64,
        with_annotations: bool,
    ) -> Result<Vec<RelationCount>> {
        const SQL: &str = "SELECT r.target_id, r.rel_type, s.name, COUNT(*), MAX(r.timeline_order) FROM relations r
            JOIN names s ON s.name_nid = r.sender_nid
            WHERE r.room_nid = (SELECT name_nid FROM names WHERE name = $1)
            AND r.target_id IN (SELECT value FROM json_each($2)) AND ($4 OR r.rel_type <> 'm.annotation')
            AND r.timeline_order <= $3 GROUP BY r.target_id, r.rel_type, s.name";
        if targets.is_empty() || !with_annotations && !self.may_be_related(room_id).await? {
            return Ok(Vec::new());
        }
        let (room, targets) = (encode(room_id.as_str()), event_id_list(targets));
        let rows: Vec<CountRow> = db!(self.read(), |pool| {
            sqlx::query_as(SQL).bind(&*room).bind(targets).bind(until).bind(with_annotations).fetch_all(pool).await
        })?;
        let count = |(target_id, rel_type, sender, count, last_order): CountRow| {
            Ok(RelationCount {
                target_id: parsed(&target_id, "relations", "target_id")?,
                rel_type,
                sender: parsed(&decode(sender), "relations", "sender_nid")?,
                count: count.unsigned_abs(),
                last_order,
            })
        };
        rows.into_iter().map(count).collect()
    }

    /// Whether any event of a room may relate to another one, other than by annotations.
    pub async fn may_be_related(&self, room_id: &RoomId) -> Result<bool> {
        const SQL: &str = "SELECT rel_type FROM relations
            WHERE room_nid = (SELECT name_nid FROM names WHERE name = $1) LIMIT +$2";
        let known = &self.shared.related_rooms.0;
        let key = room_id.to_owned();
        if let Some(may_be) = known.get(&key) {
            return Ok(may_be);
        }
        let (reading, room) = (known.reading(), encode(room_id.as_str()));
        let found: Vec<String> = db!(self.read(), |pool| {
            sqlx::query_scalar(SQL).bind(&*room).bind(LOOKED_AT_MAX).fetch_all(pool).await
        })?;
        let may_be = found.len() as i64 == LOOKED_AT_MAX || found.iter().any(|rel_type| rel_type != "m.annotation");
        known.offer(reading, key, may_be);
        Ok(may_be)
    }

    /// The events that relate to events of a room in one way, the latest first, up to an order and a number.
    pub async fn related_by(
        &self,
        room_id: &RoomId,
        targets: &[OwnedEventId],
        rel_type: &str,
        until: i64,
        limit: usize,
    ) -> Result<Vec<RelatedEvent>> {
        const SQL: &str = "SELECT r.target_id, r.event_id, s.name, r.timeline_order FROM relations r
            JOIN names s ON s.name_nid = r.sender_nid
            WHERE r.room_nid = (SELECT name_nid FROM names WHERE name = $1)
            AND r.target_id IN (SELECT value FROM json_each($2)) AND r.rel_type = $3
            AND r.timeline_order <= $4 ORDER BY r.timeline_order DESC LIMIT +$5";
        let (room, targets, limit) = (encode(room_id.as_str()), event_id_list(targets), limit as i64);
        let rows: Vec<EventRow> = db!(self.read(), |pool| {
            let query = sqlx::query_as(SQL).bind(&*room).bind(targets).bind(rel_type);
            query.bind(until).bind(limit).fetch_all(pool).await
        })?;
        rows.into_iter().map(related_event).collect()
    }

    /// The events of those orders, as far as they relate to another one.
    pub async fn related_at(&self, room_id: &RoomId, orders: &[i64]) -> Result<Vec<RelatedEvent>> {
        const SQL: &str = "SELECT r.target_id, r.event_id, s.name, r.timeline_order FROM relations r
            JOIN names s ON s.name_nid = r.sender_nid
            WHERE r.room_nid = (SELECT name_nid FROM names WHERE name = $1)
            AND r.timeline_order IN (SELECT CAST(value AS BIGINT) FROM json_each($2))";
        let (room, orders) = (encode(room_id.as_str()), number_list(orders.iter().copied()));
        let rows: Vec<EventRow> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(&*room).bind(orders).fetch_all(pool).await)?;
        rows.into_iter().map(related_event).collect()
    }

    /// A part of the events that relate to one event.
    pub async fn relations(
        &self,
        room_id: &RoomId,
        target_id: &ruma::EventId,
        range: RelationsRange<'_>,
    ) -> Result<Vec<RelatedEvent>> {
        const FORWARD: &str = concat!(relations_sql!(), " ORDER BY timeline_order LIMIT +$8");
        const BACKWARD: &str = concat!(relations_sql!(), " ORDER BY timeline_order DESC LIMIT +$8");
        let texts = [Some(target_id.as_str()), range.rel_type];
        if !texts.into_iter().flatten().all(is_storable) {
            return Ok(Vec::new());
        }
        let sql = match range.direction {
            Direction::Forward => FORWARD,
            Direction::Backward => BACKWARD,
        };
        let (room, event_type) = (encode(room_id.as_str()), range.event_type.map(encode));
        let (after, until) = (range.after.unwrap_or(i64::MIN), range.until.unwrap_or(i64::MAX));
        let depth = if range.recurse { DEPTH_MAX } else { 1 };
        let rows: Vec<EventRow> = db!(self.read(), |pool| {
            let query = sqlx::query_as(sql).bind(&*room).bind(target_id.as_str()).bind(depth).bind(after);
            let query = query.bind(until).bind(range.rel_type).bind(event_type.as_deref());
            query.bind(range.limit as i64).fetch_all(pool).await
        })?;
        rows.into_iter().map(related_event).collect()
    }

    /// How far [`Storage::relations`] follows relations of relations.
    pub fn relations_depth_max(&self) -> u32 {
        DEPTH_MAX as u32
    }

    /// The roots of a part of a room's threads, each with its latest event, the thread of the latest of them first.
    pub async fn threads(&self, room_id: &RoomId, range: ThreadsRange<'_>) -> Result<Vec<RelatedEvent>> {
        // A thread stands where its latest event does: where there is no later one.
        const SQL: &str = "SELECT r.target_id, r.event_id, s.name, r.timeline_order FROM relations r
            JOIN names s ON s.name_nid = r.sender_nid JOIN events root ON root.event_id = r.target_id
            WHERE r.room_nid = (SELECT name_nid FROM names WHERE name = $1) AND root.room_nid = r.room_nid
            AND r.rel_type = 'm.thread' AND r.timeline_order <= $2
            AND s.name NOT IN (SELECT value FROM json_each($3))
            AND NOT EXISTS (SELECT 1 FROM relations l JOIN names ls ON ls.name_nid = l.sender_nid
                WHERE l.room_nid = r.room_nid AND l.target_id = r.target_id AND l.rel_type = 'm.thread'
                AND l.timeline_order > r.timeline_order AND l.timeline_order <= $4
                AND ls.name NOT IN (SELECT value FROM json_each($3)))
            AND ($5 IS NULL OR root.sender_nid = (SELECT name_nid FROM names WHERE name = $5)
                OR EXISTS (SELECT 1 FROM relations m WHERE m.room_nid = r.room_nid AND m.target_id = r.target_id
                    AND m.rel_type = 'm.thread' AND m.sender_nid = (SELECT name_nid FROM names WHERE name = $5)))
            ORDER BY r.timeline_order DESC LIMIT +$6";
        let room = encode(room_id.as_str());
        let ignored: Vec<_> = range.ignored.iter().map(|user_id| encode(user_id.as_str())).collect();
        let ignored = list(ignored.iter().map(|user_id| &**user_id));
        let participant = range.participant.map(|user_id| encode(user_id.as_str()));
        let until = range.until.min(range.visible_until);
        let rows: Vec<EventRow> = db!(self.read(), |pool| {
            let query = sqlx::query_as(SQL).bind(&*room).bind(until).bind(ignored).bind(range.visible_until);
            query.bind(participant.as_deref()).bind(range.limit as i64).fetch_all(pool).await
        })?;
        rows.into_iter().map(related_event).collect()
    }

    /// Whether a user has annotated an event by an event of a type with a key.
    pub async fn is_annotated(
        &self,
        room_id: &RoomId,
        target_id: &ruma::EventId,
        sender: &UserId,
        event_type: &str,
        key: &str,
    ) -> Result<bool> {
        const SQL: &str = "SELECT COUNT(*) FROM relations WHERE room_nid = (SELECT name_nid FROM names WHERE name = $1)
            AND target_id = $2 AND rel_type = 'm.annotation' AND annotation_key = $3
            AND sender_nid = (SELECT name_nid FROM names WHERE name = $4)
            AND type_nid = (SELECT name_nid FROM names WHERE name = $5)";
        if !is_storable(target_id.as_str()) || key.contains('\0') {
            return Ok(false);
        }
        let (room, sender, event_type) = (encode(room_id.as_str()), encode(sender.as_str()), encode(event_type));
        let count: i64 = db!(self.read(), |pool| {
            let query = sqlx::query_scalar(SQL).bind(&*room).bind(target_id.as_str()).bind(key);
            query.bind(&*sender).bind(&*event_type).fetch_one(pool).await
        })?;
        Ok(count > 0)
    }
}

fn related_event((target_id, event_id, sender, order): EventRow) -> Result<RelatedEvent> {
    Ok(RelatedEvent {
        target_id: parsed(&target_id, "relations", "target_id")?,
        event_id: parsed(&event_id, "relations", "event_id")?,
        sender: parsed(&decode(sender), "relations", "sender_nid")?,
        order,
    })
}
