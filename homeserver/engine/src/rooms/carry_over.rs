//! What a user has set for a room goes over to the room that replaces it, when the user joins that.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#room-upgrades>

use rules::Change;
use ruma::{
    OwnedRoomId, RoomId, UserId,
    events::{StateEventType, room::member::MembershipState},
};
use serde::Deserialize;
use serde_json::{Value, value::to_raw_value};
use storage::Submission;

use super::remote::commit_error;
use crate::{Engine, EngineError, Result};

#[derive(Deserialize)]
struct Predecessor {
    room_id: OwnedRoomId,
}

impl Engine {
    /// Takes over tags, overriding push rules and the mark as a direct chat, if both rooms say that the one replaces the
    /// other and the user was in the old one. Push rules of the kind for rooms go over with all who move: see
    /// [`Engine::carry_rules_over`].
    pub(crate) async fn carry_over(&self, user_id: &UserId, new: &RoomId) -> Result<()> {
        let Some(old) = self.replaced_by(new).await? else { return Ok(()) };
        let record = self.storage().membership(user_id, &old).await?;
        let was_there = record.is_some_and(|record| {
            matches!(record.membership, MembershipState::Join | MembershipState::Leave) && !record.forgotten
        });
        if !was_there {
            return Ok(());
        }
        self.move_directory_entry(&old, new).await?;
        self.carry_override_over(user_id, &old, new).await?;
        let mut changes = Vec::new();
        if self.storage().account_data(user_id, Some(new), "m.tag").await?.is_none()
            && let Some(tags) = self.storage().account_data(user_id, Some(&old), "m.tag").await?
        {
            changes.push(account_data(user_id, Some(new), "m.tag", tags.content));
        }
        if let Some(record) = self.storage().account_data(user_id, None, "m.direct").await?
            && let Ok(mut content) = serde_json::from_str::<Value>(record.content.get())
            && with_direct(&mut content, old.as_str(), new.as_str())
        {
            let content = to_raw_value(&content).map_err(EngineError::internal)?;
            changes.push(account_data(user_id, None, "m.direct", content));
        }
        if changes.is_empty() {
            return Ok(());
        }
        self.storage().commit(Submission { room: None, changes }).await.map(drop).map_err(commit_error)
    }

    /// The room that a room of ours replaces, if that one says so, too: else any room could claim to be the heir of any.
    async fn replaced_by(&self, new: &RoomId) -> Result<Option<OwnedRoomId>> {
        let Some(room) = self.resident_room(new).await? else { return Ok(None) };
        let Some(create) = self.state_pdu(&room, &StateEventType::RoomCreate, "").await? else { return Ok(None) };
        let content: serde_json::Map<String, Value> = create.content_as().unwrap_or_default();
        let predecessor = content.get("predecessor").and_then(|value| Predecessor::deserialize(value).ok());
        let Some(Predecessor { room_id: old }) = predecessor else { return Ok(None) };
        let Some(old_room) = self.room(&old).await? else { return Ok(None) };
        let heir = self.state_text(&old_room, StateEventType::RoomTombstone, "replacement_room").await?;
        Ok((heir.as_deref() == Some(new.as_str())).then_some(old))
    }
}

/// Adds the new room beside the old one; says whether anything changed.
fn with_direct(content: &mut Value, old: &str, new: &str) -> bool {
    let mut changed = false;
    for rooms in content.as_object_mut().into_iter().flat_map(serde_json::Map::values_mut) {
        let Some(rooms) = rooms.as_array_mut() else { continue };
        let has = |room_id: &str| rooms.iter().any(|room| room.as_str() == Some(room_id));
        if has(old) && !has(new) {
            rooms.push(new.into());
            changed = true;
        }
    }
    changed
}

fn account_data(
    user_id: &UserId,
    room_id: Option<&RoomId>,
    event_type: &str,
    content: Box<serde_json::value::RawValue>,
) -> Change {
    let (user_id, room_id) = (user_id.to_owned(), room_id.map(ToOwned::to_owned));
    Change::AccountData { user_id, room_id, event_type: event_type.to_owned(), content }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_chat_stays_direct() {
        let mut direct = json!({"@b:a": ["!old:a"], "@c:a": ["!x:a"], "d": 1});
        assert!(with_direct(&mut direct, "!old:a", "!new:a"));
        assert_eq!(direct, json!({"@b:a": ["!old:a", "!new:a"], "@c:a": ["!x:a"], "d": 1}));
    }
}
