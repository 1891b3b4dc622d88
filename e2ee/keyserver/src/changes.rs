//! Whose devices changed, for one user: what `/sync` and `/keys/changes` say.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#tracking-the-device-list-for-a-user>

use std::collections::BTreeSet;

use rules::change::Position;
use ruma::{OwnedRoomId, OwnedUserId, UserId, events::room::member::MembershipState};

use crate::{KeyServer, Result};

/// What happened to the rooms of a user between two positions.
#[derive(Clone, Debug, Default)]
pub struct RoomsSince {
    /// Rooms that the user joined.
    pub joined: Vec<OwnedRoomId>,
    /// Rooms that the user was in all the time, of which all members became known only now.
    pub completed: Vec<OwnedRoomId>,
    /// Rooms that the user left.
    pub left: Vec<OwnedRoomId>,
    /// Rooms that the user was in all the time, in which something happened.
    pub changed: Vec<OwnedRoomId>,
}

/// Whose devices a client is to look at again, and whose it need not know any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceListChanges {
    /// Users whose devices changed, or with whom the user shares a room now.
    pub changed: BTreeSet<OwnedUserId>,
    /// Users with whom the user shares no room any more.
    pub left: BTreeSet<OwnedUserId>,
}

impl KeyServer {
    /// What changed with `since < position <= until`.
    pub async fn device_list_changes(
        &self,
        user_id: &UserId,
        since: Position,
        until: Position,
        rooms: &RoomsSince,
    ) -> Result<DeviceListChanges> {
        let mut changes = DeviceListChanges::default();
        changes.changed.extend(self.storage.device_lists_changed(user_id, since, until).await?);
        if !rooms.joined.is_empty() {
            changes.changed.extend(self.storage.members_at(&rooms.joined, until).await?);
        }
        let mut gone = BTreeSet::new();
        if !rooms.completed.is_empty() {
            changes.changed.extend(self.storage.members_found(&rooms.completed, since, until).await?);
            gone.extend(self.storage.members_lost(&rooms.completed, since, until).await?);
        }
        if !rooms.left.is_empty() {
            gone.extend(self.storage.members_at(&rooms.left, since).await?);
        }
        if !rooms.changed.is_empty() {
            for change in self.storage.member_changes(&rooms.changed, since, until).await? {
                match (rank(change.before.as_ref()), rank(change.after.as_ref())) {
                    (before, after) if after > before => drop(changes.changed.insert(change.user_id)),
                    // Nobody told us of changes while the user was away.
                    (_, 2) if change.was_away => drop(changes.changed.insert(change.user_id)),
                    (before, 0) if before > 0 => drop(gone.insert(change.user_id)),
                    _ => {}
                }
            }
        }
        gone.remove(user_id);
        let gone: Vec<OwnedUserId> = gone.into_iter().collect();
        let sharing: BTreeSet<_> = self.storage.sharing_a_room(user_id, &gone).await?.into_iter().collect();
        changes.left.extend(gone.into_iter().filter(|gone| !sharing.contains(gone)));
        changes.changed.retain(|user_id| !changes.left.contains(user_id));
        Ok(changes)
    }
}

/// How much somebody shares a room: joined more than invited. Whose devices were known while they were invited are to
/// be looked at again when they join, as nobody told of changes meanwhile.
fn rank(membership: Option<&MembershipState>) -> u8 {
    match membership {
        Some(MembershipState::Join) => 2,
        Some(MembershipState::Invite) => 1,
        _ => 0,
    }
}
