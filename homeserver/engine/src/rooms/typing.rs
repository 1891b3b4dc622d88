//! Who is typing: in memory only, and for half a minute at most.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#typing-notifications>

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use outbound::EduJson;
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, ServerName, UserId};
use serde::Serialize;
use serde_json::value::to_raw_value;

use crate::{Engine, EngineError, Inner, Requester, Result};

/// How long one notice holds, whatever was asked for: clients renew it while their user goes on typing. Also how long
/// other servers' notices hold, which do not say.
const TIMEOUT_MAX_MS: u64 = 30_000;
/// Of how many rooms it is remembered that somebody typed in them last. Beyond, the oldest are forgotten.
const ROOMS_MAX: usize = 10_000;
/// How long it takes at most until a notice that holds only shortly is seen to have run out.
const WATCH_INTERVAL_MAX: Duration = Duration::from_secs(5);
/// How many users can be typing in one room: nobody reads longer lists.
const USERS_PER_ROOM_MAX: usize = 100;

/// Who is typing in which room.
#[derive(Default)]
pub(crate) struct Typing {
    rooms: Mutex<TypingRooms>,
}

#[derive(Default)]
struct TypingRooms {
    /// How often who is typing has changed, in any room.
    count: u64,
    rooms: HashMap<OwnedRoomId, TypingRoom>,
    /// The rooms by the count of their last change.
    by_change: BTreeMap<u64, OwnedRoomId>,
}

#[derive(Default)]
struct TypingRoom {
    changed: u64,
    /// Until when, in milliseconds since the epoch.
    users: BTreeMap<OwnedUserId, u64>,
    is_watched: bool,
}

/// What came of a notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Noted {
    /// The count of the change, if the list of users changed.
    changed: Option<u64>,
    /// Whether somebody must look when the notices run out.
    needs_watch: bool,
}

impl Typing {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// How often who is typing has changed.
    pub(crate) fn count(&self) -> u64 {
        self.lock().count
    }

    /// The rooms in which who is typing changed after `since`, with who is typing there now.
    pub(crate) fn changed_since(&self, since: u64, now_ms: u64) -> Vec<(OwnedRoomId, Vec<OwnedUserId>)> {
        let rooms = self.lock();
        // A count of before a restart says nothing.
        let since = if since > rooms.count { 0 } else { since };
        let later = rooms.by_change.range(since + 1..);
        later.map(|(_, room_id)| (room_id.clone(), rooms.users(room_id, now_ms))).collect()
    }

    /// Who is typing in a room.
    pub(crate) fn users(&self, room_id: &RoomId, now_ms: u64) -> Vec<OwnedUserId> {
        self.lock().users(room_id, now_ms)
    }

    fn set(&self, room_id: &RoomId, user_id: &UserId, until_ms: Option<u64>) -> Noted {
        let mut rooms = self.lock();
        let room = rooms.rooms.entry(room_id.to_owned()).or_default();
        let was_typing = match until_ms {
            Some(_) if room.users.len() >= USERS_PER_ROOM_MAX && !room.users.contains_key(user_id) => {
                return Noted::default();
            }
            Some(until_ms) => room.users.insert(user_id.to_owned(), until_ms).is_some(),
            None => room.users.remove(user_id).is_some(),
        };
        let needs_watch = !room.users.is_empty() && !std::mem::replace(&mut room.is_watched, true);
        let changed = (was_typing != until_ms.is_some()).then(|| rooms.touch(room_id));
        rooms.forget_if_unused(room_id);
        Noted { changed, needs_watch }
    }

    /// Drops the notices of a room that have run out. Says whose, the count of the change, and how long the next one
    /// still holds, if there is one.
    fn expire(&self, room_id: &RoomId, now_ms: u64) -> (Vec<OwnedUserId>, Option<u64>, Option<Duration>) {
        let mut rooms = self.lock();
        let Some(room) = rooms.rooms.get_mut(room_id) else { return (Vec::new(), None, None) };
        let expired: Vec<OwnedUserId> =
            room.users.iter().filter(|(_, until_ms)| **until_ms <= now_ms).map(|(user, _)| user.clone()).collect();
        room.users.retain(|_, until_ms| *until_ms > now_ms);
        let next = room.users.values().min().map(|until_ms| Duration::from_millis(until_ms - now_ms));
        room.is_watched = next.is_some();
        let changed = (!expired.is_empty()).then(|| rooms.touch(room_id));
        (expired, changed, next)
    }

