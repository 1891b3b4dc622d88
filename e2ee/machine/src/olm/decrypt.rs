//! Opening what another device encrypted for this one, and checking that it says truly from whom and for whom it is.

use ruma::{OwnedUserId, UserId};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use vodozemac::Curve25519PublicKey;
use vodozemac::Ed25519PublicKey;
use vodozemac::olm::{OlmMessage, PreKeyMessage, SessionConfig};

use super::{Peer, hash_of, text_of};
use crate::account::OLM;
use crate::devices::Device;
use crate::machine::Machine;
use crate::signed_json::Object;
use crate::store::Table;

/// The content of an encrypted event to this device.
#[derive(Deserialize)]
pub(crate) struct OlmContent {
    algorithm: String,
    sender_key: String,
    ciphertext: BTreeMap<String, OlmCiphertext>,
}

#[derive(Deserialize)]
struct OlmCiphertext {
    #[serde(rename = "type")]
    kind: usize,
    body: String,
}

/// An event that another device encrypted for this one. Its sender is who the device claims to belong to; whether that
/// is so, the device's published keys tell.
#[derive(Clone, Debug)]
pub(crate) struct OlmPayload {
    pub(crate) sender: OwnedUserId,
    pub(crate) sender_key: Curve25519PublicKey,
    pub(crate) sender_ed25519: Ed25519PublicKey,
    pub(crate) event_type: String,
    pub(crate) content: Object,
    /// Whether the device has said, and signed, what its keys are.
    pub(crate) has_device_keys: bool,
}

/// Why an encrypted event to this device was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OlmError {
    /// It is not formed as the algorithm asks, or of another algorithm.
    #[error("the event is malformed or of an unknown algorithm")]
    Malformed,
    /// It is for other devices.
    #[error("nothing in the event is for this device")]
    NotForUs,
    /// It came before.
    #[error("the message was decrypted before")]
    Duplicate,
    /// No session opens it: a new one will be made.
    #[error("no session decrypts the message")]
    NoSession,
    /// What it says inside contradicts what it says outside, or what the device published.
    #[error("the sender or recipient inside the message are not those outside")]
    Mismatch,
}

impl Machine {
    /// Decrypts an event to this device and checks it.
    pub(crate) fn decrypt_olm(&mut self, sender: &UserId, content: &OlmContent) -> Result<OlmPayload, OlmError> {
        if content.algorithm != OLM {
            return Err(OlmError::Malformed);
        }
        let sender_key = Curve25519PublicKey::from_base64(&content.sender_key).map_err(|_| OlmError::Malformed)?;
        let ciphertext = content.ciphertext.get(&self.curve25519_key()).ok_or(OlmError::NotForUs)?;
        let body = vodozemac::base64_decode(&ciphertext.body).map_err(|_| OlmError::Malformed)?;
        let message = OlmMessage::from_parts(ciphertext.kind, &body).map_err(|_| OlmError::Malformed)?;
        if matches!(&message, OlmMessage::PreKey(message) if message.identity_key() != sender_key) {
            return Err(OlmError::Mismatch);
        }
        let plain = match self.open_olm(sender, sender_key, &message) {
            Ok(plain) => plain,
            Err(error) => {
                if error == OlmError::NoSession {
                    self.mark_wedged(sender, sender_key);
                }
                return Err(error);
            }
        };
        self.checked_payload(sender, sender_key, &plain)
    }

    fn open_olm(
        &mut self,
        sender: &UserId,
        sender_key: Curve25519PublicKey,
        message: &OlmMessage,
    ) -> Result<Vec<u8>, OlmError> {
        let now = self.world.clock.now_ms();
        let key = sender_key.to_base64();
        let hash = hash_of(message);
        if let Some(peer) = self.olm.peers.get_mut(&key) {
            if peer.seen.contains(&hash) {
                return Err(OlmError::Duplicate);
            }
            if let Some(plain) = peer.open(message, now) {
                peer.see(hash);
                self.touch(Table::OlmSessions, key);
                return Ok(plain);
            }
        }
        let OlmMessage::PreKey(message) = message else { return Err(OlmError::NoSession) };
        let plain = self.accept_session(sender, sender_key, message)?;
        self.olm.peers.entry(key.clone()).or_default().see(hash);
        self.touch(Table::OlmSessions, key);
        Ok(plain)
    }

