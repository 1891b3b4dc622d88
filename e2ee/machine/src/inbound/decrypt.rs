//! Decrypting an event of a room, and saying how much it is to be believed.

use std::collections::BTreeMap;

use ruma::{OwnedEventId, OwnedUserId, RoomId, UserId};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use vodozemac::megolm::MegolmMessage;

use super::{InboundSession, Source, WithheldCode, record_key};
use crate::account::MEGOLM;
use crate::devices::LocalTrust;
use crate::machine::Machine;
use crate::signed_json::{Object, text};
use crate::store::{Held, Table};

/// How many indices share one record: few enough that a message costs little to note, enough to have few records.
const INDICES_PER_RECORD: u32 = 128;

/// What tells an event from another: its id and time, shortened.
type EventMark = [u8; 16];

/// Which event was decrypted at which index, in records by session and range of indices.
#[derive(Default)]
pub(crate) struct Replays {
    marks: BTreeMap<String, BTreeMap<u32, EventMark>>,
}

/// An event as it came from the server.
#[derive(Deserialize)]
struct EncryptedEvent {
    event_id: OwnedEventId,
    sender: OwnedUserId,
    origin_server_ts: u64,
    content: Object,
}

/// A decrypted event.
#[derive(Clone, Debug, PartialEq)]
pub struct Decrypted {
    /// Its type.
    pub event_type: String,
    /// Its content.
    pub content: Object,
    /// How much it is to be believed that its sender sent it.
    pub verdict: Verdict,
    /// The Curve25519 key of the sending device, as the session's origin says.
    pub sender_key: String,
    /// The session.
    pub session_id: String,
    /// Who gave us the key, together with others of the time before we came.
    pub shared_by: Option<OwnedUserId>,
}

/// What a message was opened with.
struct Opened {
    plain: Vec<u8>,
    index: u32,
    verdict: Verdict,
    sender_key: String,
    shared_by: Option<OwnedUserId>,
}

/// How much it is to be believed that an event is its sender's, from the most to the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// A device of a user that we verified sent it.
    Verified,
    /// A device sent it that its user signed; the user's identity was not compared.
    SignedByOwner,
    /// A known device of the user sent it, which the user did not sign.
    UnsignedDevice,
    /// The device was blacklisted here.
    Blacklisted,
    /// The device is not known (any more).
    UnknownDevice,
    /// The key did not come from the sender: anybody who had it can have made the event.
    NotAuthentic,
}

/// Why an event cannot be decrypted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecryptError {
    /// It is not formed as the algorithm asks.
    #[error("the event is malformed or of an unknown algorithm")]
    Malformed,
    /// The key is not there; perhaps somebody said why.
    #[error("the key of the session is not known")]
    MissingKey {
        /// What to ask for.
        session_id: String,
        /// What the sender said.
        withheld: Option<WithheldCode>,
    },
    /// The key is there, but only from a later message on.
    #[error("the key of the session is only known from message {first_known_index} on")]
    KeyFromLater {
        /// What to ask for.
        session_id: String,
        /// The first message that can be decrypted.
        first_known_index: u32,
    },
    /// The message is damaged, or was not made with the session.
    #[error("the message does not decrypt")]
    Damaged,
    /// The session is another sender's, or the event was made for another room.
    #[error("the event's sender or room is not that of its session")]
    Mismatch,
    /// Another event had the same message.
    #[error("the message was sent before, in another event")]
    Replay,
}

impl super::InboundSessions {
    pub(crate) fn replay_record(&self, key: &str) -> Option<&BTreeMap<u32, EventMark>> {
        self.replays.marks.get(key)
    }

    pub(crate) fn load_replay(&mut self, key: &str, marks: BTreeMap<u32, EventMark>) {
        self.replays.marks.insert(key.to_owned(), marks);
    }
}

impl Machine {
    /// Decrypts an `m.room.encrypted` event as it came from the server. The same event may be decrypted again.
    pub fn decrypt(&mut self, room_id: &RoomId, event: &Object) -> Result<Held<Decrypted>, DecryptError> {
        let event: EncryptedEvent =
            serde_json::from_value(Value::Object(event.clone())).map_err(|_| DecryptError::Malformed)?;
        let field = |name| text(&event.content, name).ok_or(DecryptError::Malformed);
        if field("algorithm")? != MEGOLM {
            return Err(DecryptError::Malformed);
        }
        let session_id = field("session_id")?.to_owned();
        let message = MegolmMessage::from_base64(field("ciphertext")?).map_err(|_| DecryptError::Malformed)?;
        let chosen = self.choose(room_id, &session_id, &event.sender)?;
        let opened = self.open_message(room_id, &session_id, chosen, &event.sender, &message)?;
        let mut payload = payload_of(room_id, &opened.plain)?;
        self.check_replay(room_id, &session_id, opened.index, &event)?;
        // The relation stands outside, for servers to see.
        if let Some(relation) = event.content.get("m.relates_to") {
            payload.1.entry("m.relates_to").or_insert_with(|| relation.clone());
        }
        let (event_type, content) = payload;
        let Opened { verdict, sender_key, shared_by, .. } = opened;
        Ok(self.hold(Decrypted { event_type, content, verdict, sender_key, session_id, shared_by }))
    }

