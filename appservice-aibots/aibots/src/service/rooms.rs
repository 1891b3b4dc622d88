//! Rooms as their state says, read when it is needed and forgotten when it changes.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Service;
use crate::conversation::room::{Room, RoomSettings};
use crate::matrix::CallError;
use crate::work::WorkError;

/// How often a room is loaded anew that changes while it is loaded. The last is taken, and not kept.
const LOADS_MAX: usize = 3;

/// So many counts of changes. Rooms that share one load a bit too often.
const COUNTS: usize = 256;

/// How often rooms have changed, so that what was loaded before a change is not kept after it.
pub(super) struct RoomChanges([AtomicU64; COUNTS]);

impl Default for RoomChanges {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl RoomChanges {
    fn of(&self, room_id: &str) -> &AtomicU64 {
        let mut hasher = DefaultHasher::new();
        room_id.hash(&mut hasher);
        let index = hasher.finish() % COUNTS as u64;
        &self.0[usize::try_from(index).expect("it is less than the number of counts")]
    }
}

impl Service {
    /// A room, as one of our bots in it sees it. Where none is, nothing is known of it.
    pub(crate) async fn room(&self, room_id: &str) -> Result<Arc<Room>, CallError> {
        if let Some(room) = self.rooms.get(room_id).await {
            return Ok(room);
        }
        let changes = self.room_changes.of(room_id);
        let mut room = Arc::default();
        for _ in 0..LOADS_MAX {
            let before = changes.load(Ordering::SeqCst);
            let Some(loaded) = self.load_room(room_id).await? else { return Ok(Arc::default()) };
            room = loaded;
            if changes.load(Ordering::SeqCst) != before {
                continue;
            }
            self.rooms.insert(room_id.to_owned(), room.clone()).await;
            // It may have changed just now, and been forgotten before it was there to be forgotten.
            if changes.load(Ordering::SeqCst) == before {
                break;
            }
            self.rooms.invalidate(room_id).await;
        }
        Ok(room)
    }

    async fn load_room(&self, room_id: &str) -> Result<Option<Arc<Room>>, CallError> {
        for bot in self.bots() {
            match self.homeserver.state(&bot.user_id, room_id).await {
                Ok(state) => {
                    let room = Room::from_state(&state);
                    // Who has left is shown the room as it was.
                    if room.is_joined(&bot.user_id) {
                        return Ok(Some(Arc::new(room)));
                    }
                }
                Err(error) if error.is_exclusion() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The state of a room has changed: what is being loaded of it at the same time is not kept either.
    pub(crate) async fn forget_room(&self, room_id: &str) {
        self.room_changes.of(room_id).fetch_add(1, Ordering::SeqCst);
        self.rooms.invalidate(room_id).await;
    }

    /// How bots are to behave in a room.
    pub(crate) async fn settings_of(&self, room_id: &str, room: &Room) -> Result<RoomSettings, WorkError> {
        let stored = self.store.settings(room_id).await?;
        let mut settings: RoomSettings = stored.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        if settings.take_state(room.config_event.as_deref(), &room.config) {
            self.set_room(room_id, &settings).await?;
        }
        Ok(settings)
    }

    pub(crate) async fn set_room(&self, room_id: &str, settings: &RoomSettings) -> Result<(), WorkError> {
        let text = serde_json::to_string(settings).expect("settings can be written");
        Ok(self.store.set(room_id, &text).await?)
    }
}
