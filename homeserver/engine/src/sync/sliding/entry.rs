//! What lists need to know of one room.

use std::collections::{HashMap, HashSet};

use rules::change::Position;
use ruma::{
    OwnedRoomId, OwnedUserId, UserId,
    events::{StateEventType, room::member::MembershipState},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use storage::MembershipRecord;

use super::request::bumps;
use crate::{Engine, Result, sync::stays::Stays};

/// The account data of a room that says which tags it has.
pub(super) const TAG: &str = "m.tag";
/// Up to how many rooms are looked up one by one, mostly in memory, rather than all at once.
const FEW_ROOMS: usize = 8;

/// One of the rooms of a user.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) room_id: OwnedRoomId,
    pub(super) membership: MembershipState,
    /// When it became so.
    pub(super) position: Position,
    /// When somebody said something last, or else when the membership became as it is.
    pub(super) bump: Position,
    pub(super) is_dm: bool,
    pub(super) tags: Vec<String>,
    pub(super) traits: Traits,
}

/// What lists select by, of what the room itself says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Traits {
    pub(super) room_type: Option<String>,
    pub(super) is_encrypted: bool,
    pub(super) name: Option<String>,
}

#[derive(Deserialize)]
struct Tags {
    tags: HashMap<String, serde_json::Value>,
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
        self.membership == MembershipState::Join
    }

    /// Whether the user was removed from the room.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.membership, MembershipState::Leave | MembershipState::Ban)
    }
}

impl Engine {
    /// Those of the rooms that are in lists, looked up.
    pub(super) async fn entries(
        &self,
        user_id: &UserId,
        records: Vec<MembershipRecord>,
        direct: &HashSet<OwnedRoomId>,
        ignored: &HashSet<OwnedUserId>,
    ) -> Result<HashMap<OwnedRoomId, Entry>> {
        let (joined, others): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| record.membership == MembershipState::Join);
        let room_ids: Vec<OwnedRoomId> = joined.iter().map(|record| record.room_id.clone()).collect();
        let bumps = if room_ids.is_empty() {
            HashMap::new()
        } else {
            self.storage().last_of_types(&room_ids, &bumps()).await?
        };
        let mut tags = self.tags_of(user_id, &room_ids).await?;
        let mut traits = self.traits_of(&room_ids).await?;
        let mut entries = HashMap::new();
        let mut add = |record: MembershipRecord, bump, traits, tags| {
            let MembershipRecord { room_id, membership, position, .. } = record;
            let is_dm = direct.contains(&room_id);
            let entry = Entry { room_id: room_id.clone(), membership, position, bump, is_dm, tags, traits };
            entries.insert(room_id, entry);
        };
        for record in joined {
            let bump = bumps.get(&record.room_id).copied().filter(|order| *order > 0).unwrap_or(record.position);
            let (traits, tags) = (traits.remove(&record.room_id), tags.remove(&record.room_id));
            add(record, bump, traits.unwrap_or_default(), tags.unwrap_or_default());
        }
        for record in others {
            if self.is_listed(&record, ignored).await? {
                let traits = match record.stripped_state.as_deref() {
                    Some(stripped) => traits_of_stripped(stripped),
                    None => self.lasting_traits(&record.room_id).await?,
                };
                let bump = record.position;
                add(record, bump, traits, Vec::new());
            }
        }
        Ok(entries)
    }

    /// Whether a room that the user is not joined to is in lists: after an invitation that the user wants to see, a
    /// knock, or when somebody else removed the user from it.
    async fn is_listed(&self, record: &MembershipRecord, ignored: &HashSet<OwnedUserId>) -> Result<bool> {
        match record.membership {
            MembershipState::Invite => Ok(!ignored.contains(&record.sender) && !self.hides_invitation(record).await?),
            MembershipState::Knock => Ok(true),
            MembershipState::Leave | MembershipState::Ban => {
                if record.forgotten || record.sender == record.user_id {
                    return Ok(false);
                }
                let member = StateEventType::RoomMember;
                let history = self.storage().state_history(&record.room_id, &member, record.user_id.as_str()).await?;
                Ok(Stays::new(&history, None, Position::MAX).left_since.is_some())
            }
            _ => Ok(false),
        }
    }

    async fn tags_of(&self, user_id: &UserId, room_ids: &[OwnedRoomId]) -> Result<HashMap<OwnedRoomId, Vec<String>>> {
        let mut records = Vec::new();
        if room_ids.len() <= FEW_ROOMS {
            for room_id in room_ids {
                records.extend(self.storage().account_data(user_id, Some(room_id), TAG).await?);
            }
        } else {
            records = self.storage().account_data_since(user_id, 0, Position::MAX).await?;
            records.retain(|record| record.event_type == TAG);
        }
        let tags = records.into_iter().filter_map(|record| {
            let tags: Tags = serde_json::from_str(record.content.get()).ok()?;
            Some((record.room_id?, tags.tags.into_keys().collect()))
        });
        Ok(tags.collect())
    }

    /// What stays as it is, of a room that the user was removed from.
    async fn lasting_traits(&self, room_id: &OwnedRoomId) -> Result<Traits> {
        let traits = self.traits_of(std::slice::from_ref(room_id)).await?.remove(room_id).unwrap_or_default();
        Ok(Traits { name: None, ..traits })
    }

    async fn traits_of(&self, room_ids: &[OwnedRoomId]) -> Result<HashMap<OwnedRoomId, Traits>> {
        let mut found: HashMap<OwnedRoomId, Traits> = HashMap::new();
        for event_type in [StateEventType::RoomCreate, StateEventType::RoomEncryption, StateEventType::RoomName] {
            let mut event_ids = Vec::new();
            if room_ids.len() <= FEW_ROOMS {
                for room_id in room_ids {
                    let room = self.room(room_id).await?;
                    event_ids.extend(room.and_then(|room| room.state_event_id(&event_type, "").map(ToOwned::to_owned)));
                }
            } else {
                let values = self.storage().current_state_of(room_ids, &event_type).await?;
                event_ids.extend(values.into_iter().map(|(_, event_id)| event_id));
            }
            for event in self.storage().readable_events(&event_ids).await? {
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
