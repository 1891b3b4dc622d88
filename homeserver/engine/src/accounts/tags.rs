//! The tags that users give to their rooms: one piece of account data for each room, changed tag by tag.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#room-tagging>

use ruma::RoomId;
use serde_json::{Map, Value, json, value::to_raw_value};

use super::{Requester, refuse_nul};
use crate::{Engine, EngineError, Result};

/// The account data that holds the tags of a room.
pub(crate) const TAGS: &str = "m.tag";
/// The longest name of a tag, in bytes.
const NAME_BYTES_MAX: usize = 255;
/// How many tags a room has at most.
const TAGS_MAX: usize = 100;

impl Engine {
    /// The tags of one of the asker's rooms, each with what the client notes of it.
    pub async fn tags(&self, requester: &Requester, room_id: &RoomId) -> Result<Map<String, Value>> {
        if self.storage().membership(&requester.user_id, room_id).await?.is_none() {
            return Err(EngineError::forbidden("You have nothing to do with that room"));
        }
        let record = self.storage().account_data(&requester.user_id, Some(room_id), TAGS).await?;
        let content = record.and_then(|record| serde_json::from_str::<Value>(record.content.get()).ok());
        match content.map(|mut content| content["tags"].take()) {
            Some(Value::Object(tags)) => Ok(tags),
            _ => Ok(Map::new()),
        }
    }

    /// Sets a tag.
    pub async fn set_tag(&self, requester: &Requester, room_id: &RoomId, name: &str, info: Value) -> Result<()> {
        if !(1..=NAME_BYTES_MAX).contains(&name.len()) {
            let text = format!("The name of a tag must have 1 to {NAME_BYTES_MAX} bytes");
            return Err(EngineError::InvalidParam(text));
        }
        refuse_nul(name, "The name of a tag")?;
        self.change_tags(requester, room_id, |tags| {
            tags.insert(name.to_owned(), info);
        })
        .await
    }

    /// Removes a tag, if it is there.
    pub async fn remove_tag(&self, requester: &Requester, room_id: &RoomId, name: &str) -> Result<()> {
        self.change_tags(requester, room_id, |tags| {
            tags.remove(name);
        })
        .await
    }

    async fn change_tags(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        change: impl FnOnce(&mut Map<String, Value>) + Send,
    ) -> Result<()> {
        let _lock = self.inner.account_data.lock(&format!("{TAGS} {} {room_id}", requester.user_id)).await;
        let before = self.tags(requester, room_id).await?;
        let mut tags = before.clone();
        change(&mut tags);
        if tags.len() > TAGS_MAX {
            return Err(EngineError::TooLarge(format!("A room cannot have more than {TAGS_MAX} tags")));
        }
        if tags == before {
            return Ok(());
        }
        let content = to_raw_value(&json!({ "tags": tags })).map_err(EngineError::internal)?;
        self.set_account_data(requester, Some(room_id), TAGS, content).await
    }
}
