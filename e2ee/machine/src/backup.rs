//! The key backup on the server: <https://spec.matrix.org/v1.19/client-server-api/#server-side-key-backups>.
//!
//! Its algorithm authenticates nothing: whoever knows the public key can put sessions in it. What is restored from it is
//! therefore never taken as proof of who sent an event.

pub(crate) mod recovery_key;
mod restore;

pub use recovery_key::RecoveryKeyError;

use std::collections::{BTreeMap, BTreeSet};

use ruma::OwnedRoomId;
use ruma::api::client::backup::{RoomKeyBackup, add_backup_keys, create_backup_version};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use vodozemac::Curve25519SecretKey;
use vodozemac::pk_encryption::{PkDecryption, PkEncryption};

use crate::account::MEGOLM;
use crate::cross_signing::MASTER;
use crate::inbound::{InboundSession, Source, record_key};
use crate::machine::{Machine, raw};
use crate::notice::Notice;
use crate::request::{Purpose, RequestBody};
use crate::signed_json::{self, Object, text};
use crate::store::{Held, Table};

/// The algorithm of the backup.
const ALGORITHM: &str = "m.megolm_backup.v1.curve25519-aes-sha2";

/// Most sessions in one request.
const SESSIONS_PER_REQUEST: usize = 100;

/// How long nothing is backed up after the server refused.
const RETRY_AFTER_MS: u64 = 5 * 60 * 1000;

/// The backup that this device adds to, and its secret.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct BackupState {
    /// The private key.
    secret: Option<[u8; 32]>,
    /// The version on the server, once it is known to have our public key.
    version: Option<String>,
    /// The public key of the version on the server, before we have its secret.
    offered: Option<(String, String)>,
    #[serde(skip)]
    retry_at_ms: u64,
}

impl BackupState {
    /// The private key as a secret is passed on: unpadded base64.
    pub(crate) fn secret(&self) -> Option<String> {
        self.secret.map(vodozemac::base64_encode)
    }

    fn decryption(&self) -> Option<PkDecryption> {
        self.secret.map(|secret| PkDecryption::from_key(Curve25519SecretKey::from_slice(&secret)))
    }
}

impl Machine {
    /// Makes a new backup with a new key, and asks for it. Gives the recovery key, for the user to keep. Sessions follow
    /// when the server has it.
    pub fn create_backup(&mut self) -> Held<String> {
        let secret = *Curve25519SecretKey::new().to_bytes();
        self.backup = BackupState { secret: Some(secret), ..BackupState::default() };
        let public_key = PkDecryption::from_key(Curve25519SecretKey::from_slice(&secret)).public_key();
        let mut auth_data = Object::new();
        auth_data.insert("public_key".into(), json!(public_key.to_base64()));
        self.sign(&mut auth_data);
        self.sign_with_master(&mut auth_data);
        let mut algorithm = Object::new();
        algorithm.insert("algorithm".into(), json!(ALGORITHM));
        algorithm.insert("auth_data".into(), Value::Object(auth_data));
        self.ask(
            Purpose::BackupCreate,
            RequestBody::BackupCreate(create_backup_version::v3::Request::new(raw(algorithm))),
        );
        self.touch(Table::Backup, "");
        self.mark_all_for_backup();
        self.hold(recovery_key::encode(&secret))
    }

    fn sign_with_master(&self, object: &mut Object) {
        let Some(master) = self.usable_key(MASTER) else { return };
        let name = format!("ed25519:{}", master.public_key().to_base64());
        signed_json::sign(object, &self.user_id, &name, |text| master.sign(text));
    }

    /// The version of the backup that this device adds to.
    pub fn backup_version(&self) -> Option<&str> {
        self.backup.version.as_deref()
    }

    pub(crate) fn receive_backup_created(&mut self, version: &str) {
        self.backup.version = Some(version.to_owned());
        self.touch(Table::Backup, "");
    }

    pub(crate) fn receive_backup_refused(&mut self) {
        self.backup = BackupState::default();
        self.touch(Table::Backup, "");
    }

    pub(crate) fn postpone_backup(&mut self) {
        self.backup.retry_at_ms = self.world.clock.now_ms() + RETRY_AFTER_MS;
    }

    /// What the server says the current backup is (the content of `GET /room_keys/version`). Sessions are added to it
    /// only when its public key is that of the secret that this device has. Returns whether they are.
    pub fn use_backup(&mut self, version: &str, algorithm: &str, auth_data: &Object) -> Held<bool> {
        let public_key = text(auth_data, "public_key").unwrap_or_default();
        let ours = self.backup.decryption().map(|key| key.public_key().to_base64());
        let is_ours = algorithm == ALGORITHM && ours.as_deref() == Some(public_key);
        if !is_ours {
            self.backup.offered = (algorithm == ALGORITHM).then(|| (version.to_owned(), public_key.to_owned()));
            self.backup.version = None;
            self.notices.push(Notice::BackupUnusable { version: version.to_owned() });
        } else if self.backup.version.as_deref() != Some(version) {
            self.backup.version = Some(version.to_owned());
            self.mark_all_for_backup();
        }
        self.touch(Table::Backup, "");
        self.hold(is_ours)
    }

