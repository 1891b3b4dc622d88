//! Read receipts: the latest per room, user, type and thread.

use rules::change::Position;
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UInt, UserId,
    events::receipt::ReceiptType,
};

use crate::{
    Result, Storage,
    dialect::{db, list, number_list, parsed, storable},
    names::{decode, encode},
};

/// Up to where somebody has read.
#[derive(Clone, Debug)]
pub struct ReceiptRecord {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Who read.
    pub user_id: OwnedUserId,
    /// `m.read` or `m.read.private`.
    pub receipt_type: ReceiptType,
    /// `None` for an unthreaded receipt, else `main` or the thread's root.
    pub thread_id: Option<String>,
    /// Up to which event.
    pub event_id: OwnedEventId,
    /// When, by the clock of the reader's server.
    pub ts: MilliSecondsSinceUnixEpoch,
    /// When it was moved there.
    pub position: Position,
}

/// Room, user, type, thread, event, time, position.
type Row = (String, String, String, String, String, i64, Position);

impl Storage {
    /// The receipts of a room that moved with `since < position <= until`, ascending.
    pub async fn receipts_since(
        &self,
        room_id: &RoomId,
        since: Position,
        until: Position,
    ) -> Result<Vec<ReceiptRecord>> {
        self.receipts_in([room_id], since, until).await
    }

    /// The receipts of some rooms that moved with `since < position <= until`, ascending.
    pub async fn receipts_in<'a>(
        &self,
        room_ids: impl IntoIterator<Item = &'a RoomId>,
        since: Position,
        until: Position,
    ) -> Result<Vec<ReceiptRecord>> {
        const SQL: &str = "SELECT r.name, u.name, p.receipt_type, p.thread_id, p.event_id, p.ts, p.position
            FROM names r CROSS JOIN receipts p JOIN names u ON u.name_nid = p.user_nid
            WHERE r.name IN (SELECT value FROM json_each($1)) AND p.room_nid = r.name_nid
            AND p.position > $2 AND p.position <= $3 ORDER BY p.position";
        let names: Vec<_> = room_ids.into_iter().map(|room_id| encode(room_id.as_str())).collect();
        let names = list(names.iter().map(|name| &**name));
        let rows: Vec<Row> =
            db!(self.read(), |pool| { sqlx::query_as(SQL).bind(names).bind(since).bind(until).fetch_all(pool).await })?;
        rows.into_iter().map(record).collect()
    }

    /// One receipt.
    pub async fn receipt(
        &self,
        room_id: &RoomId,
        user_id: &UserId,
        receipt_type: &ReceiptType,
        thread_id: Option<&str>,
    ) -> Result<Option<ReceiptRecord>> {
        const SQL: &str = "SELECT r.name, u.name, p.receipt_type, p.thread_id, p.event_id, p.ts, p.position
            FROM receipts p JOIN names r ON r.name_nid = p.room_nid JOIN names u ON u.name_nid = p.user_nid
            WHERE r.name = $1 AND u.name = $2 AND p.receipt_type = $3 AND p.thread_id = $4";
        let (room, user) = (encode(room_id.as_str()), encode(user_id.as_str()));
        let receipt_type = storable(receipt_type.as_str(), "a receipt's type")?;
        let thread_id = storable(thread_id.unwrap_or_default(), "a receipt's thread")?;
        let row: Option<Row> = db!(self.read(), |pool| {
            let query = sqlx::query_as(SQL).bind(&*room).bind(&*user).bind(receipt_type).bind(thread_id);
            query.fetch_optional(pool).await
        })?;
        row.map(record).transpose()
    }

    /// The receipts of some rooms that moved at exactly these positions.
    pub(crate) async fn receipts_at(
        &self,
        room_ids: impl Iterator<Item = &str>,
        positions: impl Iterator<Item = Position>,
    ) -> Result<Vec<ReceiptRecord>> {
        const SQL: &str = "SELECT r.name, u.name, p.receipt_type, p.thread_id, p.event_id, p.ts, p.position
            FROM receipts p JOIN names r ON r.name_nid = p.room_nid JOIN names u ON u.name_nid = p.user_nid
            WHERE r.name IN (SELECT value FROM json_each($1))
            AND p.position IN (SELECT CAST(value AS BIGINT) FROM json_each($2))";
        let (rooms, positions) = (list(room_ids), number_list(positions));
        let rows: Vec<Row> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(rooms).bind(positions).fetch_all(pool).await)?;
        rows.into_iter().map(record).collect()
    }
}

fn record(row: Row) -> Result<ReceiptRecord> {
    let (room_id, user_id, receipt_type, thread_id, event_id, ts, position) = row;
    Ok(ReceiptRecord {
        room_id: parsed(&decode(room_id), "receipts", "room_nid")?,
        user_id: parsed(&decode(user_id), "receipts", "user_nid")?,
        receipt_type: receipt_type.into(),
        thread_id: Some(thread_id).filter(|thread_id| !thread_id.is_empty()),
        event_id: parsed(&event_id, "receipts", "event_id")?,
        ts: MilliSecondsSinceUnixEpoch(UInt::new_saturating(ts.unsigned_abs())),
        position,
    })
}
