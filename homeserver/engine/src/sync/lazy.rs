//! Which member events a device has been told of, so that loading members lazily does not repeat them.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#lazy-loading-room-members>. A device counts as told only once
//! it comes back with a token of after the answer: then it must have got it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use moka::{policy::EvictionPolicy, sync::Cache};
use rules::change::Position;
use ruma::{OwnedRoomId, OwnedUserId, RoomId};

use crate::Requester;

/// Of how many rooms of devices it is remembered. Forgetting only repeats member events.
const ROOMS_MAX: u64 = 50_000;
const ROOMS_IDLE: Duration = Duration::from_hours(1);
/// How many members of one room are remembered for a device.
const MEMBERS_PER_ROOM_MAX: usize = 500;

/// In which answer each member was told.
type Told = Arc<Mutex<HashMap<OwnedUserId, Position>>>;

/// What devices have been told.
pub(crate) struct LazyMembers(Cache<(Requester, OwnedRoomId), Told>);

impl LazyMembers {
    pub(crate) fn new() -> Self {
        Self(
            Cache::builder()
                .max_capacity(ROOMS_MAX)
                .eviction_policy(EvictionPolicy::lru())
                .time_to_idle(ROOMS_IDLE)
                .build(),
        )
    }

    /// The device starts anew with a room.
    pub(crate) fn forget(&self, requester: &Requester, room_id: &RoomId) {
        self.0.invalidate(&(requester.clone(), room_id.to_owned()));
    }

    /// Takes out of `members` those that a device with a token of `since` was told of.
    pub(crate) fn leave_out(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        since: Position,
        members: &mut BTreeSet<OwnedUserId>,
    ) {
        let Some(told) = self.0.get(&(requester.clone(), room_id.to_owned())) else { return };
        let told = told.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|user_id| told.get(user_id).is_none_or(|position| *position > since));
    }

    /// An answer that ends at `position` tells a device of some members.
    pub(crate) fn note(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        position: Position,
        members: impl Iterator<Item = OwnedUserId>,
    ) {
        let told = self.0.get_with((requester.clone(), room_id.to_owned()), Told::default);
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        for user_id in members {
            if told.len() >= MEMBERS_PER_ROOM_MAX {
                told.clear();
            }
            let first = told.entry(user_id).or_insert(position);
            *first = position.min(*first);
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::{owned_device_id, owned_user_id, room_id};

    use super::*;

    #[test]
    fn only_what_must_have_arrived_is_left_out() {
        let lazy = LazyMembers::new();
        let requester = Requester { user_id: owned_user_id!("@me:test"), device_id: owned_device_id!("PHONE") };
        let room = room_id!("!room:test");
        let left = |since| {
            let mut members = BTreeSet::from([owned_user_id!("@a:test"), owned_user_id!("@b:test")]);
            lazy.leave_out(&requester, room, since, &mut members);
            members.len()
        };
        assert_eq!(left(100), 2);
        lazy.note(&requester, room, 7, [owned_user_id!("@a:test")].into_iter());
        assert_eq!((left(6), left(7), left(8)), (2, 1, 1));
        // Told again in a later answer: the first still counts.
        lazy.note(&requester, room, 9, [owned_user_id!("@a:test")].into_iter());
        assert_eq!(left(7), 1);
        lazy.forget(&requester, room);
        assert_eq!(left(9), 2);
    }
}
