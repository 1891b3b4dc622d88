//! Reading sessions back from the backup.

use ruma::api::client::backup::get_backup_keys;
use serde::Deserialize;
use vodozemac::pk_encryption::{Message, PkDecryption};

use super::{BackupState, RecoveryKeyError, recovery_key};
use crate::account::MEGOLM;
use crate::inbound::{InboundSession, Source, imported};
use crate::machine::{Machine, object};
use crate::notice::Notice;
use crate::signed_json::Object;
use crate::store::{Held, Table};
use ruma::RoomId;
use std::collections::BTreeMap;

/// A session as it stands in the backup.
#[derive(Deserialize)]
struct SessionData {
    ephemeral: String,
    ciphertext: String,
    mac: String,
}

/// What is sealed in it.
#[derive(Deserialize)]
struct BackedUp {
    algorithm: String,
    #[serde(default)]
    forwarding_curve25519_key_chain: Vec<String>,
    sender_key: String,
    #[serde(default)]
    sender_claimed_keys: BTreeMap<String, String>,
    session_key: String,
    #[serde(default)]
    shared_history: bool,
}

impl Machine {
    /// Takes the backup's key from what the user wrote down, to restore from the backup that [`Machine::use_backup`] was
    /// told of, and to add to it. Returns whether it is the key of that backup.
    pub fn set_recovery_key(&mut self, text: &str) -> Result<Held<bool>, RecoveryKeyError> {
        let secret = recovery_key::decode(text)?;
        let is_taken = self.import_backup_secret(&vodozemac::base64_encode(secret));
        Ok(self.hold(is_taken))
    }

    /// Takes in the sessions of the backup (the answer to `GET /room_keys/keys`). Gives how many were new or better; what
    /// does not open with the key is left out.
    pub fn restore_backup(&mut self, response: &get_backup_keys::v3::Response) -> Held<usize> {
        let Some(key) = self.backup.decryption() else { return self.hold(0) };
        let mut restored = 0;
        for (room_id, room) in &response.rooms {
            for (session_id, data) in &room.sessions {
                let session = object(data).and_then(|data| opened(&key, room_id, session_id, &data));
                if session.is_some_and(|session| self.add_inbound(session)) {
                    restored += 1;
                    self.notices.push(Notice::RoomKey { room_id: room_id.clone(), session_id: session_id.clone() });
                }
            }
        }
        self.hold(restored)
    }

    /// Forgets the backup and its key, for instance because the user deleted it.
    pub fn forget_backup(&mut self) -> Held<()> {
        self.backup = BackupState::default();
        self.touch(Table::Backup, "");
        self.hold(())
    }
}

fn opened(key: &PkDecryption, room_id: &RoomId, session_id: &str, data: &Object) -> Option<InboundSession> {
    let sealed = SessionData::deserialize(data.get("session_data")?).ok()?;
    let message = Message::from_base64(&sealed.ciphertext, &sealed.mac, &sealed.ephemeral).ok()?;
    let plain = key.decrypt(&message).ok()?;
    let plain: BackedUp = serde_json::from_slice(&plain).ok()?;
    if plain.algorithm != MEGOLM {
        return None;
    }
    let ed25519 = plain.sender_claimed_keys.get("ed25519").map(String::as_str);
    let mut session =
        imported(room_id, session_id, &plain.session_key, Some(&plain.sender_key), ed25519, Source::Backup)?;
    session.chain = plain.forwarding_curve25519_key_chain;
    session.is_backed_up = true;
    session.is_history_shared = plain.shared_history;
    Some(session)
}
