//! Megolm sessions that others (and we) send with: how they come, which is better, and where they are from.
//! <https://spec.matrix.org/v1.19/client-server-api/#mmegolmv1aes-sha2>

mod bundle;
mod decrypt;
mod receive;

pub use decrypt::{DecryptError, Decrypted, Verdict};
pub use receive::WithheldCode;

pub(crate) use decrypt::session_id_of;
pub(crate) use receive::imported;

use std::collections::BTreeMap;

use ruma::{OwnedRoomId, OwnedUserId, RoomId};
use serde::{Deserialize, Serialize};
use vodozemac::megolm::{InboundGroupSession, InboundGroupSessionPickle, SessionOrdering};
use vodozemac::{Curve25519PublicKey, Ed25519PublicKey};

use crate::machine::Machine;
use crate::store::Table;

/// Most sessions of one id in a room: one is honest, each more is somebody's who gives another's session for theirs.
const CLAIMANTS_MAX: usize = 4;

/// Where a session came from, which decides how much its events prove.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Source {
    /// From the device that sends with it, over Olm (or made here).
    Direct,
    /// From another device of ours.
    Forwarded,
    /// From the key backup, which anybody who knows its public key can add to.
    Backup,
    /// From somebody who has invited us, with what was said before.
    Bundle,
}

/// A session for receiving.
#[derive(Serialize, Deserialize)]
pub(crate) struct InboundSession {
    pub(crate) room_id: OwnedRoomId,
    /// Who sends with it, where it came from the sender directly.
    pub(crate) sender: Option<OwnedUserId>,
    /// The Curve25519 key of the device that sends with it.
    pub(crate) sender_key: Curve25519PublicKey,
    /// The Ed25519 key that this device says it has.
    pub(crate) sender_ed25519: Option<Ed25519PublicKey>,
    pub(crate) source: Source,
    /// Which devices passed it on.
    pub(crate) chain: Vec<String>,
    /// Whether it is in the current key backup.
    pub(crate) is_backed_up: bool,
    /// Whether who sends with it knew that those who join later may read it.
    #[serde(default)]
    pub(crate) is_history_shared: bool,
    /// Whose word for its origin is all there is, if it came out of a bundle.
    #[serde(default)]
    pub(crate) shared_by: Option<OwnedUserId>,
    #[serde(serialize_with = "pickle", deserialize_with = "unpickle")]
    pub(crate) session: InboundGroupSession,
}

fn pickle<S: serde::Serializer>(session: &InboundGroupSession, serializer: S) -> Result<S::Ok, S::Error> {
    session.pickle().serialize(serializer)
}

fn unpickle<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<InboundGroupSession, D::Error> {
    InboundGroupSessionPickle::deserialize(deserializer).map(InboundGroupSession::from_pickle)
}

/// The sessions for receiving, which events were decrypted with them, and which were refused to us.
#[derive(Default)]
pub(crate) struct InboundSessions {
    /// By room, session id and sender key: whoever has a session can pass it off as theirs, so that one does not
    /// displace another's.
    sessions: BTreeMap<(String, String), Vec<InboundSession>>,
    replays: decrypt::Replays,
    withheld: receive::Withholdings,
}

/// A session's record, which is that of all who claim its id.
pub(crate) fn record_key(room_id: &str, session_id: &str) -> String {
    format!("{room_id}|{session_id}")
}

impl InboundSessions {
    pub(crate) fn record(&self, key: &str) -> Option<&Vec<InboundSession>> {
        let (room_id, session_id) = key.rsplit_once('|')?;
        self.sessions.get(&(room_id.to_owned(), session_id.to_owned()))
    }

    pub(crate) fn load(&mut self, sessions: Vec<InboundSession>) {
        if let Some(first) = sessions.first() {
            let key = (first.room_id.to_string(), first.session.session_id());
            self.sessions.insert(key, sessions);
        }
    }

    /// The sessions of an id, of whatever sender.
    pub(crate) fn claimants(&self, room_id: &RoomId, session_id: &str) -> &[InboundSession] {
        self.sessions.get(&(room_id.to_string(), session_id.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// All sessions, in the order of rooms.
    pub(crate) fn all(&self) -> impl Iterator<Item = &InboundSession> {
        self.sessions.values().flatten()
    }

    /// Changes every session; the caller says which by marking records.
    pub(crate) fn all_mut(&mut self) -> impl Iterator<Item = &mut InboundSession> {
        self.sessions.values_mut().flatten()
    }
}

impl Machine {
    /// Whether a session may be given to somebody who joins the room later: its sender has said so to us, or to who
    /// backed it up.
    ///
    /// Spec: <https://spec.matrix.org/v1.19/client-server-api/#shareable-encryption-sessions>
    pub fn is_history_shared(&self, room_id: &RoomId, session_id: &str) -> bool {
        let claimants = self.inbound.claimants(room_id, session_id);
        !claimants.is_empty() && claimants.iter().all(|session| session.is_history_shared)
    }

    /// Takes in a session: keeps it if it is new, or better than what is there. Returns whether anything can be decrypted
    /// now that could not before.
    pub(crate) fn add_inbound(&mut self, new: InboundSession) -> bool {
        let (room_id, session_id) = (new.room_id.to_string(), new.session.session_id());
        let claimants = self.inbound.sessions.entry((room_id.clone(), session_id.clone())).or_default();
        let has_room = claimants.len() < CLAIMANTS_MAX;
        let is_better = match claimants.iter_mut().find(|known| known.sender_key == new.sender_key) {
            Some(known) => known.improve(new),
            None if has_room => {
                claimants.push(new);
                true
            }
            None => false,
        };
        if is_better {
            self.touch(Table::InboundSessions, record_key(&room_id, &session_id));
            self.inbound.withheld.remove(&room_id, &session_id);
            self.touch(Table::Withheld, record_key(&room_id, &session_id));
        }
        is_better
    }
}

impl InboundSession {
    /// Takes what is better about another session of the same id and sender. Returns whether anything was.
    fn improve(&mut self, mut new: InboundSession) -> bool {
        let is_authenticated = new.source == Source::Direct && self.source != Source::Direct;
        match new.session.compare(&mut self.session) {
            // The same session from an earlier message on: the index counts, and the better origin of both.
            SessionOrdering::Better => {
                let Some(merged) = self.session.merge(&mut new.session) else { return false };
                self.session = merged;
                self.is_backed_up = false;
            }
            SessionOrdering::Equal | SessionOrdering::Worse if !is_authenticated => return false,
            SessionOrdering::Equal | SessionOrdering::Worse => {}
            // Another session of the same id. Only what comes from the sender itself displaces what did not.
            SessionOrdering::Unconnected if is_authenticated => {
                *self = new;
                return true;
            }
            SessionOrdering::Unconnected => return false,
        }
        if is_authenticated {
            self.source = Source::Direct;
            self.sender = new.sender;
            self.sender_ed25519 = new.sender_ed25519;
            self.is_history_shared = new.is_history_shared;
            self.shared_by = None;
            self.chain = Vec::new();
        }
        true
    }
}
