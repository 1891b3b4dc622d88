//! Olm sessions: what one device encrypts for another.
//! <https://spec.matrix.org/v1.19/client-server-api/#molmv1curve25519-aes-sha2>

mod claim;
mod decrypt;

pub use decrypt::OlmError;
pub(crate) use decrypt::{OlmContent, OlmPayload};

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ruma::{OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use vodozemac::Curve25519PublicKey;
use vodozemac::olm::{OlmMessage, Session, SessionPickle};

use crate::account::OLM;
use crate::devices::Device;
use crate::machine::Machine;
use crate::request::Place;
use crate::signed_json::Object;
use crate::store::Table;

/// Most sessions kept with one device. The spec asks for at least 4; the least recently used goes first.
const SESSIONS_MAX: usize = 8;

/// Most devices with which there are sessions, more than share rooms with anybody: a stranger can make as many devices
/// as they like. Those that we never wrote to go first, and of these the one that was not used for longest; a session
/// that is wanted again is made again.
const PEERS_MAX: usize = 50_000;

/// Most devices of one user that began sessions with us: many more than anybody has in use.
const PEERS_OF_USER_MAX: usize = 200;

/// How many of the last messages of a device are remembered, to tell one that came twice from a broken session.
const SEEN_MAX: usize = 100;

/// Most events that wait for a session with one device.
const WAITING_MAX: usize = 100;

/// One session, and when it was last of use.
#[derive(Serialize, Deserialize)]
struct OlmSession {
    #[serde(serialize_with = "pickle", deserialize_with = "unpickle")]
    session: Session,
    /// When a message was last decrypted with it, or it was made.
    used_at_ms: u64,
    /// Sets apart sessions used in the same millisecond.
    used_order: u64,
}

fn pickle<S: serde::Serializer>(session: &Session, serializer: S) -> Result<S::Ok, S::Error> {
    session.pickle().serialize(serializer)
}

fn unpickle<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Session, D::Error> {
    SessionPickle::deserialize(deserializer).map(Session::from_pickle)
}

/// All sessions with one device.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Peer {
    sessions: Vec<OlmSession>,
    /// Hashes of the last messages that were decrypted.
    seen: VecDeque<[u8; 16]>,
    /// When a new session was last made because the old ones had failed.
    unwedged_at_ms: Option<u64>,
    /// Who began, if it was not us.
    #[serde(default)]
    begun_by: Option<OwnedUserId>,
    /// Whether we ever wrote to it.
    #[serde(default)]
    is_answered: bool,
}

/// The sessions with all devices, by their Curve25519 keys.
#[derive(Default)]
pub(crate) struct OlmSessions {
    peers: BTreeMap<String, Peer>,
    /// Devices for which a session is to be made anew.
    wedged: BTreeMap<Place, Curve25519PublicKey>,
    /// Devices that had no one-time key, and when to ask again.
    retry_at_ms: BTreeMap<Place, u64>,
    /// Events for devices with which a session is being made. In memory: they answer questions, which are asked again.
    waiting: BTreeMap<Place, Vec<(String, Object)>>,
    /// Devices that were told that no session can be made with them.
    unreachable: BTreeSet<Place>,
}

impl OlmSessions {
    pub(crate) fn record(&self, key: &str) -> Option<&Peer> {
        self.peers.get(key)
    }

    pub(crate) fn load(&mut self, key: &str, peer: Peer) {
        self.peers.insert(key.to_owned(), peer);
    }

    /// The sessions with a device, to which a user adds one. What has to go for that is given as well.
    fn peer_to_add_to(&mut self, key: &str, sender: &UserId) -> (&mut Peer, Option<String>) {
        let mut gone = None;
        if !self.peers.contains_key(key) {
            gone = self.peer_in_the_way_of(sender);
            if let Some(gone) = &gone {
                self.peers.remove(gone);
            }
            let begun_by = Some(sender.to_owned());
            self.peers.insert(key.to_owned(), Peer { begun_by, ..Peer::default() });
        }
        (self.peers.entry(key.to_owned()).or_default(), gone)
    }

