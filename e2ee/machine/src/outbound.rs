//! Megolm sessions that we send with, and when they are changed.

mod recipients;
mod share;

pub use recipients::Audience;
pub use share::Readiness;

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedDeviceId, OwnedRoomId, OwnedUserId, RoomId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use vodozemac::Curve25519PublicKey;
use vodozemac::megolm::{GroupSession, GroupSessionPickle, InboundGroupSession, SessionConfig};

use crate::account::MEGOLM;
use crate::inbound::{InboundSession, Source};
use crate::machine::Machine;
use crate::signed_json::Object;
use crate::store::{Held, Table};

/// A room's session for sending.
#[derive(Serialize, Deserialize)]
pub(crate) struct OutboundSession {
    #[serde(serialize_with = "pickle", deserialize_with = "unpickle")]
    session: GroupSession,
    created_at_ms: u64,
    message_count: u64,
    /// The room's history visibility when it was made: who joins later must not read more than the room says.
    history_visibility: String,
}

fn pickle<S: serde::Serializer>(session: &GroupSession, serializer: S) -> Result<S::Ok, S::Error> {
    session.pickle().serialize(serializer)
}

fn unpickle<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<GroupSession, D::Error> {
    GroupSessionPickle::deserialize(deserializer).map(GroupSession::from_pickle)
}

/// A device that has a session's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shared {
    device_key: Curve25519PublicKey,
    /// The first message that it can decrypt.
    index: u32,
}

/// Who has the key of a room's session.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Share {
    shared: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, Shared>>,
    /// Devices to which the key was sent, which may not have arrived.
    #[serde(default)]
    sent: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, Shared>>,
    /// Devices that were told why they get none.
    withheld: BTreeMap<OwnedUserId, BTreeSet<OwnedDeviceId>>,
}

/// The sessions for sending, by room.
#[derive(Default)]
pub(crate) struct OutboundSessions {
    sessions: BTreeMap<OwnedRoomId, OutboundSession>,
    shares: BTreeMap<OwnedRoomId, Share>,
}

impl OutboundSessions {
    pub(crate) fn session_record(&self, key: &str) -> Option<&OutboundSession> {
        self.sessions.get(<&RoomId>::try_from(key).ok()?)
    }

    pub(crate) fn share_record(&self, key: &str) -> Option<&Share> {
        self.shares.get(<&RoomId>::try_from(key).ok()?)
    }

    pub(crate) fn load_session(&mut self, key: &str, session: OutboundSession) {
        if let Ok(room_id) = OwnedRoomId::try_from(key) {
            self.sessions.insert(room_id, session);
        }
    }

    pub(crate) fn load_share(&mut self, key: &str, share: Share) {
        if let Ok(room_id) = OwnedRoomId::try_from(key) {
            self.shares.insert(room_id, share);
        }
    }
}

/// Why an event cannot be encrypted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncryptError {
    /// The room's settings were never given, or it is not encrypted.
    #[error("the room is not known to be encrypted")]
    NotEncrypted,
    /// The room is encrypted in a way that we cannot do.
    #[error("the room's algorithm is not known")]
    UnknownAlgorithm,
    /// The key is still to be shared: answer the requests, then encrypt again.
    #[error("the room's key has not reached everybody yet")]
    NotReady,
}

impl Machine {
    /// Encrypts an event for those who are to read it. Needs [`Machine::prepare`] to say [`Readiness::Ready`] first.
    /// Gives the content of an `m.room.encrypted` event.
    pub fn encrypt(
        &mut self,
        audience: &Audience,
        event_type: &str,
        content: &Object,
    ) -> Result<Held<Object>, EncryptError> {
        if self.prepare_session(audience)? == Readiness::Waiting {
            return Err(EncryptError::NotReady);
        }
        let room_id = &audience.room_id;
        let payload = json!({ "type": event_type, "content": content, "room_id": room_id });
        let outbound = self.outbound.sessions.get_mut(room_id).ok_or(EncryptError::NotReady)?;
        let ciphertext = outbound.session.encrypt(payload.to_string()).to_base64();
        outbound.message_count += 1;
        let session_id = outbound.session.session_id();
        self.touch(Table::OutboundSessions, room_id.as_str());
        let mut encrypted = Object::new();
        encrypted.insert("algorithm".into(), json!(MEGOLM));
        encrypted.insert("ciphertext".into(), Value::String(ciphertext));
        encrypted.insert("session_id".into(), Value::String(session_id));
        // Both are not to be trusted by readers, and old ones want them.
        encrypted.insert("sender_key".into(), json!(self.curve25519_key()));
        encrypted.insert("device_id".into(), json!(self.device_id));
        if let Some(relation) = content.get("m.relates_to") {
            encrypted.insert("m.relates_to".into(), relation.clone());
        }
        Ok(self.hold(encrypted))
    }

    /// Lets the next event of a room be encrypted with a new session.
    pub fn discard_session(&mut self, room_id: &RoomId) -> Held<()> {
        self.drop_session(room_id);
        self.hold(())
    }

    pub(crate) fn drop_session(&mut self, room_id: &RoomId) {
        self.outbound.sessions.remove(room_id);
        self.outbound.shares.remove(room_id);
        self.touch(Table::OutboundSessions, room_id.as_str());
        self.touch(Table::Shares, room_id.as_str());
    }

    /// Whether a room's session has served its time.
    pub(crate) fn is_session_worn(&self, audience: &Audience) -> bool {
        let Some(session) = self.outbound.sessions.get(&audience.room_id) else { return false };
        let Some(settings) = self.room_settings(&audience.room_id) else { return false };
        let now = self.world.clock.now_ms();
        session.message_count >= settings.rotation_messages
            || now.saturating_sub(session.created_at_ms) >= settings.rotation_period_ms
            || session.history_visibility != audience.history_visibility
    }

    /// Makes a session for sending, which this device reads itself.
    pub(crate) fn make_session(&mut self, audience: &Audience) {
        let session = GroupSession::new(SessionConfig::version_1());
        let own = &self.account.account;
        let inbound = InboundSession {
            room_id: audience.room_id.clone(),
            sender: Some(self.user_id.clone()),
            sender_key: own.curve25519_key(),
            sender_ed25519: Some(own.ed25519_key()),
            source: Source::Direct,
            chain: Vec::new(),
            is_backed_up: false,
            is_history_shared: is_shared(&audience.history_visibility),
            shared_by: None,
            session: InboundGroupSession::from(&session),
        };
        self.add_inbound(inbound);
        let outbound = OutboundSession {
            session,
            created_at_ms: self.world.clock.now_ms(),
            message_count: 0,
            history_visibility: audience.history_visibility.clone(),
        };
        self.outbound.sessions.insert(audience.room_id.clone(), outbound);
        self.outbound.shares.insert(audience.room_id.clone(), Share::default());
        self.touch(Table::OutboundSessions, audience.room_id.as_str());
        self.touch(Table::Shares, audience.room_id.as_str());
    }
}

/// Whether those who join later may read what is sent while the history is visible like that.
fn is_shared(history_visibility: &str) -> bool {
    matches!(history_visibility, "shared" | "world_readable")
}
