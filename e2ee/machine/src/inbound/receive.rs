//! How room keys come: from their senders, from our other devices, or not at all and with a reason.

use std::collections::BTreeMap;

use ruma::{OwnedRoomId, RoomId, UserId};
use serde::{Deserialize, Serialize};
use vodozemac::megolm::{ExportedSessionKey, InboundGroupSession, SessionConfig, SessionKey};
use vodozemac::{Curve25519PublicKey, Ed25519PublicKey};

use super::{InboundSession, Source, record_key};
use crate::Notice;
use crate::account::MEGOLM;
use crate::machine::Machine;
use crate::olm::OlmPayload;
use crate::signed_json::{Object, text};
use crate::store::Table;

/// Most refusals that are remembered: they come from anybody.
const WITHHELD_MAX: usize = 10_000;

/// Most devices through which a key may have been passed on.
const CHAIN_MAX: usize = 100;

/// Why a key was refused to us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithheldCode(pub String);

/// The refusals, by room and session.
#[derive(Default)]
pub(crate) struct Withholdings {
    codes: BTreeMap<String, WithheldCode>,
}

impl Withholdings {
    pub(super) fn remove(&mut self, room_id: &str, session_id: &str) {
        self.codes.remove(&record_key(room_id, session_id));
    }

    pub(super) fn get(&self, room_id: &RoomId, session_id: &str) -> Option<&WithheldCode> {
        self.codes.get(&record_key(room_id.as_str(), session_id))
    }
}

impl super::InboundSessions {
    pub(crate) fn withheld_record(&self, key: &str) -> Option<&WithheldCode> {
        self.withheld.codes.get(key)
    }

    pub(crate) fn load_withheld(&mut self, key: &str, code: WithheldCode) {
        self.withheld.codes.insert(key.to_owned(), code);
    }
}

impl Machine {
    /// `m.room_key` from a device.
    pub(crate) fn receive_room_key(&mut self, payload: &OlmPayload) {
        let Some((room_id, session_id, key)) = session_of(&payload.content) else { return };
        let Ok(key) = SessionKey::from_base64(key) else { return };
        let session = InboundGroupSession::new(&key, SessionConfig::version_1());
        if session.session_id() != session_id {
            return;
        }
        let new = InboundSession {
            room_id: room_id.clone(),
            sender: Some(payload.sender.clone()),
            sender_key: payload.sender_key,
            sender_ed25519: Some(payload.sender_ed25519),
            source: Source::Direct,
            chain: Vec::new(),
            is_backed_up: false,
            is_history_shared: payload.content.get("shared_history") == Some(&true.into()),
            shared_by: None,
            session,
        };
        let session_id = session_id.to_owned();
        if self.add_inbound(new) {
            self.notices.push(Notice::RoomKey { room_id: room_id.clone(), session_id: session_id.clone() });
        }
        self.cancel_key_request(&room_id, &session_id);
    }

    /// `m.forwarded_room_key`: only what we asked for, and only from a verified device of our own.
    pub(crate) fn receive_forwarded_key(&mut self, payload: &OlmPayload) {
        let Some((room_id, session_id, key)) = session_of(&payload.content) else { return };
        let is_ours = payload.sender == self.user_id;
        let device = self.users.device_with_key(&payload.sender, payload.sender_key);
        let is_verified =
            device.is_some_and(|device| device.ed25519 == payload.sender_ed25519 && self.is_verified(device));
        if !is_ours || !is_verified || !self.key_requests.is_open(&room_id, session_id) {
            return;
        }
        let chain = payload.content.get("forwarding_curve25519_key_chain").and_then(serde_json::Value::as_array);
        let chain = chain.into_iter().flatten().filter_map(|key| key.as_str().map(str::to_owned)).take(CHAIN_MAX);
        let mut chain: Vec<String> = chain.collect();
        chain.push(payload.sender_key.to_base64());
        let claimed = text(&payload.content, "sender_claimed_ed25519_key");
        let new = imported(&room_id, session_id, key, text(&payload.content, "sender_key"), claimed, Source::Forwarded);
        let Some(mut new) = new else { return };
        new.chain = chain;
        let session_id = session_id.to_owned();
        if self.add_inbound(new) {
            self.notices.push(Notice::RoomKey { room_id: room_id.clone(), session_id: session_id.clone() });
            self.cancel_key_request(&room_id, &session_id);
        }
    }

    /// `m.room_key.withheld`: somebody will not give us a key. It is not encrypted, so that it proves nothing; it is
    /// only shown where the key is missing.
    pub(crate) fn receive_withheld(&mut self, sender: &UserId, content: &Object) {
        let is_known =
            ["m.blacklisted", "m.unverified", "m.unauthorised", "m.unavailable", "m.no_olm", "m.history_not_shared"];
        let Some(code) = text(content, "code").filter(|code| is_known.contains(code)) else { return };
        let room_id = text(content, "room_id").and_then(|id| OwnedRoomId::try_from(id).ok());
        let (Some(room_id), Some(session_id)) = (room_id, text(content, "session_id")) else {
            // They could not begin a session with us: we begin one with them.
            let sender_key = text(content, "sender_key").and_then(|key| Curve25519PublicKey::from_base64(key).ok());
            if let Some(sender_key) = sender_key.filter(|_| code == "m.no_olm") {
                self.mark_wedged(sender, sender_key);
            }
            return;
        };
        let is_full = self.inbound.withheld.codes.len() >= WITHHELD_MAX;
        if is_full || !self.inbound.claimants(&room_id, session_id).is_empty() {
            return;
        }
        let key = record_key(room_id.as_str(), session_id);
        self.inbound.withheld.codes.insert(key.clone(), WithheldCode(code.to_owned()));
        self.touch(Table::Withheld, key);
        let (sender, session_id) = (sender.to_owned(), session_id.to_owned());
        self.notices.push(Notice::RoomKeyWithheld { sender, room_id, session_id, code: WithheldCode(code.to_owned()) });
    }
}

/// Room, session id and key in the content of a key event for Megolm.
fn session_of(content: &Object) -> Option<(OwnedRoomId, &str, &str)> {
    text(content, "algorithm").filter(|algorithm| *algorithm == MEGOLM)?;
    let room_id = OwnedRoomId::try_from(text(content, "room_id")?).ok()?;
    Some((room_id, text(content, "session_id")?, text(content, "session_key")?))
}

/// A session that somebody else than its sender gave. `None` when it is not what it is called.
pub(crate) fn imported(
    room_id: &RoomId,
    session_id: &str,
    key: &str,
    sender_key: Option<&str>,
    sender_ed25519: Option<&str>,
    source: Source,
) -> Option<InboundSession> {
    let key = ExportedSessionKey::from_base64(key).ok()?;
    let session = InboundGroupSession::import(&key, SessionConfig::version_1());
    let is_it = session.session_id() == session_id;
    is_it.then_some(())?;
    Some(InboundSession {
        room_id: room_id.to_owned(),
        sender: None,
        sender_key: Curve25519PublicKey::from_base64(sender_key?).ok()?,
        sender_ed25519: sender_ed25519.and_then(|key| Ed25519PublicKey::from_base64(key).ok()),
        source,
        chain: Vec::new(),
        is_backed_up: false,
        is_history_shared: false,
        shared_by: None,
        session,
    })
}