    fn lock(&self) -> MutexGuard<'_, TypingRooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TypingRooms {
    fn users(&self, room_id: &RoomId, now_ms: u64) -> Vec<OwnedUserId> {
        let Some(room) = self.rooms.get(room_id) else { return Vec::new() };
        room.users.iter().filter(|(_, until_ms)| **until_ms > now_ms).map(|(user_id, _)| user_id.clone()).collect()
    }

    fn touch(&mut self, room_id: &RoomId) -> u64 {
        self.count += 1;
        let count = self.count;
        if let Some(room) = self.rooms.get_mut(room_id) {
            self.by_change.remove(&std::mem::replace(&mut room.changed, count));
            self.by_change.insert(count, room_id.to_owned());
        }
        if self.rooms.len() > ROOMS_MAX
            && let Some((_, oldest)) = self.by_change.pop_first()
        {
            self.rooms.remove(&oldest);
        }
        count
    }

    /// A room in which nobody ever typed is not kept.
    fn forget_if_unused(&mut self, room_id: &RoomId) {
        if self.rooms.get(room_id).is_some_and(|room| room.changed == 0) {
            self.rooms.remove(room_id);
        }
    }
}

#[derive(Serialize)]
struct TypingEdu<'a> {
    room_id: &'a RoomId,
    user_id: &'a UserId,
    typing: bool,
}

impl Engine {
    /// The asker is typing, for so many milliseconds from now, or no longer is.
    pub async fn typing(&self, requester: &Requester, room_id: &RoomId, timeout_ms: Option<u64>) -> Result<()> {
        let user_id = &requester.user_id;
        let room = self.known_room(room_id).await?;
        Self::require_joined(&room, user_id)?;
        self.note_typing(room_id, user_id, timeout_ms);
        self.note_activity(requester);
        let servers = room.servers().map(ToOwned::to_owned).collect();
        self.tell_servers(servers, room_id, user_id, timeout_ms.is_some())
    }

    /// Another server says that one of its users is typing, or no longer is.
    pub(crate) async fn receive_typing(&self, origin: &ServerName, room_id: &RoomId, user_id: &UserId, typing: bool) {
        if user_id.server_name() != origin {
            return;
        }
        let Ok(Some(room)) = self.resident_room(room_id).await else { return };
        if !room.may_have_joined(user_id) || !self.acl_allows(&room, origin).await.unwrap_or(false) {
            return;
        }
        self.note_typing(room_id, user_id, typing.then_some(TIMEOUT_MAX_MS));
    }

    fn note_typing(&self, room_id: &RoomId, user_id: &UserId, timeout_ms: Option<u64>) {
        let now_ms = self.world().clock.now_ms();
        let until_ms = timeout_ms.map(|timeout_ms| now_ms + timeout_ms.min(TIMEOUT_MAX_MS));
        let noted = self.inner.rooms.typing.set(room_id, user_id, until_ms);
        if let Some(count) = noted.changed {
            self.inner.sync.typing_changed(room_id, count);
            self.inner.services.ephemeral_changed();
        }
        if noted.needs_watch {
            let (tasks, engine, room_id) = (self.storage().tasks(), Arc::downgrade(&self.inner), room_id.to_owned());
            tokio::spawn(async move { tasks.supervise("typing", || watch(engine.clone(), room_id.clone())).await });
        }
    }

    /// Drops the notices of a room that have run out, and tells whoever must hear of it. Returns when to look again.
    async fn expire_typing(&self, room_id: &RoomId) -> Option<Duration> {
        let (expired, changed, next) = self.inner.rooms.typing.expire(room_id, self.world().clock.now_ms());
        if let Some(count) = changed {
            self.inner.sync.typing_changed(room_id, count);
            self.inner.services.ephemeral_changed();
        }
        if let Ok(Some(room)) = self.room(room_id).await {
            let servers: Vec<OwnedServerName> = room.servers().map(ToOwned::to_owned).collect();
            for user_id in expired.iter().filter(|user_id| self.is_local(user_id)) {
                if let Err(error) = self.tell_servers(servers.clone(), room_id, user_id, false) {
                    tracing::error!(room.id = %room_id, %error, "cannot tell other servers who stopped typing");
                }
            }
        }
        next
    }

