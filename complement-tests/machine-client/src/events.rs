//! What a sync brings: rooms, invitations, verifications.

use machine::Notice;
use ruma::{EventId, OwnedRoomId, RoomId, UserId};
use serde_json::Value;

use crate::api::Failure;
use crate::client::{Client, Object};

impl Client {
    /// The rooms of a sync.
    pub(crate) fn receive_rooms(&mut self, rooms: &Value) -> Result<(), Failure> {
        for (room_id, room) in rooms["invite"].as_object().into_iter().flatten() {
            let own = self.machine.user_id().as_str();
            let events = room["invite_state"]["events"].as_array();
            let is_ours = |event: &&Value| event["type"] == "m.room.member" && event["state_key"] == own;
            let inviter = events.into_iter().flatten().find(is_ours).and_then(|event| event["sender"].as_str());
            self.invitations.insert(room_id.as_str().try_into()?, inviter.ok_or("somebody invites")?.try_into()?);
        }
        for (room_id, room) in rooms["join"].as_object().into_iter().flatten() {
            let room_id = OwnedRoomId::try_from(room_id.as_str())?;
            for part in ["state", "timeline"] {
                for event in room[part]["events"].as_array().into_iter().flatten().filter_map(Value::as_object) {
                    self.receive_event(&room_id, event)?;
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
            }
            "m.room.encrypted" => {
                if let Ok(held) = self.machine.decrypt(room_id, event) {
                    let decrypted = self.keep(held)?;
                    self.receive_plain(room_id, event, &decrypted.event_type, &decrypted.content)?;
                }
            }
            kind => self.receive_plain(room_id, event, kind, &content)?,
        }
        Ok(())
    }

    fn receive_plain(&mut self, room_id: &RoomId, event: &Object, kind: &str, content: &Object) -> Result<(), Failure> {
        let text = |field: &str| event.get(field).and_then(Value::as_str).unwrap_or_default();
        let (sender, event_id) = (<&UserId>::try_from(text("sender"))?, <&EventId>::try_from(text("event_id"))?);
        let held = self.machine.receive_room_verification(room_id, sender, event_id, kind, content);
        self.keep(held)
    }

    /// Remembers the verifications, for the test to go on with, and bundles of keys.
    pub(crate) fn receive_notices(&mut self, notices: Vec<Notice>) {
        for notice in notices {
            match notice {
                Notice::Verification { flow_id } if !self.flows.contains(&flow_id) => self.flows.push(flow_id),
                Notice::ToDevice(event) if event.event_type == "m.room_key_bundle" => {
                    self.bundles.push((event.sender, event.content));
                }
                _ => {}
            }
        }
    }
}
