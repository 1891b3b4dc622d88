//! What clients keep for themselves on the server.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#client-config>

use rules::Change;
use ruma::{RoomId, UserId};
use serde_json::value::RawValue;
use storage::{CommitError, Submission};

use super::{Requester, refuse_nul};
use crate::{
    Engine, EngineError, Result,
    push::{MUTE_UNTIL, PUSH_RULES},
};

/// The largest content, in bytes: as much as an event may have.
const CONTENT_BYTES_MAX: usize = 65_536;

/// The longest type, in bytes.
const TYPE_BYTES_MAX: usize = 255;

/// How many pieces a user may have: several for each room of a user of very many.
const PIECES_MAX: u64 = 20_000;

/// Types that have endpoints of their own, which keep their content in order.
const SERVER_MANAGED: [&str; 2] = ["m.fully_read", PUSH_RULES];

impl Engine {
    /// One piece of account data.
    pub async fn account_data(
        &self,
        user_id: &UserId,
        room_id: Option<&RoomId>,
        event_type: &str,
    ) -> Result<Box<RawValue>> {
        if room_id.is_none() && event_type == PUSH_RULES {
            return self.push_rules_content(user_id).await;
        }
        let record = self.storage().account_data(user_id, room_id, event_type).await?;
        let content = record.map(|record| record.content).filter(|content| !is_deleted(content));
        content.ok_or_else(|| EngineError::not_found("Data not found"))
    }

    /// Replaces one piece of the asker's account data. That of a room is only for those who have to do with the room.
    pub async fn set_account_data(
        &self,
        requester: &Requester,
        room_id: Option<&RoomId>,
        event_type: &str,
        content: Box<RawValue>,
    ) -> Result<()> {
        check(event_type, &content)?;
        let user_id = &requester.user_id;
        if let Some(room_id) = room_id
            && self.storage().membership(user_id, room_id).await?.is_none()
        {
            return Err(EngineError::forbidden("You have nothing to do with that room"));
        }
        let is_new = self.storage().account_data(user_id, room_id, event_type).await?.is_none();
        if is_new && self.storage().account_data_count(user_id).await? >= PIECES_MAX {
            let text = format!("There can be no more than {PIECES_MAX} pieces of account data");
            return Err(EngineError::TooLarge(text));
        }
        let change = Change::AccountData {
            user_id: user_id.clone(),
            room_id: room_id.map(ToOwned::to_owned),
            event_type: event_type.to_owned(),
            content: content.clone(),
        };
        match self.storage().commit(Submission { room: None, changes: vec![change] }).await {
            Ok(_) => {
                match room_id {
                    None => self.inner.push.forget(user_id),
                    Some(room_id) if event_type == MUTE_UNTIL => self.mute_until(user_id, room_id, &content).await?,
                    Some(_) => {}
                }
                Ok(())
            }
            Err(CommitError::Storage(error)) => Err(error.into()),
            Err(error) => Err(EngineError::internal(error)),
        }
    }
}

/// Whether account data counts as not there any more: an empty object is what remains of it, for other devices to hear
/// that it is gone. <https://github.com/matrix-org/matrix-spec-proposals/pull/3391>
pub(crate) fn is_deleted(content: &RawValue) -> bool {
    let mut characters = content.get().chars().filter(|character| !character.is_ascii_whitespace());
    (characters.next(), characters.next(), characters.next()) == (Some('{'), Some('}'), None)
}

fn check(event_type: &str, content: &RawValue) -> Result<()> {
    if SERVER_MANAGED.contains(&event_type) {
        return Err(EngineError::forbidden(format!("{event_type} cannot be set as account data")));
    }
    if !(1..=TYPE_BYTES_MAX).contains(&event_type.len()) {
        let text = format!("The type of account data must have 1 to {TYPE_BYTES_MAX} bytes");
        return Err(EngineError::invalid_param(text));
    }
    refuse_nul(event_type, "The type of account data")?;
    if content.get().len() > CONTENT_BYTES_MAX {
        let text = format!("Account data must not be larger than {CONTENT_BYTES_MAX} bytes");
        return Err(EngineError::TooLarge(text));
    }
    if !content.get().starts_with('{') {
        return Err(EngineError::BadJson("Account data must be a JSON object".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(event_type: &str, json: &str) -> Result<()> {
        let content: Box<RawValue> = serde_json::from_str(json).expect("the tests write JSON");
        check(event_type, &content)
    }

    #[test]
    fn account_data_is_a_bounded_object_of_a_type_of_ones_own() {
        assert!(checked("m.direct", "{}").is_ok());
        assert!(checked(&"t".repeat(255), " {\"a\": 1} ").is_ok());
        for managed in SERVER_MANAGED {
            assert!(matches!(checked(managed, "{}"), Err(EngineError::Forbidden(_))), "{managed}");
        }
        for event_type in ["", "a\0", &"t".repeat(256), &"\u{e9}".repeat(128)] {
            assert!(matches!(checked(event_type, "{}"), Err(EngineError::InvalidParam(_))), "{event_type:?}");
        }
        for json in ["[]", "\"{\"", "null", "1"] {
            assert!(matches!(checked("m.direct", json), Err(EngineError::BadJson(_))), "{json}");
        }
        let largest = format!("{{\"a\":\"{}\"}}", "x".repeat(CONTENT_BYTES_MAX - "{\"a\":\"\"}".len()));
        assert!(checked("m.direct", &largest).is_ok());
        assert!(matches!(checked("m.direct", &largest.replace('a', "ab")), Err(EngineError::TooLarge(_))));
    }
}
