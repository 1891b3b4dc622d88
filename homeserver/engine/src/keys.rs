//! The keys of devices: uploading, asking for and claiming them, here and elsewhere.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#end-to-end-encryption>

mod claim;
mod query;
mod resync;

use std::sync::Arc;

use keyserver::{
    CrossSigningKeys, CrossSigningUpload, DeviceListChanges, KeyServer, SignatureFailures, SignedObjects, Upload,
};
use ruma::{DeviceId, UserId};
use storage::KeyCounts;
use tokio::sync::{Notify, OwnedMutexGuard};

pub use self::{claim::ClaimReply, query::KeysReply};
use crate::{Engine, Requester, Result, locks::Locks, sync::SyncToken};

/// The longest that a client waits for other servers, in milliseconds, and how long it does if it does not say.
const TIMEOUT_MAX_MS: u64 = 20_000;
const TIMEOUT_DEFAULT_MS: u64 = 10_000;

/// What this chapter keeps in memory.
pub(crate) struct Keys {
    server: KeyServer,
    /// One change of a user's devices at a time, whoever's user it is.
    users: Locks,
    /// Woken when devices of another server's user are to be asked for.
    missing: Arc<Notify>,
    /// One message with the same transaction id at a time.
    messages: Locks,
}

impl Keys {
    pub(crate) fn new(server: KeyServer) -> Self {
        Self { server, users: Locks::default(), missing: Arc::default(), messages: Locks::default() }
    }

    pub(crate) fn server(&self) -> &KeyServer {
        &self.server
    }

    /// Waits until nobody else sends or receives messages to devices under that id.
    pub(crate) async fn message_turn(&self, id: &str) -> OwnedMutexGuard<()> {
        self.messages.lock(id).await
    }
}

impl Engine {
    /// Takes keys of the asking device, all or none, and says what it has then.
    pub async fn upload_keys(&self, requester: &Requester, upload: Upload) -> Result<KeyCounts> {
        requester.require_device()?;
        let Requester { user_id, device_id, .. } = requester;
        let _turn = self.inner.keys.users.lock(user_id.as_str()).await;
        self.key_server().upload(user_id, device_id, upload).await?;
        self.key_counts(requester).await
    }

    /// Whose devices changed between two points of `/sync`.
    pub async fn key_changes(&self, requester: &Requester, from: &str, to: &str) -> Result<DeviceListChanges> {
        let (from, to) = (SyncToken::parse(from)?, SyncToken::parse(to)?);
        let to = to.position.min(self.storage().head());
        // Nobody knows what a server told that was restored from a backup since: everything may have changed.
        let from = if self.storage().is_lost(from.position) { 0 } else { from.position };
        self.device_lists_since(&requester.user_id, from, to).await
    }

    /// Checks cross-signing keys of the asker, and says whether they have to confirm that it is them.
    pub async fn check_cross_signing(
        &self,
        requester: &Requester,
        keys: CrossSigningKeys,
    ) -> Result<CrossSigningUpload> {
        Ok(self.key_server().check_cross_signing(&requester.user_id, keys).await?)
    }

    /// Stores cross-signing keys of the asker that were checked.
    pub async fn store_cross_signing(&self, requester: &Requester, upload: CrossSigningUpload) -> Result<()> {
        let _turn = self.inner.keys.users.lock(requester.user_id.as_str()).await;
        Ok(self.key_server().store_cross_signing(upload).await?)
    }

    /// Takes signatures of the asker on devices and keys, as far as they fit.
    pub async fn upload_signatures(&self, requester: &Requester, signed: SignedObjects) -> Result<SignatureFailures> {
        let _turn = self.inner.keys.users.lock(requester.user_id.as_str()).await;
        Ok(self.key_server().add_signatures(&requester.user_id, signed).await?)
    }

    /// Waits until nobody else changes what is known of a user's devices.
    pub(crate) async fn device_list_turn(&self, user_id: &UserId) -> OwnedMutexGuard<()> {
        self.inner.keys.users.lock(user_id.as_str()).await
    }

    /// Whoever knows a device is to hear of its new name.
    pub(crate) async fn device_renamed(&self, user_id: &UserId, device_id: &DeviceId) -> Result<()> {
        Ok(self.key_server().device_changed(user_id, device_id).await?)
    }
}
