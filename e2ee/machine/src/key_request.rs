//! Asking our other devices for room keys, and answering them.
//! <https://spec.matrix.org/v1.19/client-server-api/#key-requests>

use std::collections::BTreeMap;

use ruma::{OwnedDeviceId, OwnedRoomId, RoomId, UserId};
use serde_json::{Value, json};

use crate::account::MEGOLM;
use crate::inbound::{Source, session_id_of};
use crate::machine::Machine;
use crate::signed_json::{Object, text};
use crate::store::Held;

/// Most requests that are open at a time: further keys are asked for when these have come.
const REQUESTS_MAX: usize = 1_000;

/// Our open requests, by room and session. They live in memory: an owner that misses a key after a restart asks again.
#[derive(Default)]
pub(crate) struct KeyRequests {
    open: BTreeMap<(OwnedRoomId, String), String>,
}

impl KeyRequests {
    pub(crate) fn is_open(&self, room_id: &RoomId, session_id: &str) -> bool {
        self.open.contains_key(&(room_id.to_owned(), session_id.to_owned()))
    }
}

impl Machine {
    /// Asks our other devices for the key of an event. Nothing happens when it was asked for already, or is there from
    /// the first message on. Returns whether it is asked for.
    pub fn request_room_key(&mut self, room_id: &RoomId, event: &Object) -> Held<bool> {
        let session_id = session_id_of(event).map(str::to_owned);
        let is_asked = session_id.is_some_and(|session_id| self.ask_for_key(room_id, &session_id));
        self.hold(is_asked)
    }

    fn ask_for_key(&mut self, room_id: &RoomId, session_id: &str) -> bool {
        let place = (room_id.to_owned(), session_id.to_owned());
        if self.key_requests.open.contains_key(&place) {
            return true;
        }
        let has_all =
            self.inbound.claimants(room_id, session_id).iter().any(|known| known.session.first_known_index() == 0);
        if has_all || self.key_requests.open.len() >= REQUESTS_MAX {
            return false;
        }
        let request_id = self.world.random_string(24);
        let body = json!({ "algorithm": MEGOLM, "room_id": room_id, "session_id": session_id });
        self.send_key_request("request", &request_id, Some(body));
        self.key_requests.open.insert(place, request_id);
        true
    }

    /// The key came: the other devices need not look for it any more.
    pub(crate) fn cancel_key_request(&mut self, room_id: &RoomId, session_id: &str) {
        if let Some(request_id) = self.key_requests.open.remove(&(room_id.to_owned(), session_id.to_owned())) {
            self.send_key_request("request_cancellation", &request_id, None);
        }
    }

    fn send_key_request(&mut self, action: &str, request_id: &str, body: Option<Value>) {
        let mut content = Object::new();
        content.insert("action".into(), json!(action));
        content.insert("request_id".into(), json!(request_id));
        content.insert("requesting_device_id".into(), json!(self.device_id));
        if let Some(body) = body {
            content.insert("body".into(), body);
        }
        let user_id = self.user_id.clone();
        self.send_to_all_devices("m.room_key_request", &user_id, content);
    }

    /// Answers a request of a verified device of our own, if we have the key and can reach the device. Others get
    /// nothing: which sessions we have is not for them to know.
    pub(crate) fn receive_key_request(&mut self, sender: &UserId, content: &Object) {
        let device_id = text(content, "requesting_device_id").map(OwnedDeviceId::from);
        let Some(device_id) = device_id.filter(|id| *id != self.device_id) else { return };
        if *sender != *self.user_id || text(content, "action") != Some("request") {
            return;
        }
        let device = self.users.device(sender, &device_id).filter(|device| self.is_verified(device)).cloned();
        let body = content.get("body").and_then(Value::as_object);
        let (Some(device), Some(body)) = (device, body) else { return };
        let room_id = text(body, "room_id").and_then(|id| OwnedRoomId::try_from(id).ok());
        let (Some(room_id), Some(session_id)) = (room_id, text(body, "session_id")) else { return };
        if let Some(key) = self.forwarded_key(&room_id, session_id) {
            self.send_encrypted(&device, "m.forwarded_room_key", &key);
        }
    }

    /// The content that passes on a session. What is not known to be the sender's is not passed on from a backup.
    fn forwarded_key(&self, room_id: &RoomId, session_id: &str) -> Option<Object> {
        let claimants = self.inbound.claimants(room_id, session_id);
        let known =
            claimants.iter().min_by_key(|known| (known.source != Source::Direct, known.session.first_known_index()))?;
        let key = json!({
            "algorithm": MEGOLM,
            "room_id": room_id,
            "session_id": session_id,
            "session_key": known.session.export_at_first_known_index().to_base64(),
            "sender_key": known.sender_key.to_base64(),
            "sender_claimed_ed25519_key": known.sender_ed25519?.to_base64(),
            "forwarding_curve25519_key_chain": known.chain,
        });
        key.as_object().cloned()
    }
}
