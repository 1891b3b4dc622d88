//! Ephemeral data units from other servers: each is taken by itself, and speaks only for users of its origin.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#edus>

use ruma::{OwnedRoomId, OwnedUserId, ServerName};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::Engine;

#[derive(Deserialize)]
struct Edu<'a> {
    edu_type: String,
    #[serde(borrow)]
    content: &'a RawValue,
}

#[derive(Deserialize)]
struct TypingContent {
    room_id: OwnedRoomId,
    user_id: OwnedUserId,
    typing: bool,
}

impl Engine {
    pub(crate) async fn receive_edus(&self, origin: &ServerName, edus: &[Box<RawValue>]) {
        for edu in edus {
            let Ok(edu) = serde_json::from_str::<Edu<'_>>(edu.get()) else { continue };
            match edu.edu_type.as_str() {
                "m.typing" => self.receive_typing_edu(origin, edu.content).await,
                "m.receipt" => self.receive_receipts(origin, edu.content).await,
                "m.direct_to_device" => self.receive_to_device(origin, edu.content).await,
                "m.device_list_update" => self.receive_device_list_update(origin, edu.content).await,
                "m.signing_key_update" => self.receive_signing_key_update(origin, edu.content).await,
                "m.presence" => self.receive_presence(origin, edu.content).await,
                _ => {}
            }
        }
    }

    /// Takes only the receipts. Those that were taken before change nothing.
    pub(crate) async fn receive_receipt_edus(&self, origin: &ServerName, edus: &[Box<RawValue>]) {
        let edus = edus.iter().filter_map(|edu| serde_json::from_str::<Edu<'_>>(edu.get()).ok());
        for edu in edus.filter(|edu| edu.edu_type == "m.receipt") {
            self.receive_receipts(origin, edu.content).await;
        }
    }

    async fn receive_typing_edu(&self, origin: &ServerName, content: &RawValue) {
        let Ok(TypingContent { room_id, user_id, typing }) = serde_json::from_str(content.get()) else { return };
        self.receive_typing(origin, &room_id, &user_id, typing).await;
    }
}