    /// Which of the sessions of an id is the sender's: one that came from the sender, or one whose origin is unknown.
    fn choose(&self, room_id: &RoomId, session_id: &str, sender: &UserId) -> Result<usize, DecryptError> {
        let claimants = self.inbound.claimants(room_id, session_id);
        if claimants.is_empty() {
            let withheld = self.inbound.withheld.get(room_id, session_id).cloned();
            return Err(DecryptError::MissingKey { session_id: session_id.to_owned(), withheld });
        }
        let direct = claimants.iter().position(|known| known.sender.as_deref() == Some(sender));
        let indirect = || claimants.iter().position(|known| known.sender.is_none() && self.may_be_of(known, sender));
        direct.or_else(indirect).ok_or(DecryptError::Mismatch)
    }

    /// Whether a session of unknown origin may be a user's: not when its key is known to be another device's.
    fn may_be_of(&self, session: &InboundSession, sender: &UserId) -> bool {
        let device = self.users.device_with_key(sender, session.sender_key);
        device.is_none_or(|device| session.sender_ed25519.is_none_or(|key| key == device.ed25519))
    }

    fn open_message(
        &mut self,
        room_id: &RoomId,
        session_id: &str,
        chosen: usize,
        sender: &UserId,
        message: &MegolmMessage,
    ) -> Result<Opened, DecryptError> {
        let key = (room_id.to_string(), session_id.to_owned());
        let known = self.inbound.sessions.get_mut(&key).and_then(|claimants| claimants.get_mut(chosen));
        let known = known.ok_or(DecryptError::Mismatch)?;
        let first_known_index = known.session.first_known_index();
        let decrypted = known.session.decrypt(message).map_err(|error| match error {
            vodozemac::megolm::DecryptionError::UnknownMessageIndex(..) => {
                DecryptError::KeyFromLater { session_id: session_id.to_owned(), first_known_index }
            }
            _ => DecryptError::Damaged,
        })?;
        let known = &self.inbound.claimants(room_id, session_id)[chosen];
        let verdict = self.verdict(known, sender);
        Ok(Opened {
            plain: decrypted.plaintext,
            index: decrypted.message_index,
            verdict,
            sender_key: known.sender_key.to_base64(),
            shared_by: known.shared_by.clone(),
        })
    }

    fn verdict(&self, session: &InboundSession, sender: &UserId) -> Verdict {
        if session.source != Source::Direct {
            return Verdict::NotAuthentic;
        }
        if sender == self.user_id && session.sender_key == self.account.account.curve25519_key() {
            return Verdict::Verified;
        }
        let device = self.users.device_with_key(sender, session.sender_key);
        match device.filter(|device| session.sender_ed25519 == Some(device.ed25519)) {
            None => Verdict::UnknownDevice,
            Some(device) if self.is_verified(device) => Verdict::Verified,
            Some(device) if device.local_trust == LocalTrust::Blacklisted => Verdict::Blacklisted,
            Some(device) if self.is_cross_signed(device) => Verdict::SignedByOwner,
            Some(_) => Verdict::UnsignedDevice,
        }
    }

    /// One index of a session belongs to one event.
    fn check_replay(
        &mut self,
        room_id: &RoomId,
        session_id: &str,
        index: u32,
        event: &EncryptedEvent,
    ) -> Result<(), DecryptError> {
        let mark = mark_of(event);
        let key = format!("{}|{}", record_key(room_id.as_str(), session_id), index / INDICES_PER_RECORD);
        let marks = self.inbound.replays.marks.entry(key.clone()).or_default();
        match marks.get(&index) {
            Some(known) if *known == mark => Ok(()),
            Some(_) => Err(DecryptError::Replay),
            None => {
                marks.insert(index, mark);
                self.touch(Table::Replays, key);
                Ok(())
            }
        }
    }
}

fn mark_of(event: &EncryptedEvent) -> EventMark {
    let hash = Sha256::new().chain_update(event.event_id.as_bytes()).chain_update(event.origin_server_ts.to_le_bytes());
    let mut mark = [0; 16];
    mark.copy_from_slice(&hash.finalize()[..16]);
    mark
}

/// Type and content of a payload that was made for this room.
fn payload_of(room_id: &RoomId, plain: &[u8]) -> Result<(String, Object), DecryptError> {
    let mut payload: Object = serde_json::from_slice(plain).map_err(|_| DecryptError::Malformed)?;
    if text(&payload, "room_id") != Some(room_id.as_str()) {
        return Err(DecryptError::Mismatch);
    }
    let event_type = text(&payload, "type").ok_or(DecryptError::Malformed)?.to_owned();
    match payload.remove("content") {
        Some(Value::Object(content)) => Ok((event_type, content)),
        _ => Err(DecryptError::Malformed),
    }
}

/// The id of a session that an event is encrypted with, for asking for its key.
pub(crate) fn session_id_of(event: &Object) -> Option<&str> {
    event.get("content").and_then(Value::as_object).and_then(|content| text(content, "session_id"))
}
