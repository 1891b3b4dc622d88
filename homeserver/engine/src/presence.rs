//! Presence: who is there, who is away, and what they say about it. In memory only, but for what our users say.
//! That is stored when it changes, and outlives a restart.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#presence>, with the state `busy` of MSC3026. A user is what
//! the user's devices say together; who does nothing for five minutes is unavailable, and who was not heard of for half
//! a minute is offline. Only those hear of it who share a room that is not too large.

mod announce;
mod inbound;
mod known;

use std::{sync::Weak, time::Duration};

use ruma::{OwnedRoomId, UserId, events::room::member::MembershipState, presence::PresenceState};

pub use self::known::Presence;
use self::known::{Noted, Shown};
pub(crate) use self::{announce::Outbox, known::Known};
use crate::{Engine, EngineError, Inner, Requester, Result};

/// The longest text about a presence, in bytes.
const STATUS_BYTES_MAX: usize = 1_024;
/// Members of rooms that are larger do not hear of each other for that alone: everybody's coming and going would be
/// told to everybody.
const ROOM_MEMBERS_MAX: u64 = 1_000;
/// How many rooms of one user are looked at, to find who is to hear.
const ROOMS_PER_USER_MAX: usize = 5_000;
/// How often it is looked who is gone.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// What is kept about presence.
#[derive(Default)]
pub(crate) struct PresenceKeeper {
    pub(crate) known: Known,
    pub(crate) outbox: Outbox,
}

/// A device that is there for as long as this lives.
pub(crate) struct Attendance {
    engine: Engine,
    requester: Requester,
}

impl Drop for Attendance {
    fn drop(&mut self) {
        let Requester { user_id, device_id } = &self.requester;
        let now_ms = self.engine.world().clock.now_ms();
        self.engine.inner.presence.known.end_sync(user_id, device_id, now_ms);
    }
}

impl Engine {
    /// How a user is shown to the asker, who must share a room with them. Somebody of whom nothing is known is offline.
    pub async fn presence(&self, requester: &Requester, user_id: &UserId) -> Result<Presence> {
        if *user_id != requester.user_id && !self.shares_room(&requester.user_id, user_id).await? {
            return Err(EngineError::forbidden("You do not share a room with that user"));
        }
        let known = self.inner.presence.known.get(user_id, self.world().clock.now_ms());
        Ok(known.unwrap_or(Presence {
            state: PresenceState::Offline,
            status_msg: None,
            last_active_ms: 0,
            currently_active: false,
        }))
    }

    /// The asker wants to be shown like that.
    pub async fn set_presence(
        &self,
        requester: &Requester,
        state: &PresenceState,
        status_msg: Option<String>,
    ) -> Result<()> {
        let state = read(state)?;
        if status_msg.as_ref().is_some_and(|text| text.len() > STATUS_BYTES_MAX) {
            let text = format!("`status_msg` must not be longer than {STATUS_BYTES_MAX} bytes");
            return Err(EngineError::TooLarge(text));
        }
        if self.settings().presence {
            let Requester { user_id, device_id } = requester;
            let status_msg = status_msg.filter(|text| !text.is_empty());
            let now_ms = self.world().clock.now_ms();
            let before = self.inner.presence.known.get(user_id, now_ms).and_then(|known| known.status_msg);
            if before != status_msg {
                self.storage().set_status_message(user_id, status_msg.as_deref()).await?;
            }
            let noted = self.inner.presence.known.set(user_id, device_id, state, status_msg, now_ms);
            self.heed(user_id, noted);
        }
        Ok(())
    }

    /// Takes up what our users said about their presence before the server stopped. For the start, before anybody asks.
    pub async fn restore_statuses(&self) -> Result<()> {
        if self.settings().presence {
            let statuses = self.storage().status_messages(known::USERS_MAX).await?;
            self.inner.presence.known.restore(statuses);
        }
        Ok(())
    }

