//! x
use std::collections::BTreeMap;

use ruma::{
    CanonicalJsonObject, OwnedServerName, OwnedServerSigningKeyId, ServerName,
    room_version_rules::RoomVersionRules,
    signatures::{VerificationError, Verified},
};
use storage::StorageError;

/// What a notary is asked: per server the ids of keys, each with the `minimum_valid_until_ts`; all keys if empty.
pub type KeyQueries = BTreeMap<OwnedServerName, BTreeMap<OwnedServerSigningKeyId, u64>>;

/// Why a signature is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// None of the keys that it is signed with is known and valid, and none is to be had now.
    #[error("no valid key of {0} for this signature is to be had")]
    NoKey(OwnedServerName),
    /// The signature is wrong or missing, or what is signed is not of the right form.
    #[error(transparent)]
    Signature(#[from] VerificationError),
    /// The stored keys cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The keys of other servers, and our own.
#[derive(Clone)]
pub struct KeyRing {}

impl KeyRing {
    /// Checks the signatures and the content hash of an event, fetching keys as needed.
    pub async fn verify_event(
        &self,
        object: &CanonicalJsonObject,
        rules: &RoomVersionRules,
    ) -> Result<Verified, VerifyError> {
        todo!()
    }

    /// Fetches the keys for a batch of events, of all servers at once.
    pub async fn prefetch<'a>(
        &self,
        objects: impl IntoIterator<Item = &'a CanonicalJsonObject> + Send,
        rules: &RoomVersionRules,
    ) {
        todo!()
    }

    /// Checks the signature of a server on a JSON object that is not an event, as of now.
    pub async fn verify_json(&self, server: &ServerName, object: &CanonicalJsonObject) -> Result<(), VerifyError> {
        todo!()
    }

    /// Our answer to `GET /_matrix/key/v2/server`, signed.
    pub async fn server_keys_response(&self) -> Result<CanonicalJsonObject, StorageError> {
        todo!()
    }

    /// Our answer to `POST /_matrix/key/v2/query` and its relatives: the `server_keys`, signed by us as well.
    pub async fn notary_response(&self, queries: KeyQueries) -> Result<Vec<CanonicalJsonObject>, StorageError> {
        todo!()
    }
}
