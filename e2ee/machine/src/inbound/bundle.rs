//! What was said before, for somebody who is invited: the keys of a room that its members have marked for that.
//! <https://spec.matrix.org/v1.19/client-server-api/#sharing-keys-between-users>
//!
//! The bundle is a file like any other: its owner encrypts, uploads and downloads it.

use ruma::{RoomId, UserId};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{InboundSession, Source, imported};
use crate::account::MEGOLM;
use crate::devices::{Device, LocalTrust};
use crate::machine::Machine;
use crate::signed_json::Object;
use crate::store::Held;

/// Most sessions that are taken out of one bundle: more than a busy room has in years.
const SESSIONS_MAX: usize = 50_000;

/// A bundle as somebody made it. Each key is read by itself, so that one that is wrong spoils only itself.
#[derive(Deserialize)]
struct Bundle {
    #[serde(default)]
    room_keys: Vec<Value>,
    #[serde(default)]
    withheld: Vec<Object>,
}

/// A key in it.
#[derive(Deserialize)]
struct HistoricRoomKey {
    algorithm: String,
    room_id: String,
    sender_key: String,
    sender_claimed_keys: Object,
    session_id: String,
    session_key: String,
}

impl Machine {
    /// The keys of a room for somebody who is about to be invited, as the file to encrypt and upload. Of sessions that
    /// are not to be read by those who come later, it says that.
    pub fn room_key_bundle(&self, room_id: &RoomId) -> Vec<u8> {
        let (mut room_keys, mut withheld) = (Vec::new(), Vec::new());
        let from = (room_id.to_string(), String::new());
        let of_room =
            self.inbound.sessions.range(from..).take_while(|((room, _), _)| room.as_str() == room_id.as_str());
        for ((_, session_id), claimants) in of_room {
            let shared = claimants.iter().filter(|known| known.is_history_shared);
            let best = shared.min_by_key(|known| (known.source != Source::Direct, known.session.first_known_index()));
            match best.and_then(|known| historic_key(known, session_id)) {
                Some(key) => room_keys.push(key),
                None => withheld.extend(claimants.first().map(|known| refusal(known, session_id))),
            }
        }
        json!({ "room_keys": room_keys, "withheld": withheld }).to_string().into_bytes()
    }

    /// Tells the devices of a user where a bundle is, and how to open it: those that the user has signed. `file` is what
    /// a message would have in that place. The user's devices should be known ([`Machine::follow`]). Gives how many of
    /// them are told.
    pub fn share_room_key_bundle(&mut self, room_id: &RoomId, user_id: &UserId, file: &Object) -> Held<usize> {
        let mut content = Object::new();
        content.insert("room_id".into(), json!(room_id));
        content.insert("file".into(), Value::Object(file.clone()));
        let is_fit = |device: &&Device| {
            let is_this = device.user_id == self.user_id && device.device_id == self.device_id;
            !is_this && device.local_trust != LocalTrust::Blacklisted && self.is_cross_signed(device)
        };
        let devices: Vec<Device> = self.users.devices(user_id).filter(is_fit).cloned().collect();
        for device in &devices {
            self.send_encrypted(device, "m.room_key_bundle", &content);
        }
        self.hold(devices.len())
    }

    /// Takes in the keys of a room out of a bundle (decrypted) that a user has sent: the one who has invited us, and whose
    /// word for what they are worth is all there is. Gives how many were new or better, and `None` for what is no bundle.
    pub fn import_room_key_bundle(&mut self, room_id: &RoomId, from: &UserId, file: &[u8]) -> Option<Held<usize>> {
        let bundle: Bundle = serde_json::from_slice(file).ok()?;
        let mut taken = 0;
        for key in bundle.room_keys.into_iter().take(SESSIONS_MAX) {
            let session = serde_json::from_value(key).ok().and_then(|key| opened(room_id, from, &key));
            let Some(session) = session else { continue };
            let session_id = session.session.session_id();
            if self.add_inbound(session) {
                taken += 1;
                self.notices.push(crate::Notice::RoomKey { room_id: room_id.to_owned(), session_id });
            }
        }
        for refusal in bundle.withheld.into_iter().take(SESSIONS_MAX) {
            if refusal.get("room_id").and_then(Value::as_str) == Some(room_id.as_str()) {
                self.receive_withheld(from, &refusal);
            }
        }
        Some(self.hold(taken))
    }
}

fn historic_key(known: &InboundSession, session_id: &str) -> Option<Value> {
    Some(json!({
        "algorithm": MEGOLM,
        "room_id": known.room_id,
        "sender_key": known.sender_key.to_base64(),
        "sender_claimed_keys": { "ed25519": known.sender_ed25519?.to_base64() },
        "session_id": session_id,
        "session_key": known.session.export_at_first_known_index().to_base64(),
    }))
}

fn refusal(known: &InboundSession, session_id: &str) -> Value {
    json!({
        "algorithm": MEGOLM,
        "room_id": known.room_id,
        "sender_key": known.sender_key.to_base64(),
        "session_id": session_id,
        "code": "m.history_not_shared",
        "reason": "The sender did not share history with those who join later.",
    })
}

fn opened(room_id: &RoomId, from: &UserId, key: &HistoricRoomKey) -> Option<InboundSession> {
    if key.algorithm != MEGOLM || key.room_id != room_id.as_str() {
        return None;
    }
    let claimed = key.sender_claimed_keys.get("ed25519").and_then(Value::as_str);
    let (id, sender_key) = (&key.session_id, Some(key.sender_key.as_str()));
    let mut session = imported(room_id, id, &key.session_key, sender_key, claimed, Source::Bundle)?;
    session.shared_by = Some(from.to_owned());
    session.is_history_shared = true;
    Some(session)
}