    /// The asker's device is there, for as long as the answer is kept. One that says that it is offline leaves no trace.
    pub(crate) fn attend(&self, requester: &Requester, state: Option<&PresenceState>) -> Result<Option<Attendance>> {
        let state = state.map(read).transpose()?;
        let Some(state) = state.filter(|_| self.settings().presence) else { return Ok(None) };
        let Requester { user_id, device_id } = requester;
        let noted = self.inner.presence.known.begin_sync(user_id, device_id, state, self.world().clock.now_ms());
        self.heed(user_id, noted);
        Ok(Some(Attendance { engine: self.clone(), requester: requester.clone() }))
    }

    /// The asker did something.
    pub(crate) fn note_activity(&self, requester: &Requester) {
        let Requester { user_id, device_id } = requester;
        let noted = self.inner.presence.known.act(user_id, device_id, self.world().clock.now_ms());
        self.heed(user_id, noted);
    }

    /// How a user is shown, if anything is known.
    pub(crate) fn known_presence(&self, user_id: &UserId) -> Option<Presence> {
        self.inner.presence.known.get(user_id, self.world().clock.now_ms())
    }

    fn heed(&self, user_id: &UserId, noted: Noted) {
        if noted.changed {
            // At once, for the user's own answer to be the last to tell of what led to it.
            self.announce_to_self(user_id);
            let (engine, user_id) = (self.clone(), user_id.to_owned());
            tokio::spawn(async move { engine.announce_to_others(&user_id).await });
        }
        if noted.needs_watch {
            let (tasks, engine) = (self.storage().tasks(), std::sync::Arc::downgrade(&self.inner));
            tokio::spawn(async move { tasks.supervise("presence", || watch(engine.clone())).await });
        }
    }

    /// Looks who is gone, and tells whoever must hear of it. Says whether anybody is left to look after.
    async fn expire_presence(&self) -> bool {
        let expired = self.inner.presence.known.expire(self.world().clock.now_ms());
        for user_id in expired.changed {
            self.announce_to_self(&user_id);
            self.announce_to_others(&user_id).await;
        }
        for user_id in expired.to_repeat {
            self.repeat_to_servers(&user_id).await;
        }
        expired.is_anybody_left
    }

    /// The rooms by which others hear of a user.
    async fn presence_rooms(&self, user_id: &UserId) -> Result<Vec<std::sync::Arc<rules::RoomSnapshot>>> {
        let mut rooms = Vec::new();
        for room_id in self.storage().joined_rooms(user_id).await?.into_iter().take(ROOMS_PER_USER_MAX) {
            rooms.extend(self.room(&room_id).await?.filter(|room| room.joined_count() <= ROOM_MEMBERS_MAX));
        }
        Ok(rooms)
    }

    async fn shares_room(&self, one: &UserId, other: &UserId) -> Result<bool> {
        let of_one: std::collections::HashSet<OwnedRoomId> =
            self.storage().joined_rooms(one).await?.into_iter().collect();
        let of_other = self.storage().joined_rooms(other).await?;
        Ok(of_other.iter().any(|room_id| of_one.contains(room_id)))
    }

    /// Everybody present with whom a user shares one of those rooms, as far as memory holds the rooms.
    pub(crate) fn present_among(&self, user_id: &UserId, rooms: &[OwnedRoomId]) -> Vec<ruma::OwnedUserId> {
        let mut present = self.inner.presence.known.present();
        let mut found = Vec::new();
        for room_id in rooms {
            let Some(room) = self.room_in_memory(room_id) else { continue };
            if room.joined_count() > ROOM_MEMBERS_MAX {
                continue;
            }
            let is_there =
                |other: &mut ruma::OwnedUserId| other == user_id || room.membership(other) == MembershipState::Join;
            found.extend(present.extract_if(.., is_there));
        }
        found
    }
}

/// A state that we know.
fn read(state: &PresenceState) -> Result<Shown> {
    Shown::read(state).ok_or_else(|| EngineError::invalid_param("Unknown presence state"))
}

/// Looks regularly who is gone, until there is nobody left or the engine is gone.
async fn watch(engine: Weak<Inner>) {
    loop {
        tokio::time::sleep(WATCH_INTERVAL).await;
        let Some(inner) = engine.upgrade() else { return };
        if !(Engine { inner }).expire_presence().await {
            return;
        }
    }
}