    /// The device that has to go when a user begins sessions by one more.
    fn peer_in_the_way_of(&self, sender: &UserId) -> Option<String> {
        let is_of_sender = |peer: &Peer| peer.begun_by.as_deref() == Some(sender);
        let of_sender = self.peers.values().filter(|peer| is_of_sender(peer)).count();
        let has_many = of_sender >= PEERS_OF_USER_MAX;
        if !has_many && self.peers.len() < PEERS_MAX {
            return None;
        }
        let candidates = self.peers.iter().filter(|(_, peer)| !has_many || is_of_sender(peer));
        candidates.min_by_key(|(_, peer)| (peer.is_answered, peer.used_at_ms())).map(|(key, _)| key.clone())
    }

    /// Whether a device was not told yet that no session can be made with it.
    pub(crate) fn note_unreachable(&mut self, device: &Device) -> bool {
        self.unreachable.insert((device.user_id.clone(), device.device_id.clone()))
    }

    /// Whether we can encrypt for a device.
    pub(crate) fn has_session(&self, key: Curve25519PublicKey) -> bool {
        self.peers.get(&key.to_base64()).is_some_and(|peer| !peer.sessions.is_empty())
    }
}

impl Peer {
    fn next_order(&self) -> u64 {
        self.sessions.iter().map(|session| session.used_order + 1).max().unwrap_or(0)
    }

    /// Adds a session as the most recent, and forgets the least recent when there are too many.
    fn add(&mut self, session: Session, now_ms: u64) {
        let used_order = self.next_order();
        self.sessions.push(OlmSession { session, used_at_ms: now_ms, used_order });
        self.sessions.sort_by_key(|session| std::cmp::Reverse((session.used_at_ms, session.used_order)));
        self.sessions.truncate(SESSIONS_MAX);
    }

    fn used_at_ms(&self) -> u64 {
        self.sessions.iter().map(|session| session.used_at_ms).max().unwrap_or(0)
    }

    fn see(&mut self, hash: [u8; 16]) {
        self.seen.push_back(hash);
        if self.seen.len() > SEEN_MAX {
            self.seen.pop_front();
        }
    }

    /// The session from which something was last decrypted.
    fn most_recent(&mut self) -> Option<&mut OlmSession> {
        self.sessions.iter_mut().max_by_key(|session| (session.used_at_ms, session.used_order))
    }
}

/// Tells messages apart.
fn hash_of(message: &OlmMessage) -> [u8; 16] {
    let (kind, bytes) = message.to_parts();
    let hash = Sha256::new().chain_update([kind as u8]).chain_update(bytes).finalize();
    let mut short = [0; 16];
    short.copy_from_slice(&hash[..16]);
    short
}

impl Machine {
    /// Encrypts an event for a device, or gives `None` when there is no session with it.
    pub(crate) fn encrypt_for_device(&mut self, device: &Device, event_type: &str, content: &Object) -> Option<Object> {
        let payload = json!({
            "type": event_type,
            "content": content,
            "sender": self.user_id,
            "sender_device_keys": self.device_keys(),
            "recipient": device.user_id,
            "recipient_keys": { "ed25519": device.ed25519.to_base64() },
            "keys": { "ed25519": self.ed25519_key() },
        });
        let peer_key = device.curve25519.to_base64();
        let peer = self.olm.peers.get_mut(&peer_key)?;
        let message = peer.most_recent()?.session.encrypt(payload.to_string()).ok()?;
        peer.is_answered = true;
        self.touch(Table::OlmSessions, peer_key.as_str());
        let (kind, body) = message.to_parts();
        let mut content = Object::new();
        content.insert("algorithm".into(), json!(OLM));
        content.insert("sender_key".into(), json!(self.curve25519_key()));
        content
            .insert("ciphertext".into(), json!({ peer_key: { "type": kind, "body": vodozemac::base64_encode(body) } }));
        Some(content)
    }

    /// Encrypts an event for a device and queues it; where there is no session yet, as soon as there is one.
    pub(crate) fn send_encrypted(&mut self, device: &Device, event_type: &str, content: &Object) {
        let place = (device.user_id.clone(), device.device_id.clone());
        let Some(encrypted) = self.encrypt_for_device(device, event_type, content) else {
            let waiting = self.olm.waiting.entry(place).or_default();
            if waiting.len() < WAITING_MAX {
                waiting.push((event_type.to_owned(), content.clone()));
            }
            self.claim(std::slice::from_ref(device));
            return;
        };
        let messages = [(place, encrypted)];
        self.send_to_devices("m.room.encrypted", &messages, |_| crate::request::Purpose::ToDevice);
    }
}

/// A text of a JSON value.
fn text_of<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value.get(field).and_then(Value::as_str)
}
