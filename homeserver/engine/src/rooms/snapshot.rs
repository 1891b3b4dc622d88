//! The current state of a room, from memory or from storage.

use std::sync::Arc;

use moka::{Entry, ops::compute::Op};
use rules::{RoomSnapshot, room::EventsById};
use ruma::{OwnedEventId, RoomId, events::room::member::MembershipState};
use storage::StoredEvent;

use crate::{Engine, EngineError, Result};

impl Engine {
    /// The room as it is now, if this server knows it. Not the same as being in it: see [`Engine::resident_room`].
    pub(crate) async fn room(&self, room_id: &RoomId) -> Result<Option<Arc<RoomSnapshot>>> {
        if let Some(room) = self.inner.rooms.snapshots.get(room_id) {
            return Ok(Some(room));
        }
        let Some(room) = self.load_room(room_id).await? else { return Ok(None) };
        Ok(Some(self.remember_room(room)))
    }

    /// The room as it is now, if memory holds it.
    pub(crate) fn room_in_memory(&self, room_id: &RoomId) -> Option<Arc<RoomSnapshot>> {
        self.inner.rooms.snapshots.get(room_id)
    }

    /// The room as it is now, if a user of this server is joined to it.
    pub(crate) async fn resident_room(&self, room_id: &RoomId) -> Result<Option<Arc<RoomSnapshot>>> {
        Ok(self.room(room_id).await?.filter(|room| room.has_server(self.server_name())))
    }

    /// Whether new events of a room can be made here: our users are in it, or nobody is any more, and who left last was
    /// ours. A room that goes on elsewhere has members of other servers, as far as we know.
    pub(crate) fn is_ours_to_change(&self, room: &RoomSnapshot) -> bool {
        room.has_server(self.server_name()) || room.servers().next().is_none()
    }

    /// The room as it is now, or the error for a room that the asker cannot know.
    pub(crate) async fn known_room(&self, room_id: &RoomId) -> Result<Arc<RoomSnapshot>> {
        self.room(room_id).await?.ok_or_else(|| EngineError::forbidden("You are not in this room"))
    }

    async fn load_room(&self, room_id: &RoomId) -> Result<Option<RoomSnapshot>> {
        let Some(record) = self.storage().room(room_id).await? else { return Ok(None) };
        let rules =
            record.version.rules().ok_or_else(|| EngineError::UnsupportedRoomVersion(record.version.clone()))?;
        let mut room =
            RoomSnapshot::empty(record.room_id, record.version, rules).at_home_on(self.server_name().to_owned());
        let state = self.storage().current_state(room_id).await?;
        let applying = self.apart(state.len(), move || {
            room.apply(&state);
            room
        });
        let mut room = applying.await;
        room.revision = record.revision;
        room.position = record.position;
        room.forward_extremities = record.forward_extremities;
        room.complete_since = record.complete_since;
        room.states_since = record.states_since;
        let partial = self.storage().partial_state(room_id).await?;
        room.partial = partial.map(|partial| Arc::new(partial.servers.into_iter().collect()));
        Ok(Some(room))
    }

    /// Puts a room into memory, unless what memory holds is newer: who loaded a room may have been overtaken.
    pub(crate) fn remember_room(&self, room: RoomSnapshot) -> Arc<RoomSnapshot> {
        let room = Arc::new(room);
        let entry = self.inner.rooms.snapshots.entry_by_ref(&*room.room_id).and_upsert_with(|known| {
            let known = known.map(Entry::into_value).filter(|known| known.revision > room.revision);
            known.unwrap_or_else(|| room.clone())
        });
        entry.into_value()
    }

    /// Forgets what memory holds of a room, because another process changed it or a commit went wrong.
    pub(crate) fn forget_snapshot(&self, room_id: &RoomId) {
        self.inner.rooms.snapshots.invalidate(room_id);
    }

    /// Drops the room from memory unless memory is as new as `position`.
    pub(crate) fn refresh_snapshot(&self, room_id: &RoomId, position: rules::change::Position) {
        let stale = |room: &Arc<RoomSnapshot>| room.position < position;
        if !self.inner.rooms.snapshots.get(room_id).as_ref().is_some_and(stale) {
            return;
        }
        // It may have been renewed in between.
        self.inner.rooms.snapshots.entry_by_ref(room_id).and_compute_with(|known| match known {
            Some(known) if stale(known.value()) => Op::Remove,
            _ => Op::Nop,
        });
    }

    /// Stored events by id, those known only.
    pub(crate) async fn events_by_id(&self, event_ids: &[OwnedEventId]) -> Result<EventsById> {
        let events = self.storage().events(event_ids).await?;
        Ok(events.into_iter().map(|event| (event.pdu.event_id.clone(), event.pdu.clone())).collect())
    }

    /// One stored event.
    pub(crate) async fn stored_event(&self, event_id: &ruma::EventId) -> Result<Option<Arc<StoredEvent>>> {
        Ok(self.storage().event(event_id).await?)
    }

    /// One event out of the current state of a room.
    pub(crate) async fn state_pdu(
        &self,
        room: &RoomSnapshot,
        event_type: &ruma::events::StateEventType,
        state_key: &str,
    ) -> Result<Option<Arc<rules::Pdu>>> {
        let Some(event_id) = room.state_event_id(event_type, state_key) else { return Ok(None) };
        Ok(self.storage().event(event_id).await?.map(|event| event.pdu.clone()))
    }

    /// Fails unless the user is joined.
    pub(crate) fn require_joined(room: &RoomSnapshot, user_id: &ruma::UserId) -> Result<()> {
        if room.membership(user_id) == MembershipState::Join {
            return Ok(());
        }
        Err(EngineError::forbidden("You are not in this room"))
    }
}