    /// Takes the key of the backup from another device of ours, if it is the key of the one on the server.
    pub(crate) fn import_backup_secret(&mut self, secret: &str) -> bool {
        let secret = vodozemac::base64_decode(secret).ok().and_then(|secret| <[u8; 32]>::try_from(secret).ok());
        let (Some(secret), Some((version, public_key))) = (secret, self.backup.offered.clone()) else { return false };
        let key = PkDecryption::from_key(Curve25519SecretKey::from_slice(&secret));
        if key.public_key().to_base64() != public_key {
            return false;
        }
        self.backup = BackupState { secret: Some(secret), version: Some(version), ..BackupState::default() };
        self.touch(Table::Backup, "");
        self.mark_all_for_backup();
        true
    }

    fn mark_all_for_backup(&mut self) {
        let mut changed = Vec::new();
        for session in self.inbound.all_mut().filter(|session| session.is_backed_up) {
            session.is_backed_up = false;
            changed.push(record_key(session.room_id.as_str(), &session.session.session_id()));
        }
        for key in changed {
            self.touch(Table::InboundSessions, key);
        }
    }

    /// Asks for the upload of sessions that are not in the backup.
    pub(crate) fn want_backup(&mut self) {
        let is_under_way = self.is_pending(|purpose| matches!(purpose, Purpose::BackupKeys(_)));
        let (Some(version), Some(key)) = (self.backup.version.clone(), self.backup.decryption()) else { return };
        if is_under_way || self.world.clock.now_ms() < self.backup.retry_at_ms {
            return;
        }
        let key = PkEncryption::from_key(key.public_key());
        let mut rooms: BTreeMap<OwnedRoomId, RoomKeyBackup> = BTreeMap::new();
        let mut included = BTreeSet::new();
        for session in self.inbound.all().filter(|session| !session.is_backed_up).take(SESSIONS_PER_REQUEST) {
            let session_id = session.session.session_id();
            let Some(data) = self.backup_data(session, &key) else { continue };
            included.insert(record_key(session.room_id.as_str(), &session_id));
            let room = rooms.entry(session.room_id.clone()).or_insert_with(|| RoomKeyBackup::new(BTreeMap::new()));
            room.sessions.entry(session_id).or_insert_with(|| raw(data));
        }
        if !included.is_empty() {
            let request = add_backup_keys::v3::Request::new(version, rooms);
            self.ask(Purpose::BackupKeys(included), RequestBody::BackupKeys(request));
        }
    }

    fn backup_data(&self, session: &InboundSession, key: &PkEncryption) -> Option<Object> {
        let data = json!({
            "algorithm": MEGOLM,
            "forwarding_curve25519_key_chain": session.chain,
            "sender_key": session.sender_key.to_base64(),
            "sender_claimed_keys": session.sender_ed25519.map(|key| json!({ "ed25519": key.to_base64() })).unwrap_or(json!({})),
            "session_key": session.session.export_at_first_known_index().to_base64(),
            "shared_history": session.is_history_shared,
        });
        let sealed = key.encrypt(data.to_string().as_bytes()).ok()?;
        let sender =
            session.sender.as_ref().and_then(|user_id| self.users.device_with_key(user_id, session.sender_key));
        let is_own = session.sender_key == self.account.account.curve25519_key();
        let is_verified =
            session.source == Source::Direct && (is_own || sender.is_some_and(|device| self.is_verified(device)));
        let data = json!({
            "first_message_index": session.session.first_known_index(),
            "forwarded_count": session.chain.len(),
            "is_verified": is_verified,
            "session_data": {
                "ephemeral": sealed.ephemeral_key.to_base64(),
                "ciphertext": vodozemac::base64_encode(sealed.ciphertext),
                "mac": vodozemac::base64_encode(sealed.mac),
            },
        });
        data.as_object().cloned()
    }

    /// The server has these sessions.
    pub(crate) fn receive_backed_up(&mut self, keys: &BTreeSet<String>) {
        for session in self.inbound.all_mut() {
            let key = record_key(session.room_id.as_str(), &session.session.session_id());
            session.is_backed_up |= keys.contains(&key);
        }
        for key in keys {
            self.touch(Table::InboundSessions, key.as_str());
        }
    }
}
