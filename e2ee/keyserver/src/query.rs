//! `POST /keys/query`: the keys of devices and users, as far as they are stored here, with the signatures that whoever
//! asks may see.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keysquery>

use std::collections::BTreeMap;

use rules::keys::{shown, shown_of_device};
use ruma::{OwnedDeviceId, OwnedUserId, UserId};
use serde_json::value::RawValue;
use storage::KeySignatureRecord;

use crate::{KeyServer, Result, cross_signing::public_part};

/// Keys by user and device, or by user.
#[derive(Debug, Default)]
pub struct QueriedKeys {
    /// Of devices.
    pub device_keys: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, Box<RawValue>>>,
    /// Master keys.
    pub master_keys: BTreeMap<OwnedUserId, Box<RawValue>>,
    /// Self-signing keys.
    pub self_signing_keys: BTreeMap<OwnedUserId, Box<RawValue>>,
    /// User-signing keys.
    pub user_signing_keys: BTreeMap<OwnedUserId, Box<RawValue>>,
}

/// Who asks for keys.
#[derive(Clone, Copy, Debug)]
pub enum Viewer<'a> {
    /// A local user.
    User(&'a UserId),
    /// Another server.
    Server {
        /// Whether it is told the names of devices.
        names: bool,
    },
}

impl Viewer<'_> {
    fn user_id(&self) -> Option<&UserId> {
        match self {
            Self::User(user_id) => Some(user_id),
            Self::Server { .. } => None,
        }
    }

    fn sees_names(self) -> bool {
        matches!(self, Self::User(_) | Self::Server { names: true })
    }
}

impl KeyServer {
    /// The stored keys of these users; of all their devices where none are named. Local users without keys are there
    /// with nothing, all others without keys are left out.
    pub async fn query(
        &self,
        asked: &BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>,
        viewer: Viewer<'_>,
    ) -> Result<QueriedKeys> {
        let users: Vec<OwnedUserId> = asked.keys().cloned().collect();
        let signatures = self.storage.key_signatures(&users, viewer.user_id()).await?;
        let mut by_target: BTreeMap<(&UserId, &str), Vec<&KeySignatureRecord>> = BTreeMap::new();
        for signature in &signatures {
            let target = (&*signature.target_user_id, signature.target_id.as_str());
            by_target.entry(target).or_default().push(signature);
        }
        let signatures_of = |user_id: &UserId, target_id: &str| {
            let signatures = by_target.get(&(user_id, target_id)).into_iter().flatten();
            signatures.map(|one| (one.signer.as_str(), one.key_id.as_str(), one.signature.as_str())).collect::<Vec<_>>()
        };
        let mut found = QueriedKeys::default();
        for record in self.storage.device_keys(&users).await? {
            let wanted =
                asked.get(&record.user_id).is_some_and(|ids| ids.is_empty() || ids.contains(&record.device_id));
            let name = record.display_name.as_deref().filter(|_| viewer.sees_names());
            let signatures = signatures_of(&record.user_id, record.device_id.as_str());
            if let Some(keys) = shown_of_device(&record.keys, signatures, name).filter(|_| wanted) {
                found.device_keys.entry(record.user_id).or_default().insert(record.device_id, keys);
            }
        }
        for record in self.storage.cross_signing_keys(&users).await? {
            let target_id = public_part(&record.key).unwrap_or_default();
            let Some(key) = shown(&record.key, signatures_of(&record.user_id, &target_id)) else { continue };
            let keys = match record.usage.as_str() {
                "master" => &mut found.master_keys,
                "self_signing" => &mut found.self_signing_keys,
                "user_signing" if viewer.user_id() == Some(&record.user_id) => &mut found.user_signing_keys,
                _ => continue,
            };
            keys.insert(record.user_id, key);
        }
        self.add_users_without_keys(users, &mut found).await?;
        Ok(found)
    }

    async fn add_users_without_keys(&self, users: Vec<OwnedUserId>, found: &mut QueriedKeys) -> Result<()> {
        for user_id in users {
            let is_missing = self.is_local(&user_id) && !found.device_keys.contains_key(&user_id);
            if is_missing && self.storage.account(&user_id).await?.is_some_and(|account| !account.deactivated) {
                found.device_keys.insert(user_id, BTreeMap::new());
            }
        }
        Ok(())
    }
}
