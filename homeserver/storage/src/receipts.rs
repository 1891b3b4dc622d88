//! Read receipts: the latest per room, user, type and thread.

use rules::change::Position;
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId, events::receipt::ReceiptType,
};

use crate::{Result, Storage};

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

impl Storage {
    /// The receipts of a room that moved with `since < position <= until`, ascending.
    pub async fn receipts_since(
        &self,
        room_id: &RoomId,
        since: Position,
        until: Position,
    ) -> Result<Vec<ReceiptRecord>> {
        todo!()
    }

    /// One receipt.
    pub async fn receipt(
        &self,
        room_id: &RoomId,
        user_id: &UserId,
        receipt_type: &ReceiptType,
        thread_id: Option<&str>,
    ) -> Result<Option<ReceiptRecord>> {
        todo!()
    }
}
