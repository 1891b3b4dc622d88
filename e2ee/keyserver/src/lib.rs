//! What the server keeps and hands out for devices: their public keys, who signed them, one-time keys, messages from
//! device to device, and encrypted backups. It never decrypts anything, and never sees a private key.
//!
//! [`KeyServer`] checks, decides and commits; it makes no calls to other servers. What others answer comes in as
//! arguments, and what they are to be sent goes out by the log.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#end-to-end-encryption>

mod backups;
mod changes;
mod claim;
mod cross_signing;
mod dehydrated;
mod device_keys;
mod error;
mod query;
mod remote;
mod signatures;
mod to_device;
mod upload;
mod verify;

use rules::{Change, world::World};
use ruma::OwnedServerName;
use storage::{Storage, Submission};

pub use self::{
    backups::{BackupKeys, BackupVersion, KeyCountAndEtag, NewBackup},
    changes::{DeviceListChanges, RoomsSince},
    claim::ClaimedKeys,
    cross_signing::{CrossSigningKeys, CrossSigningUpload},
    dehydrated::NewDehydratedDevice,
    error::{KeyError, Result},
    query::{QueriedKeys, Viewer},
    remote::{Begun, DeviceListUpdateContent, RemoteDevice, RemoteDevices, SigningKeyUpdateContent, UpdateOutcome},
    signatures::{SignatureFailure, SignatureFailures, SignedObjects},
    to_device::{DirectToDeviceContent, Messages},
    upload::Upload,
};

/// The key server. Cheap to clone.
#[derive(Clone)]
pub struct KeyServer {
    storage: Storage,
    world: World,
    server_name: OwnedServerName,
}

impl KeyServer {
    /// Starts nothing.
    pub fn new(storage: Storage, world: World, server_name: OwnedServerName) -> Self {
        Self { storage, world, server_name }
    }

    fn is_local(&self, user_id: &ruma::UserId) -> bool {
        user_id.server_name() == self.server_name
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        self.storage.commit(Submission { room: None, changes }).await?;
        Ok(())
    }
}
