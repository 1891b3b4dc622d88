//! How much a user has not read.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#receiving-notifications>

use std::collections::BTreeMap;

use ruma::{OwnedEventId, RoomId, UInt, UserId, api::client::sync::sync_events::UnreadNotificationsCount};
use storage::UnreadCounts;

use crate::{Engine, Result};

/// What a user has not read of a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// Of the main timeline.
    pub main: UnreadCounts,
    /// Of the threads of which not all is read, by their roots.
    pub threads: BTreeMap<OwnedEventId, UnreadCounts>,
}

impl Unread {
    /// Of all of the room.
    pub fn total(&self) -> UnreadCounts {
        let mut total = self.main;
        for counts in self.threads.values() {
            total += *counts;
        }
        total
    }
}

impl Engine {
    /// What a user has not read of a room.
    pub async fn unread(&self, user_id: &UserId, room_id: &RoomId) -> Result<Unread> {
        let mut unread = Unread::default();
        for (thread, counts) in self.storage().unread_counts(user_id, room_id).await? {
            match OwnedEventId::try_from(thread) {
                Ok(root) => drop(unread.threads.insert(root, counts)),
                Err(_) => unread.main = counts,
            }
        }
        Ok(unread)
    }
}

/// Counts as clients are told of them.
pub(crate) fn shown(counts: UnreadCounts) -> UnreadNotificationsCount {
    let mut shown = UnreadNotificationsCount::new();
    shown.notification_count = Some(UInt::new_saturating(counts.notifications));
    shown.highlight_count = Some(UInt::new_saturating(counts.highlights));
    shown
}
