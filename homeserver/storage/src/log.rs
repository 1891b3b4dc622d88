//! Reading the log, and being woken when it grows.

use rules::change::Position;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, events::room::member::MembershipState};
use tokio::sync::watch;

use crate::{Result, Storage};

/// What kind of change a log entry tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogKind {
    /// A live event of a room's timeline.
    Event,
    /// A local user's relation to a room.
    Membership,
    /// A read receipt.
    Receipt,
    /// Account data of a local user.
    AccountData,
}

/// One entry of the log: what changed, not the change itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its place.
    pub position: Position,
    /// What kind of change it is.
    pub kind: LogKind,
    /// The room concerned; `None` for global account data.
    pub room_id: Option<OwnedRoomId>,
    /// The user concerned; the sender of an event.
    pub user_id: Option<OwnedUserId>,
    /// The event: the live one, the member event, or the one that a receipt points to if it is stored.
    pub event_id: Option<OwnedEventId>,
    /// Whether the servers in the room are to be sent it by us.
    pub outbound: bool,
    /// For [`LogKind::Membership`]: the membership.
    pub membership: Option<MembershipState>,
}

impl Storage {
    /// The newest committed position that this process has seen.
    pub fn head(&self) -> Position {
        todo!()
    }

    /// A receiver that changes whenever the log grows, holding the head.
    pub fn subscribe(&self) -> watch::Receiver<Position> {
        todo!()
    }

    /// Up to `limit` log entries after `position`, ascending.
    pub async fn log_since(&self, position: Position, limit: usize) -> Result<Vec<LogEntry>> {
        todo!()
    }

    /// Those of `rooms` that have a log entry with `since < position <= until`.
    pub async fn rooms_changed(
        &self,
        rooms: &[OwnedRoomId],
        since: Position,
        until: Position,
    ) -> Result<Vec<OwnedRoomId>> {
        todo!()
    }
}
