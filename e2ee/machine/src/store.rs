//! What the machine must find again after a restart: records, sealed before they leave it.
//!
//! A record has a table, a key and bytes. The machine seals both the bytes and the key, so that whoever reads the store
//! learns how many records there are and how large, and no more. All that one step of the machine changes is one
//! [`Batch`], to be kept whole or not at all.

mod file;
mod vault;

pub use file::{FileStore, FileStoreError};
pub use vault::{StoreKey, StoreKeyError};

pub(crate) use vault::Vault;

use std::collections::BTreeMap;

/// The tables of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Who this device is, its account, where it stands in the sync.
    Account,
    /// A user: devices and cross-signing keys, and whether they are up to date.
    Users,
    /// The Olm sessions with one device, by its Curve25519 key.
    OlmSessions,
    /// A room's settings of encryption.
    Rooms,
    /// A room's Megolm session for sending.
    OutboundSessions,
    /// Who has the key of a room's session for sending.
    Shares,
    /// Megolm sessions for receiving, by room and session.
    InboundSessions,
    /// Which event was decrypted at which index of a session.
    Replays,
    /// Keys that somebody refused to give us.
    Withheld,
    /// Our private cross-signing keys, and what we trust.
    CrossSigning,
    /// The key backup.
    Backup,
}

impl Table {
    /// Every table, in a fixed order.
    pub(crate) const ALL: [Self; 11] = [
        Self::Account,
        Self::Users,
        Self::OlmSessions,
        Self::Rooms,
        Self::OutboundSessions,
        Self::Shares,
        Self::InboundSessions,
        Self::Replays,
        Self::Withheld,
        Self::CrossSigning,
        Self::Backup,
    ];

    /// The name under which an owner may keep it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Users => "users",
            Self::OlmSessions => "olm_sessions",
            Self::Rooms => "rooms",
            Self::OutboundSessions => "outbound_sessions",
            Self::Shares => "shares",
            Self::InboundSessions => "inbound_sessions",
            Self::Replays => "replays",
            Self::Withheld => "withheld",
            Self::CrossSigning => "cross_signing",
            Self::Backup => "backup",
        }
    }

    /// The table with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }
}

/// One change of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The table.
    pub table: Table,
    /// The key, a hexadecimal text that says nothing.
    pub key: String,
    /// The sealed bytes to keep, or `None` to delete the record.
    pub bytes: Option<Vec<u8>>,
}

/// Changes to keep together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The changes; no two of them are of the same record.
    pub changes: Vec<Change>,
}

/// A record as it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The table.
    pub table: Table,
    /// The key.
    pub key: String,
    /// The sealed bytes.
    pub bytes: Vec<u8>,
}

/// A place that keeps records. It need not understand them.
pub trait Store {
    /// What can go wrong.
    type Error: std::error::Error;

    /// Makes all changes durable, or none.
    fn apply(&mut self, batch: &Batch) -> Result<(), Self::Error>;

    /// Every record, in any order.
    fn records(&self) -> Result<Vec<Record>, Self::Error>;
}

/// A store in memory, for tests and for devices that are to be forgotten. A clone is what a crash would leave.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    records: BTreeMap<(Table, String), Vec<u8>>,
}

impl Store for MemoryStore {
    type Error = std::convert::Infallible;

    fn apply(&mut self, batch: &Batch) -> Result<(), Self::Error> {
        for change in &batch.changes {
            let place = (change.table, change.key.clone());
            match &change.bytes {
                Some(bytes) => self.records.insert(place, bytes.clone()),
                None => self.records.remove(&place),
            };
        }
        Ok(())
    }

    fn records(&self) -> Result<Vec<Record>, Self::Error> {
        let record = |((table, key), bytes): (&(Table, String), &Vec<u8>)| Record {
            table: *table,
            key: key.clone(),
            bytes: bytes.clone(),
        };
        Ok(self.records.iter().map(record).collect())
    }
}

/// Something that must not be used before a batch is durable: a request to send, an encrypted event, a decrypted one.
///
/// This is how the machine keeps from encrypting twice with the same state of a ratchet after a crash.
#[derive(Debug)]
#[must_use = "keep the batch, then take the value"]
pub struct Held<T> {
    batch: Batch,
    value: T,
}

impl<T> Held<T> {
    pub(crate) fn new(batch: Batch, value: T) -> Self {
        Self { batch, value }
    }

    /// What to make durable first.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// The value, for an owner who has made the batch durable. When that failed, the machine must be dropped and loaded
    /// anew: it is ahead of its store.
    pub fn after_stored(self) -> T {
        self.value
    }

    /// Keeps the batch in `store`, then gives the value.
    pub fn store_in<S: Store>(self, store: &mut S) -> Result<T, S::Error> {
        if !self.batch.changes.is_empty() {
            store.apply(&self.batch)?;
        }
        Ok(self.value)
    }
}
