//! Whose devices the devices of a service's users are to look at again, and whose they need not know any more.
//!
//! Spec: MSC3202, which means by it what
//! <https://spec.matrix.org/v1.19/client-server-api/#tracking-the-device-list-for-a-user> says for one user.

use std::collections::BTreeSet;

use rules::change::Position;
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId, events::room::member::MembershipState};
use storage::{LogEntry, LogKind};

use super::{queue::Worker, transaction::Contents};
use crate::Result;

impl Worker {
    /// Somebody's devices changed who shares a room with one of the service's users, or is one.
    pub(super) async fn add_device_list(&mut self, entry: &LogEntry, contents: &mut Contents) -> Result<()> {
        for (user_id, viewer) in self.engine.storage().device_list_changes_at(entry.position).await? {
            // Whom somebody has verified is only theirs to know.
            let may_know = viewer.is_none_or(|viewer| self.service.owns_user(&viewer));
            if may_know && self.is_known(&user_id, entry.position).await? {
                contents.changed_devices.insert(user_id);
            }
        }
        Ok(())
    }

    /// Adds with whom the service's users began to share a room, and with whom they stopped, by what happened with
    /// `since < position <= until`, of which `entries` tell.
    pub(super) async fn add_rooms_shared(
        &mut self,
        entries: &[LogEntry],
        (since, until): (Position, Position),
        contents: &mut Contents,
    ) -> Result<()> {
        let rooms = entries.iter().filter(|entry| entry.kind == LogKind::Event && entry.position <= until);
        let rooms: BTreeSet<OwnedRoomId> = rooms.filter_map(|entry| entry.room_id.clone()).collect();
        let mut gone = BTreeSet::new();
        for room_id in rooms {
            self.note_room(&room_id, (since, until), contents, &mut gone).await?;
        }
        for user_id in gone {
            if !self.is_known(&user_id, until).await? {
                contents.changed_devices.remove(&user_id);
                contents.left_devices.insert(user_id);
            }
        }
        Ok(())
    }

    /// What one room has to do with it.
    async fn note_room(
        &mut self,
        room_id: &RoomId,
        (since, until): (Position, Position),
        contents: &mut Contents,
        gone: &mut BTreeSet<OwnedUserId>,
    ) -> Result<()> {
        let room = [room_id.to_owned()];
        let changes = self.engine.storage().member_changes(&room, since, until).await?;
        if changes.is_empty() {
            return Ok(());
        }
        let (own, others): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|change| self.service.covers_user(&change.user_id));
        let was_joined = |membership: Option<&MembershipState>| membership == Some(&MembershipState::Join);
        if own.iter().any(|change| !was_joined(change.before.as_ref()) && was_joined(change.after.as_ref())) {
            contents.changed_devices.extend(self.engine.storage().members_at(&room, until).await?);
        }
        if own.iter().any(|change| was_joined(change.before.as_ref()) && !was_joined(change.after.as_ref())) {
            gone.extend(self.engine.storage().members_at(&room, since).await?);
        }
        let is_ours = !self.interest.members(&self.engine, room_id, until).await?.is_empty();
        for change in others {
            match (is_there(change.before.as_ref()), is_there(change.after.as_ref())) {
                (true, false) if is_ours => drop(gone.insert(change.user_id)),
                // Who was away may have changed devices meanwhile, and nobody told us; and who was only invited too.
                (_, true) if is_ours => drop(contents.changed_devices.insert(change.user_id)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether somebody is one of the service's users, or shares a room with one.
    pub(super) async fn is_known(&mut self, user_id: &UserId, position: Position) -> Result<bool> {
        if self.service.covers_user(user_id) {
            return Ok(true);
        }
        for room_id in self.engine.storage().joined_rooms(user_id).await? {
            if !self.interest.members(&self.engine, &room_id, position).await?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn is_there(membership: Option<&MembershipState>) -> bool {
    matches!(membership, Some(MembershipState::Join | MembershipState::Invite))
}
