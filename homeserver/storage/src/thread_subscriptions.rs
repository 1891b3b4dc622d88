//! Which threads users follow.

use rules::change::Position;
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId, UserId};

use crate::{
    Result, Storage,
    dialect::{db, parsed},
    names::{decode, encode},
};

/// What a user last did about following a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadSubscriptionRecord {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The root of the thread.
    pub thread_root: OwnedEventId,
    /// Whether the user follows it.
    pub subscribed: bool,
    /// Whether a client did that of itself.
    pub automatic: bool,
    /// When.
    pub position: Position,
}

/// Room, root, subscribed, automatic, position.
type Row = (String, String, bool, bool, Position);

impl Storage {
    /// What a user last did about one thread.
    pub async fn thread_subscription(
        &self,
        user_id: &UserId,
        room_id: &RoomId,
        thread_root: &EventId,
    ) -> Result<Option<ThreadSubscriptionRecord>> {
        const SQL: &str = "SELECT r.name, t.thread_root, t.subscribed, t.automatic, t.position
            FROM thread_subscriptions t JOIN names r ON r.name_nid = t.room_nid
            WHERE t.user_nid = (SELECT name_nid FROM names WHERE name = $1) AND r.name = $2 AND t.thread_root = $3";
        let (user, room) = (encode(user_id.as_str()), encode(room_id.as_str()));
        let row: Option<Row> = db!(self.read(), |pool| {
            sqlx::query_as(SQL).bind(&*user).bind(&*room).bind(thread_root.as_str()).fetch_optional(pool).await
        })?;
        row.map(record).transpose()
    }

    /// What a user did about threads with `since < position <= until`, latest first, up to `limit`. Nothing but the last
    /// of each.
    pub async fn thread_subscriptions(
        &self,
        user_id: &UserId,
        since: Position,
        until: Position,
        limit: usize,
    ) -> Result<Vec<ThreadSubscriptionRecord>> {
        const SQL: &str = "SELECT r.name, t.thread_root, t.subscribed, t.automatic, t.position
            FROM thread_subscriptions t JOIN names r ON r.name_nid = t.room_nid
            WHERE t.user_nid = (SELECT name_nid FROM names WHERE name = $1) AND t.position > $2 AND t.position <= $3
            ORDER BY t.position DESC LIMIT +$4";
        let user = encode(user_id.as_str());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows: Vec<Row> = db!(self.read(), |pool| {
            sqlx::query_as(SQL).bind(&*user).bind(since).bind(until).bind(limit).fetch_all(pool).await
        })?;
        rows.into_iter().map(record).collect()
    }
}

fn record((room_id, thread_root, subscribed, automatic, position): Row) -> Result<ThreadSubscriptionRecord> {
    Ok(ThreadSubscriptionRecord {
        room_id: parsed(&decode(room_id), "thread_subscriptions", "room_nid")?,
        thread_root: parsed(&thread_root, "thread_subscriptions", "thread_root")?,
        subscribed,
        automatic,
        position,
    })
}
