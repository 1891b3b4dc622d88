//! Which rooms are encrypted, and how their keys are to be changed.
//! <https://spec.matrix.org/v1.19/client-server-api/#mroomencryption>

use std::collections::BTreeMap;

use ruma::{OwnedRoomId, RoomId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::account::MEGOLM;
use crate::machine::Machine;
use crate::signed_json::{self, Object};
use crate::store::{Held, Table};

/// After how many messages a session is changed, when the room says nothing.
const ROTATION_MESSAGES: u64 = 100;

/// After what time a session is changed, when the room says nothing: a week.
const ROTATION_PERIOD_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// The shortest time that a room may ask for: a room that asks for less would make every message cost a key for everybody.
const ROTATION_PERIOD_MIN_MS: u64 = 60 * 60 * 1000;

/// How a room is encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomSettings {
    /// The algorithm. One that we have not makes it impossible to send, which is better than to send in the clear.
    pub algorithm: String,
    /// After what time the session is changed.
    pub rotation_period_ms: u64,
    /// After how many messages the session is changed.
    pub rotation_messages: u64,
}

impl RoomSettings {
    /// The settings in the content of an `m.room.encryption` event.
    fn from_content(content: &Object) -> Option<Self> {
        let number = |field: &str| content.get(field).and_then(Value::as_u64);
        Some(Self {
            algorithm: signed_json::text(content, "algorithm")?.to_owned(),
            rotation_period_ms: number("rotation_period_ms").unwrap_or(ROTATION_PERIOD_MS).max(ROTATION_PERIOD_MIN_MS),
            rotation_messages: number("rotation_period_msgs").unwrap_or(ROTATION_MESSAGES).clamp(1, 10_000),
        })
    }
}

/// The encrypted rooms.
#[derive(Default)]
pub(crate) struct Rooms {
    rooms: BTreeMap<OwnedRoomId, RoomSettings>,
}

impl Rooms {
    pub(crate) fn record(&self, key: &str) -> Option<&RoomSettings> {
        self.rooms.get(<&RoomId>::try_from(key).ok()?)
    }

    pub(crate) fn load(&mut self, key: &str, settings: RoomSettings) {
        if let Ok(room_id) = OwnedRoomId::try_from(key) {
            self.rooms.insert(room_id, settings);
        }
    }
}

impl Machine {
    /// How a room is encrypted; `None` when it is not.
    pub fn room_settings(&self, room_id: &RoomId) -> Option<&RoomSettings> {
        self.rooms.rooms.get(room_id)
    }

    /// Takes in the content of a room's `m.room.encryption` event. Encryption cannot be turned off, nor changed to
    /// another algorithm, by whatever comes later. Returns whether the content was taken.
    pub fn set_room_encryption(&mut self, room_id: &RoomId, content: &Object) -> Held<bool> {
        let known = self.rooms.rooms.get(room_id);
        let settings = RoomSettings::from_content(content).filter(|settings| {
            known.is_none_or(|known| known.algorithm == settings.algorithm || known.algorithm != MEGOLM)
        });
        let is_taken = settings.is_some();
        if let Some(settings) = settings.filter(|settings| known != Some(settings)) {
            self.rooms.rooms.insert(room_id.to_owned(), settings);
            self.touch(Table::Rooms, room_id.as_str());
        }
        self.hold(is_taken)
    }
}
