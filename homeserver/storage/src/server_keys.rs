//! Signing keys of other servers.

use ruma::{OwnedServerName, OwnedServerSigningKeyId, ServerName};

use crate::{Result, Storage};

/// A signing key of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerKeyRecord {
    /// Whose it is.
    pub server: OwnedServerName,
    /// Its id.
    pub key_id: OwnedServerSigningKeyId,
    /// The public key's bytes.
    pub public_key: Vec<u8>,
    /// Until when the server says it is valid, in milliseconds since the epoch.
    pub valid_until_ts: u64,
    /// For a key that the server does not use any more: since when, in milliseconds since the epoch.
    pub expired_ts: Option<u64>,
}

impl Storage {
    /// All known keys of a server.
    pub async fn server_keys(&self, server: &ServerName) -> Result<Vec<ServerKeyRecord>> {
        todo!()
    }

    /// Stores keys, or moves the validity of known ones. The bytes of a known key id are never replaced: a record with
    /// other bytes is ignored.
    pub async fn store_server_keys(&self, keys: &[ServerKeyRecord]) -> Result<()> {
        todo!()
    }
}
