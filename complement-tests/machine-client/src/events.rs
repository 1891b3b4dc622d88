//! What happens: rooms, messages, verifications.

use machine::{FlowId, Notice, Stage};
use ruma::{EventId, OwnedRoomId, RoomId, UserId};
use serde_json::{Value, json};

use crate::api::{Failure, escaped};
use crate::client::{Client, Object, tell};

impl Client {
    /// The rooms of a sync: invitations are accepted, events read.
    pub(crate) async fn receive_rooms(&mut self, rooms: &Value) -> Result<(), Failure> {
        for room_id in rooms["invite"].as_object().into_iter().flat_map(|rooms| rooms.keys()) {
            self.api.post(&format!("join/{}", escaped(room_id)), json!({})).await?;
        }
        for (room_id, room) in rooms["join"].as_object().into_iter().flatten() {
            let room_id = OwnedRoomId::try_from(room_id.as_str())?;
            for part in ["state", "timeline"] {
                for event in room[part]["events"].as_array().into_iter().flatten() {
                    if let Some(event) = event.as_object() {
                        self.receive_event(&room_id, event)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn receive_event(&mut self, room_id: &RoomId, event: &Object) -> Result<(), Failure> {
        let content = event.get("content").and_then(Value::as_object).cloned().unwrap_or_default();
        match event.get("type").and_then(Value::as_str).unwrap_or_default() {
            "m.room.encryption" => {
                let held = self.machine.set_room_encryption(room_id, &content);
                self.keep(held)?;
                tell(&json!({ "is": "encrypted", "room_id": room_id }));
            }
            "m.room.encrypted" => self.read(room_id, event)?,
            kind => self.receive_plain(room_id, event, kind, &content)?,
        }
        Ok(())
    }

    /// Decrypts an event; one whose key is missing waits for it.
    fn read(&mut self, room_id: &RoomId, event: &Object) -> Result<(), Failure> {
        match self.machine.decrypt(room_id, event) {
            Ok(held) => {
                let decrypted = self.keep(held)?;
                tell(&json!({
                    "is": "message",
                    "room_id": room_id,
                    "sender": event["sender"],
                    "event_id": event["event_id"],
                    "body": decrypted.content.get("body"),
                    "verdict": format!("{:?}", decrypted.verdict),
                }));
                self.receive_plain(room_id, event, &decrypted.event_type, &decrypted.content)
            }
            Err(error) => {
                self.waiting.push((room_id.to_owned(), event.clone()));
                tell(&json!({ "is": "undecryptable", "event_id": event["event_id"], "why": error.to_string() }));
                Ok(())
            }
        }
    }

    fn receive_plain(&mut self, room_id: &RoomId, event: &Object, kind: &str, content: &Object) -> Result<(), Failure> {
        let text = |field: &str| event.get(field).and_then(Value::as_str).unwrap_or_default();
        let (sender, event_id) = (<&UserId>::try_from(text("sender"))?, <&EventId>::try_from(text("event_id"))?);
        let held = self.machine.receive_room_verification(room_id, sender, event_id, kind, content);
        self.keep(held)
    }

    pub(crate) async fn receive_notices(&mut self, notices: Vec<Notice>) -> Result<(), Failure> {
        for notice in notices {
            match notice {
                Notice::RoomKey { room_id, .. } => self.read_again(&room_id)?,
                Notice::Verification { flow_id } => self.go_on(&flow_id).await?,
                other => tell(&json!({ "is": "notice", "what": format!("{other:?}") })),
            }
        }
        Ok(())
    }

    fn read_again(&mut self, room_id: &RoomId) -> Result<(), Failure> {
        for (place, event) in std::mem::take(&mut self.waiting) {
            if place == room_id {
                self.read(&place, &event)?;
            } else {
                self.waiting.push((place, event));
            }
        }
        Ok(())
    }

    /// Accepts and starts verifications; whether the strings are the same, the test says.
    async fn go_on(&mut self, flow_id: &FlowId) -> Result<(), Failure> {
        let Some(verification) = self.machine.verification(flow_id) else { return Ok(()) };
        let held = match verification.stage {
            Stage::Offered => self.machine.accept_verification(flow_id),
            // Who asked starts, so that not both do.
            Stage::Ready if self.asked.contains(flow_id) => self.machine.start_sas(flow_id),
            Stage::Compare { emoji, decimals, is_confirmed: false } => {
                let emoji = emoji.map(|emoji| emoji.symbol);
                let user_id = &flow_id.user_id;
                tell(
                    &json!({ "is": "compare", "user_id": user_id, "flow": flow_id.id, "emoji": emoji, "decimals": decimals }),
                );
                return Ok(());
            }
            Stage::Done => {
                let user_id = &flow_id.user_id;
                tell(&json!({ "is": "verified", "user_id": user_id, "device_id": verification.device_id }));
                return Ok(());
            }
            Stage::Cancelled { code, by_us } => {
                tell(&json!({ "is": "cancelled", "code": code, "by_us": by_us }));
                return Ok(());
            }
            _ => return Ok(()),
        };
        self.keep(held)?;
        Box::pin(self.send_requests()).await
    }
}
