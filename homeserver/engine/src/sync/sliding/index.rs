//! The rooms of a user as far as lists need them: kept with the connection, so that what happens in one room does not
//! make all of them be looked up.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rules::change::Position;
use ruma::{
    OwnedRoomId, UserId,
    events::{StateEventType, room::member::MembershipState},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use storage::MembershipRecord;

use super::request::bumps;
use crate::{Engine, Result};

/// The account data that says which rooms are direct chats.
const DIRECT: &str = "m.direct";

/// The rooms of a user.
#[derive(Clone, Default)]
pub(crate) struct RoomIndex {
    pub(super) rooms: HashMap<OwnedRoomId, Entry>,
    pub(super) direct: Arc<HashSet<OwnedRoomId>>,
}

/// One of them.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) record: Arc<MembershipRecord>,
    /// When somebody said something last, or else when the user came in.
    pub(super) bump: Position,
    pub(super) traits: Arc<Traits>,
}

/// What lists select by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Traits {
    pub(super) room_type: Option<String>,
    pub(super) is_encrypted: bool,
    pub(super) name: Option<String>,
}

/// A stripped state event, as far as it matters here; whatever does not fit is as good as absent.
#[derive(Deserialize)]
struct Stripped {
    #[serde(rename = "type")]
    event_type: String,
    #[serde(default)]
    state_key: String,
    content: serde_json::Map<String, serde_json::Value>,
}

impl Entry {
    pub(super) fn is_joined(&self) -> bool {
        self.record.membership == MembershipState::Join
    }
}

impl Engine {
    /// Looks up all rooms of a user.
    pub(super) async fn room_index(&self, user_id: &UserId) -> Result<RoomIndex> {
        let records = self.storage().memberships(user_id).await?;
        let mut index = RoomIndex { rooms: HashMap::new(), direct: self.direct_rooms(user_id).await? };
        self.index_rooms(&mut index, records).await?;
        Ok(index)
    }

    /// Looks up some of the rooms again.
    pub(super) async fn refresh_index(&self, index: &mut RoomIndex, records: Vec<MembershipRecord>) -> Result<()> {
        for record in &records {
            index.rooms.remove(&record.room_id);
        }
        self.index_rooms(index, records).await
    }

    /// Which rooms are direct chats.
    pub(super) async fn direct_rooms(&self, user_id: &UserId) -> Result<Arc<HashSet<OwnedRoomId>>> {
        let record = self.storage().account_data(user_id, None, DIRECT).await?;
        let by_user: HashMap<String, serde_json::Value> =
            record.and_then(|record| serde_json::from_str(record.content.get()).ok()).unwrap_or_default();
        let rooms = by_user.values().filter_map(serde_json::Value::as_array).flatten();
        let rooms = rooms.filter_map(|room_id| OwnedRoomId::try_from(room_id.as_str()?).ok());
        Ok(Arc::new(rooms.collect()))
    }

    async fn index_rooms(&self, index: &mut RoomIndex, records: Vec<MembershipRecord>) -> Result<()> {
        let is_listed = |record: &MembershipRecord| {
            matches!(record.membership, MembershipState::Join | MembershipState::Invite | MembershipState::Knock)
        };
        let (joined, others): (Vec<_>, Vec<_>) =
            records.into_iter().filter(is_listed).partition(|record| record.membership == MembershipState::Join);
        for record in others {
            if record.membership == MembershipState::Invite && self.hides_invitation(&record).await? {
                continue;
            }
            let traits = record.stripped_state.as_deref().map(traits_of_stripped).unwrap_or_default();
            let entry = Entry { bump: record.position, traits: Arc::new(traits), record: Arc::new(record) };
            index.rooms.insert(entry.record.room_id.clone(), entry);
        }
        let room_ids: Vec<OwnedRoomId> = joined.iter().map(|record| record.room_id.clone()).collect();
        let bumps = self.storage().last_of_types(&room_ids, &bumps()).await?;
        let mut traits = self.traits_of(&room_ids).await?;
        for record in joined {
            let bump = bumps.get(&record.room_id).copied().filter(|order| *order > 0).unwrap_or(record.position);
            let traits = Arc::new(traits.remove(&record.room_id).unwrap_or_default());
            index.rooms.insert(record.room_id.clone(), Entry { record: Arc::new(record), bump, traits });
        }
        Ok(())
    }

    async fn traits_of(&self, room_ids: &[OwnedRoomId]) -> Result<HashMap<OwnedRoomId, Traits>> {
        let mut found: HashMap<OwnedRoomId, Traits> = HashMap::new();
        for event_type in [StateEventType::RoomCreate, StateEventType::RoomEncryption, StateEventType::RoomName] {
            let values = self.storage().current_state_of(room_ids, &event_type).await?;
            let event_ids: Vec<_> = values.into_iter().map(|(_, event_id)| event_id).collect();
            for event in self.storage().events(&event_ids).await? {
                let traits = found.entry(event.pdu.room_id.clone()).or_default();
                let text = |field| event.pdu.content_str(field);
                match event_type {
                    StateEventType::RoomCreate => traits.room_type = text("type"),
                    StateEventType::RoomEncryption => traits.is_encrypted = true,
                    _ => traits.name = text("name").filter(|name| !name.is_empty()),
                }
            }
        }
        Ok(found)
    }
}

fn traits_of_stripped(json: &RawValue) -> Traits {
    let events: Vec<Box<RawValue>> = serde_json::from_str(json.get()).unwrap_or_default();
    let mut traits = Traits::default();
    for event in events.iter().filter_map(|event| serde_json::from_str::<Stripped>(event.get()).ok()) {
        let text = |field: &str| event.content.get(field).and_then(|value| value.as_str()).map(ToOwned::to_owned);
        match (event.event_type.as_str(), event.state_key.as_str()) {
            ("m.room.create", "") => traits.room_type = text("type"),
            ("m.room.encryption", "") => traits.is_encrypted = true,
            ("m.room.name", "") => traits.name = text("name").filter(|name| !name.is_empty()),
            _ => {}
        }
    }
    traits
}

#[cfg(test)]
mod tests {
    use serde_json::{json, value::to_raw_value};

    use super::*;

    #[test]
    fn s_130_stripped_state_may_be_junk() {
        let events = json!([
            1, null, {"type": "m.room.name"}, {"type": "m.room.name", "state_key": "", "content": {"name": {}}},
            {"type": "m.room.create", "state_key": "", "content": {"type": "m.space"}},
            {"type": "m.room.encryption", "state_key": "", "content": {}},
        ]);
        let traits = traits_of_stripped(&to_raw_value(&events).unwrap());
        let expected = Traits { room_type: Some("m.space".to_owned()), is_encrypted: true, name: None };
        assert_eq!(traits, expected);
        assert_eq!(traits_of_stripped(&to_raw_value(&json!({})).unwrap()), Traits::default());
    }
}