    /// Makes the session that another device began with one of our one-time keys.
    fn accept_session(
        &mut self,
        sender: &UserId,
        sender_key: Curve25519PublicKey,
        message: &PreKeyMessage,
    ) -> Result<Vec<u8>, OlmError> {
        let created = self.account.account.create_inbound_session(SessionConfig::version_1(), sender_key, message);
        let created = created.map_err(|_| OlmError::NoSession)?;
        let now = self.world.clock.now_ms();
        let (peer, gone) = self.olm.peer_to_add_to(&sender_key.to_base64(), sender);
        peer.add(created.session, now);
        if let Some(gone) = gone {
            self.touch(Table::OlmSessions, gone);
        }
        self.touch(Table::Account, "");
        Ok(created.plaintext)
    }

    /// The checks of the spec on the plaintext, and one more: where the device's published keys are known, they count.
    fn checked_payload(
        &self,
        sender: &UserId,
        sender_key: Curve25519PublicKey,
        plain: &[u8],
    ) -> Result<OlmPayload, OlmError> {
        let payload: Value = serde_json::from_slice(plain).map_err(|_| OlmError::Malformed)?;
        let key_in = |field: &str| payload.get(field).and_then(|keys| text_of(keys, "ed25519"));
        // 1. The sender outside is the sender inside. 2. and 3. It is for us, and for our keys.
        let is_right = text_of(&payload, "sender") == Some(sender.as_str())
            && text_of(&payload, "recipient") == Some(self.user_id.as_str())
            && key_in("recipient_keys") == Some(self.ed25519_key().as_str());
        if !is_right {
            return Err(OlmError::Mismatch);
        }
        // 4. The signing key is the sending device's, as far as that is known.
        let sender_ed25519 =
            key_in("keys").and_then(|key| Ed25519PublicKey::from_base64(key).ok()).ok_or(OlmError::Malformed)?;
        let known = self.users.device_with_key(sender, sender_key);
        if known.is_some_and(|device| device.ed25519 != sender_ed25519) {
            return Err(OlmError::Mismatch);
        }
        // 5. What the device says of itself is signed by it and says the same.
        let device_keys = payload.get("sender_device_keys");
        if let Some(keys) = device_keys {
            check_device_keys(sender, sender_key, sender_ed25519, keys)?;
        }
        let has_device_keys = device_keys.is_some();
        let event_type = text_of(&payload, "type").ok_or(OlmError::Malformed)?.to_owned();
        let content = payload.get("content").and_then(Value::as_object).cloned().ok_or(OlmError::Malformed)?;
        let sender = sender.to_owned();
        Ok(OlmPayload { sender, sender_key, sender_ed25519, event_type, content, has_device_keys })
    }
}

fn check_device_keys(
    sender: &UserId,
    sender_key: Curve25519PublicKey,
    sender_ed25519: Ed25519PublicKey,
    keys: &Value,
) -> Result<(), OlmError> {
    let device_id = text_of(keys, "device_id").ok_or(OlmError::Mismatch)?;
    let object = keys.as_object().cloned().ok_or(OlmError::Mismatch)?;
    let device = Device::checked(sender, device_id.into(), object).map_err(|_| OlmError::Mismatch)?;
    let is_same = device.curve25519 == sender_key && device.ed25519 == sender_ed25519;
    if is_same { Ok(()) } else { Err(OlmError::Mismatch) }
}

impl Peer {
    /// Tries the sessions, the most recent first. The one that opens the message becomes the most recent.
    fn open(&mut self, message: &OlmMessage, now_ms: u64) -> Option<Vec<u8>> {
        let next_order = self.next_order();
        self.sessions.sort_by_key(|session| std::cmp::Reverse((session.used_at_ms, session.used_order)));
        for session in &mut self.sessions {
            if matches!(message, OlmMessage::PreKey(message) if message.session_id() != session.session.session_id()) {
                continue;
            }
            if let Ok(plain) = session.session.decrypt(message) {
                session.used_at_ms = now_ms.max(session.used_at_ms);
                session.used_order = next_order;
                return Some(plain);
            }
        }
        None
    }
}
