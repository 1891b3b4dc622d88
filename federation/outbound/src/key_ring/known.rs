//! What is known of one server's keys, and for what each of them is good.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ruma::{CanonicalJsonObject, OwnedServerSigningKeyId, ServerName, serde::Base64, signatures::PublicKeySet};
use storage::ServerKeyRecord;

use super::response::Statement;

/// Keys of one server that are remembered. Servers change theirs every few years.
pub(super) const KEYS_MAX: usize = 100;

/// The keys of one server.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    keys: BTreeMap<OwnedServerSigningKeyId, Key>,
    /// What the server said last, for those who ask us as a notary.
    statement: Option<Arc<Statement>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    bytes: [u8; 32],
    valid_until_ms: u64,
    /// Since when the server does not use it any more.
    expired_ms: Option<u64>,
    from_notary: bool,
}

impl Known {
    pub(super) fn from_records(records: Vec<ServerKeyRecord>) -> Self {
        let keys = records.into_iter().filter_map(|record| {
            let ServerKeyRecord { server, key_id, public_key, valid_until_ts, expired_ts } = record;
            let Ok(public_key) = public_key.try_into() else {
                tracing::error!(%server, %key_id, "a stored key is not 32 bytes long");
                return None;
            };
            let key =
                Key { bytes: public_key, valid_until_ms: valid_until_ts, expired_ms: expired_ts, from_notary: false };
            Some((key_id, key))
        });
        Self { keys: keys.collect(), statement: None }
    }

    /// Adds what storage had to what was learned meanwhile.
    pub(super) fn add_stored(&mut self, stored: Self) {
        for (key_id, key) in stored.keys {
            if self.keys.get(&key_id).is_none_or(|known| known.from_notary) {
                self.keys.insert(key_id, key);
            }
        }
    }

    /// Believes a server about itself: all but that one key id stands for other bytes than before.
    pub(super) fn add_direct(&mut self, statement: Arc<Statement>) {
        for (key_id, key) in from_statement(&statement, false) {
            match self.keys.get(&key_id) {
                Some(known) if !known.from_notary && known.bytes != key.bytes => {
                    tracing::warn!(server = %statement.server, %key_id, "a server uses the name of its key again");
                }
                Some(_) => {
                    self.keys.insert(key_id, key);
                }
                None => self.insert_new(key_id, key),
            }
        }
        self.statement = Some(statement);
    }

    /// Lets a notary add to what it said before; never to what the server said.
    pub(super) fn add_from_notary(&mut self, statement: &Statement) {
        for (key_id, key) in from_statement(statement, true) {
            match self.keys.get(&key_id) {
                Some(known) if known.from_notary && known.bytes == key.bytes => {
                    self.keys.insert(key_id, key);
                }
                Some(_) => {}
                None => self.insert_new(key_id, key),
            }
        }
    }

    fn insert_new(&mut self, key_id: OwnedServerSigningKeyId, key: Key) {
        if self.keys.len() < KEYS_MAX {
            self.keys.insert(key_id, key);
        }
    }

    /// Our own keys: the one in use, and those that were.
    pub(super) fn own(current: (OwnedServerSigningKeyId, [u8; 32]), old: Vec<ServerKeyRecord>) -> Self {
        let mut known = Self::from_records(old);
        let key = Key { bytes: current.1, valid_until_ms: u64::MAX, expired_ms: None, from_notary: false };
        known.keys.insert(current.0, key);
        known
    }

    /// The keys as storage keeps them.
    pub(super) fn records(&self, server: &ServerName) -> Vec<ServerKeyRecord> {
        let stored = self.keys.iter().filter(|(_, key)| !key.from_notary);
        let record = |(key_id, key): (&OwnedServerSigningKeyId, &Key)| ServerKeyRecord {
            server: server.to_owned(),
            key_id: key_id.clone(),
            public_key: key.bytes.to_vec(),
            valid_until_ts: key.valid_until_ms,
            expired_ts: key.expired_ms,
        };
        stored.map(record).collect()
    }

    /// Keys out of use: id, public key, and since when.
    pub(super) fn expired(&self) -> impl Iterator<Item = (&OwnedServerSigningKeyId, &[u8; 32], u64)> {
        self.keys.iter().filter_map(|(key_id, key)| Some((key_id, &key.bytes, key.expired_ms?)))
    }

    /// A key in use, valid now.
    pub(super) fn valid_now(&self, key_id: &OwnedServerSigningKeyId, now_ms: u64) -> Option<[u8; 32]> {
        let key = self.keys.get(key_id)?;
        (key.expired_ms.is_none() && now_ms <= key.valid_until_ms).then_some(key.bytes)
    }

    /// All keys in use that are valid now.
    pub(super) fn all_valid_now(&self, now_ms: u64) -> PublicKeySet {
        let valid = self.keys.iter().filter(|(_, key)| key.expired_ms.is_none() && now_ms <= key.valid_until_ms);
        valid.map(|(key_id, key)| (key_id.to_string(), Base64::new(key.bytes.to_vec()))).collect()
    }

    /// A key that an event of that time may be signed with. Until version 4 of rooms, how long a key says it is valid
    /// does not matter; when it went out of use always does.
    pub(super) fn valid_for_event(
        &self,
        key_id: &OwnedServerSigningKeyId,
        origin_server_ts: u64,
        enforce_validity: bool,
    ) -> Option<[u8; 32]> {
        let key = self.keys.get(key_id)?;
        let valid = match key.expired_ms {
            Some(expired_ms) => origin_server_ts <= expired_ms,
            None => !enforce_validity || origin_server_ts <= key.valid_until_ms,
        };
        valid.then_some(key.bytes)
    }

    /// Whether the server itself has stated these keys, for so long.
    pub(super) fn states(&self, key_ids: &BTreeSet<OwnedServerSigningKeyId>, valid_until_ms: u64) -> bool {
        let Some(statement) = &self.statement else { return false };
        let listed =
            |key_id| statement.verify_keys.contains_key(key_id) || statement.old_verify_keys.contains_key(key_id);
        statement.valid_until_ms >= valid_until_ms && key_ids.iter().all(listed)
    }

    /// What the server said last.
    pub(super) fn statement(&self) -> Option<&CanonicalJsonObject> {
        self.statement.as_ref().map(|statement| &statement.object)
    }
}

fn from_statement(
    statement: &Statement,
    from_notary: bool,
) -> impl Iterator<Item = (OwnedServerSigningKeyId, Key)> + use<'_> {
    let valid_until_ms = statement.valid_until_ms;
    let current = statement.verify_keys.iter().map(move |(key_id, public_key)| {
        (key_id.clone(), Key { bytes: *public_key, valid_until_ms, expired_ms: None, from_notary })
    });
    let old = statement.old_verify_keys.iter().map(move |(key_id, (public_key, expired_ms))| {
        let expired_ms = Some(*expired_ms);
        (key_id.clone(), Key { bytes: *public_key, valid_until_ms: 0, expired_ms, from_notary })
    });
    // A key in both lists is in use.
    old.chain(current)
}
