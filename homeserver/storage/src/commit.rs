//! The one way in which what others must hear about becomes true.

use rules::change::{Change, Position};
use ruma::{OwnedEventId, OwnedRoomId};

use crate::{Storage, StorageError};

/// Which state of a room a submission was decided against.
#[derive(Clone, Debug)]
pub struct RoomGuard {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Its revision then; 0 when the room must not exist yet.
    pub revision: i64,
}

/// Changes that become true together or not at all.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The room that was decided about, if the decision depended on one.
    pub room: Option<RoomGuard>,
    /// What is to become true, in this order.
    pub changes: Vec<Change>,
}

/// What a commit came to.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The position of the last change that got one; the head of the log when none did.
    pub position: Position,
    /// The new revision of the guarded room.
    pub revision: Option<i64>,
    /// The live events and their positions, in the order of the submission.
    pub positions: Vec<(OwnedEventId, Position)>,
}

/// Why nothing of a submission became true.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Somebody else changed the room: load it again and decide again.
    #[error("the room was changed meanwhile")]
    Conflict,
    /// The transaction id was used meanwhile; this event is what it led to.
    #[error("the transaction id was used meanwhile, for {0}")]
    AlreadyDone(OwnedEventId),
    /// The changes could not be written.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Storage {
    /// Makes the changes of a submission true, all or none, and returns once they are as durable as the options say.
    pub async fn commit(&self, submission: Submission) -> Result<Committed, CommitError> {
        todo!()
    }
}