    fn tell_servers(
        &self,
        mut servers: Vec<OwnedServerName>,
        room_id: &RoomId,
        user_id: &UserId,
        typing: bool,
    ) -> Result<()> {
        servers.retain(|server| server != self.server_name());
        if servers.is_empty() {
            return Ok(());
        }
        let content = to_raw_value(&TypingEdu { room_id, user_id, typing }).map_err(EngineError::internal)?;
        let edu = EduJson { edu_type: "m.typing".to_owned(), content };
        self.sender().queue_ephemeral(servers, format!("m.typing {room_id} {user_id}"), edu);
        Ok(())
    }
}

/// Waits for the notices of a room to run out, until there are none or the engine is gone.
async fn watch(engine: Weak<Inner>, room_id: OwnedRoomId) {
    loop {
        let Some(inner) = engine.upgrade() else { return };
        let Some(next) = (Engine { inner }).expire_typing(&room_id).await else { return };
        tokio::time::sleep(next.min(WATCH_INTERVAL_MAX)).await;
    }
}

#[cfg(test)]
mod tests {
    use ruma::{room_id, user_id};

    use super::*;

    #[test]
    fn changes_are_told_once_and_renewals_are_none() {
        let typing = Typing::new();
        let (room, alice, bob) = (room_id!("!room:test"), user_id!("@alice:test"), user_id!("@bob:test"));
        assert_eq!(typing.set(room, alice, Some(100)), Noted { changed: Some(1), needs_watch: true });
        assert_eq!(typing.set(room, alice, Some(200)), Noted { changed: None, needs_watch: false });
        assert_eq!(typing.changed_since(0, 150), [(room.to_owned(), vec![alice.to_owned()])]);
        assert_eq!(typing.changed_since(1, 150), []);
        assert_eq!(typing.set(room, bob, Some(300)), Noted { changed: Some(2), needs_watch: false });
        assert_eq!(typing.set(room, alice, None), Noted { changed: Some(3), needs_watch: false });
        assert_eq!(typing.changed_since(1, 150), [(room.to_owned(), vec![bob.to_owned()])]);
        // A count of before a restart: everything is told.
        assert_eq!(typing.changed_since(77, 150).len(), 1);
        // Lazily gone, before anybody has looked.
        assert_eq!(typing.changed_since(0, 300), [(room.to_owned(), vec![])]);
    }

    #[test]
    fn notices_run_out() {
        let typing = Typing::new();
        let (room, alice, bob) = (room_id!("!room:test"), user_id!("@alice:test"), user_id!("@bob:test"));
        typing.set(room, alice, Some(100));
        typing.set(room, bob, Some(250));
        assert_eq!(typing.expire(room, 99), (vec![], None, Some(Duration::from_millis(1))));
        assert_eq!(typing.expire(room, 100), (vec![alice.to_owned()], Some(3), Some(Duration::from_millis(150))));
        assert_eq!(typing.expire(room, 250), (vec![bob.to_owned()], Some(4), None));
        assert!(typing.set(room, alice, Some(300)).needs_watch);
    }

    #[test]
    fn memory_is_bounded() {
        let typing = Typing::new();
        let alice = user_id!("@alice:test");
        for number in 0..=ROOMS_MAX {
            let room_id = OwnedRoomId::try_from(format!("!{number}:test")).unwrap();
            typing.set(&room_id, alice, Some(100));
            typing.set(&room_id, user_id!("@nobody:test"), None);
        }
        let room = room_id!("!full:test");
        for number in 0..USERS_PER_ROOM_MAX + 7 {
            let user_id = OwnedUserId::try_from(format!("@{number}:test")).unwrap();
            typing.set(room, &user_id, Some(100));
        }
        typing.set(room_id!("!quiet:test"), alice, None);
        let rooms = typing.lock();
        assert_eq!(rooms.rooms[room].users.len(), USERS_PER_ROOM_MAX);
        assert!(rooms.rooms.len() <= ROOMS_MAX);
        assert_eq!(rooms.rooms.len(), rooms.by_change.len());
    }
}
