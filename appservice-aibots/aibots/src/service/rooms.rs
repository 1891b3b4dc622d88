//! Rooms as their state says, read when it is needed and forgotten when it changes.

use std::sync::Arc;

use super::Service;
use crate::conversation::room::{Room, RoomSettings};
use crate::matrix::CallError;
use crate::work::WorkError;

impl Service {
    /// A room, as one of our bots in it sees it. Where none is, nothing is known of it.
    pub(crate) async fn room(&self, room_id: &str) -> Result<Arc<Room>, CallError> {
        if let Some(room) = self.rooms.get(room_id).await {
            return Ok(room);
        }
        for bot in self.bots() {
            match self.homeserver.state(&bot.user_id, room_id).await {
                Ok(state) => {
                    let room = Arc::new(Room::from_state(&state));
                    // Who has left is shown the room as it was.
                    if room.is_joined(&bot.user_id) {
                        self.rooms.insert(room_id.to_owned(), room.clone()).await;
                        return Ok(room);
                    }
                }
                Err(error) if error.is_refusal() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Arc::default())
    }

    /// The state of a room has changed.
    pub(crate) async fn forget_room(&self, room_id: &str) {
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
