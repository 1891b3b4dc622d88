//! What happened lately, read off the log: most syncs are about one message in one room, and need not look at all the
//! rooms of their user to find it.

use std::collections::{HashMap, HashSet};

use rules::change::Position;
use ruma::{OwnedRoomId, RoomId, UserId, events::room::member::MembershipState};
use storage::{LogEntry, LogKind, MembershipRecord};

use crate::{Engine, Result};

/// How many log entries are looked through. When more happened, asking the tables takes less time.
const ENTRIES_MAX: usize = 300;

/// Which parts of a room changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    /// The timeline, and with it maybe the state.
    pub(crate) timeline: bool,
    /// The receipts.
    pub(crate) receipts: bool,
}

impl Parts {
    /// For want of better knowledge.
    pub(crate) const ALL: Self = Self { timeline: true, receipts: true };
    /// Nothing that the log tells of.
    pub(crate) const NONE: Self = Self { timeline: false, receipts: false };
}

/// What happened to a user and in rooms between two positions.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Recent {
    /// The rooms in which something happened, whoever is in them.
    pub(crate) rooms: HashMap<OwnedRoomId, Parts>,
    /// Whether the user's account data changed.
    pub(crate) account_data: bool,
    /// Whether somebody's devices changed.
    pub(crate) device_lists: bool,
}

impl Recent {
    /// Nothing when the user's relation to some room changed, or all members of one became known: then there is more to
    /// be looked at.
    fn new(entries: &[LogEntry], user_id: &UserId) -> Option<Self> {
        let mut recent = Self { rooms: HashMap::new(), account_data: false, device_lists: false };
        for entry in entries {
            let is_own = entry.user_id.as_deref() == Some(user_id);
            if entry.kind == LogKind::Membership && is_own || entry.kind == LogKind::CompleteState {
                return None;
            }
            recent.device_lists |= entry.kind == LogKind::DeviceList;
            recent.account_data |= entry.kind == LogKind::AccountData && is_own;
            let Some(room_id) = entry.room_id.as_ref().filter(|_| concerns_room(entry, is_own)) else { continue };
            let parts = recent.rooms.entry(room_id.clone()).or_insert(Parts::NONE);
            parts.timeline |= entry.kind == LogKind::Event;
            parts.receipts |= entry.kind == LogKind::Receipt;
        }
        Some(recent)
    }
}

/// Whether the members of its room are to look at the room for an entry.
fn concerns_room(entry: &LogEntry, is_own: bool) -> bool {
    match entry.kind {
        LogKind::Event | LogKind::Receipt | LogKind::CompleteState => true,
        LogKind::AccountData => is_own,
        LogKind::Membership
        | LogKind::ThreadSubscription
        | LogKind::DeviceList
        | LogKind::ToDevice
        | LogKind::Edu
        | LogKind::Resend => false,
    }
}

impl Engine {
    /// What happened after `since`, up to `now`, if that was little and the user's rooms are the same as before.
    pub(super) async fn recent(&self, user_id: &UserId, since: Position, now: Position) -> Result<Option<Recent>> {
        if since >= now {
            return Ok(Some(Recent { rooms: HashMap::new(), account_data: false, device_lists: false }));
        }
        let mut entries = self.storage().log_since(since, ENTRIES_MAX).await?;
        let is_complete = entries.len() < ENTRIES_MAX || entries.last().is_some_and(|last| last.position >= now);
        entries.retain(|entry| entry.position <= now);
        Ok(if is_complete { Recent::new(&entries, user_id) } else { None })
    }

    /// The user's records of those of the rooms that the user is joined to. Nothing when a relation to one of them
    /// changed after `now`.
    pub(super) async fn joined_among(
        &self,
        user_id: &UserId,
        rooms: HashSet<OwnedRoomId>,
        now: Position,
    ) -> Result<Option<Vec<MembershipRecord>>> {
        let mut joined = Vec::new();
        for room_id in self.inner.sync.users.joined_among(user_id, rooms) {
            match self.active_membership(user_id, &room_id).await? {
                Some(record) if record.position > now => return Ok(None),
                Some(record) if record.membership == MembershipState::Join => joined.push(record),
                _ => {}
            }
        }
        Ok(Some(joined))
    }

    /// The membership of a user who syncs in a room that the user is joined to, as new as what was heard of it.
    async fn active_membership(&self, user_id: &UserId, room_id: &RoomId) -> Result<Option<MembershipRecord>> {
        let users = &self.inner.sync.users;
        if let Some(record) = users.membership(user_id, room_id) {
            return Ok(Some(record));
        }
        let record = self.storage().membership(user_id, room_id).await?;
        if let Some(record) = record.as_ref().filter(|record| record.membership == MembershipState::Join) {
            users.keep_membership(record);
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use ruma::{owned_room_id, user_id};

    use super::*;

    fn entry(kind: LogKind, room_id: Option<&str>, user_id: &str) -> LogEntry {
        LogEntry {
            position: 1,
            kind,
            room_id: room_id.map(|room_id| room_id.try_into().unwrap()),
            user_id: Some(user_id.try_into().unwrap()),
            event_id: None,
            outbound: false,
            membership: None,
        }
    }

    #[test]
    fn entries_are_gathered_by_room() {
        let alice = user_id!("@alice:test");
        let mut entries = vec![
            entry(LogKind::Event, Some("!a:test"), "@bob:test"),
            entry(LogKind::Receipt, Some("!a:test"), "@bob:test"),
            entry(LogKind::Receipt, Some("!b:test"), "@bob:test"),
            entry(LogKind::AccountData, Some("!c:test"), "@bob:test"),
            entry(LogKind::AccountData, None, "@bob:test"),
            entry(LogKind::Membership, Some("!d:test"), "@bob:test"),
        ];
        let recent = Recent::new(&entries, alice).unwrap();
        let rooms = [
            (owned_room_id!("!a:test"), Parts::ALL),
            (owned_room_id!("!b:test"), Parts { timeline: false, receipts: true }),
        ];
        assert_eq!(recent, Recent { rooms: rooms.into(), account_data: false, device_lists: false });
        entries.push(entry(LogKind::AccountData, Some("!c:test"), "@alice:test"));
        let recent = Recent::new(&entries, alice).unwrap();
        assert_eq!(recent.rooms[&owned_room_id!("!c:test")], Parts::NONE);
        assert!(recent.account_data);
        entries.push(entry(LogKind::Membership, Some("!d:test"), "@alice:test"));
        assert_eq!(Recent::new(&entries, alice), None);
    }
}
