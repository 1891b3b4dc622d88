//! `POST /keys/signatures/upload`: signatures on devices and keys that are stored already.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keyssignaturesupload>

use std::collections::{BTreeMap, BTreeSet};

use rules::Change;
use ruma::{CanonicalJsonObject, OwnedUserId, UserId};
use serde_json::value::RawValue;

use crate::{
    KeyServer, Result,
    cross_signing::{KEY_BYTES_MAX, public_part_of},
    device_keys::ed25519_of,
    verify::{is_signature, object, raw, signature, signed_part},
};

/// How many objects one request may sign. A user who resets their keys signs each of their devices and contacts anew.
const OBJECTS_MAX: usize = 5_000;

/// Signed objects by user and device id or public key.
pub type SignedObjects = BTreeMap<OwnedUserId, BTreeMap<String, Box<RawValue>>>;

/// What was not taken, by user and device id or public key.
pub type SignatureFailures = BTreeMap<OwnedUserId, BTreeMap<String, SignatureFailure>>;

/// Why a signature was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFailure {
    /// There is no such device or key, or the user may not sign it.
    #[error("There is no such device or key for you to sign")]
    NotFound,
    /// What was signed is not what is stored.
    #[error("What is signed is not what is stored")]
    Differs,
    /// No signature of the user's that fits.
    #[error("The signature does not fit")]
    InvalidSignature,
    /// More than one request may have.
    #[error("Too many objects in one request")]
    TooMany,
}

/// What a user can sign with.
struct Signing {
    user_id: OwnedUserId,
    /// By usage.
    keys: BTreeMap<String, CanonicalJsonObject>,
    /// The user's devices.
    devices: Vec<storage::DeviceKeysRecord>,
}

impl KeyServer {
    /// Takes the signatures of a user that fit.
    pub async fn add_signatures(&self, user_id: &UserId, signed: SignedObjects) -> Result<SignatureFailures> {
        let signing = Signing {
            user_id: user_id.to_owned(),
            keys: self.stored_cross_signing(user_id).await?,
            devices: self.storage.device_keys(&[user_id.to_owned()]).await?,
        };
        let mut failures = SignatureFailures::new();
        let (mut changes, mut own_devices, mut others) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        let mut own_master = false;
        let mut left = OBJECTS_MAX;
        for (target_user_id, objects) in signed {
            let target_master = if target_user_id == user_id {
                signing.keys.get("master").cloned()
            } else {
                self.stored_cross_signing(&target_user_id).await?.remove("master")
            };
            for (target_id, json) in objects {
                let found = if left == 0 {
                    Err(SignatureFailure::TooMany)
                } else {
                    left -= 1;
                    signing.check(&target_user_id, &target_id, target_master.as_ref(), &json)
                };
                match found {
                    Ok(signatures) => changes.extend(signatures),
                    Err(failure) => {
                        failures.entry(target_user_id.clone()).or_default().insert(target_id, failure);
                        continue;
                    }
                }
                if target_user_id != user_id {
                    others.insert(target_user_id.clone());
                } else if signing.devices.iter().any(|device| device.device_id == target_id.as_str()) {
                    own_devices.insert(target_id);
                } else {
                    own_master = true;
                }
            }
        }
        if !changes.is_empty() {
            for device_id in own_devices {
                changes.push(self.device_list_change(user_id, device_id.as_str().into()).await?);
            }
            if own_master {
                changes.extend(self.own_master_signed(&signing, &changes).await?);
            }
            // Whom a user trusts is nobody else's business.
            changes.extend(others.into_iter().map(|other| Change::DeviceList {
                user_id: other,
                device_id: None,
                viewer: Some(user_id.to_owned()),
                servers: Vec::new(),
            }));
        }
        self.commit(changes).await?;
        Ok(failures)
    }

    /// What follows when a user's devices have signed the master key.
    async fn own_master_signed(&self, signing: &Signing, changes: &[Change]) -> Result<Vec<Change>> {
        let user_id = signing.user_id.clone();
        let (viewer, servers) = (None, Vec::new());
        let mut more = vec![Change::DeviceList { user_id: user_id.clone(), device_id: None, viewer, servers }];
        let Some(master) = signing.keys.get("master") else { return Ok(more) };
        let public = public_part_of(master).unwrap_or_default();
        let stored = self.storage.key_signatures(std::slice::from_ref(&user_id), None).await?;
        let stored = stored.iter().filter(|one| one.target_id == public);
        let stored = stored.map(|one| (one.signer.as_str(), one.key_id.as_str(), one.signature.as_str()));
        let new = changes.iter().filter_map(|change| match change {
            Change::KeySignature { target_id, signer, key_id, signature, .. } if *target_id == public => {
                Some((signer.as_str(), key_id.as_str(), signature.as_str()))
            }
            _ => None,
        });
        let master_key = rules::keys::shown(&raw(master)?, stored.chain(new));
        let self_signing_key = signing.keys.get("self_signing").map(raw).transpose()?;
        more.extend(self.signing_key_update(user_id, master_key, self_signing_key).await?);
        Ok(more)
    }
}

impl Signing {
    /// The signatures of the user on one object that fit; there is at least one.
    fn check(
        &self,
        target_user_id: &UserId,
        target_id: &str,
        target_master: Option<&CanonicalJsonObject>,
        json: &RawValue,
    ) -> Result<Vec<Change>, SignatureFailure> {
        let signed = object(json, KEY_BYTES_MAX).map_err(|_| SignatureFailure::Differs)?;
        let is_own = target_user_id == self.user_id;
        let device = self.devices.iter().find(|device| is_own && device.device_id == target_id);
        let master = target_master.filter(|master| public_part_of(master).as_deref() == Some(target_id));
        let (stored, signers) = match (device, master) {
            (Some(device), _) => (object(&device.keys, usize::MAX).ok(), self.public("self_signing")),
            (None, Some(master)) if is_own => (Some(master.clone()), self.device_keys()),
            (None, Some(master)) => (Some(master.clone()), self.public("user_signing")),
            (None, None) => (None, Vec::new()),
        };
        let stored = stored.ok_or(SignatureFailure::NotFound)?;
        if signed_part(&stored).ok() != signed_part(&signed).ok() {
            return Err(SignatureFailure::Differs);
        }
        let mut changes = Vec::new();
        for (key_id, public) in signers {
            let Some(signature) = signature(&signed, &self.user_id, &key_id) else { continue };
            if !is_signature(&signed, &public, signature) {
                return Err(SignatureFailure::InvalidSignature);
            }
            changes.push(Change::KeySignature {
                target_user_id: target_user_id.to_owned(),
                target_id: target_id.to_owned(),
                signer: self.user_id.clone(),
                key_id,
                signature: signature.to_owned(),
            });
        }
        if changes.is_empty() { Err(SignatureFailure::InvalidSignature) } else { Ok(changes) }
    }

    /// The cross-signing key for a use, as key id and public key.
    fn public(&self, usage: &str) -> Vec<(String, String)> {
        let public = self.keys.get(usage).and_then(public_part_of);
        public.into_iter().map(|public| (format!("ed25519:{public}"), public)).collect()
    }

    /// The signing keys of the user's devices.
    fn device_keys(&self) -> Vec<(String, String)> {
        let key = |device: &storage::DeviceKeysRecord| {
            let device_id = device.device_id.as_str();
            Some((format!("ed25519:{device_id}"), ed25519_of(&device.keys, device_id)?))
        };
        self.devices.iter().filter_map(key).collect()
    }
}
