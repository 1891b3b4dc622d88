//! `POST /keys/device_signing/upload`: the keys by which a user says which devices and which other users are real.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#cross-signing>

use std::collections::BTreeMap;

use rules::Change;
use ruma::{CanonicalJsonObject, CanonicalJsonValue, OwnedUserId, UserId};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::{
    KeyError, KeyServer, Result,
    device_keys::ed25519_of,
    verify::{is_signature, is_signed_by, map, object, public_key, raw, retain_signatures, signed_part, text},
};

/// The largest cross-signing key, in bytes: one with the signatures of a few hundred devices.
pub(crate) const KEY_BYTES_MAX: usize = 64 * 1024;

/// The keys that a user uploads.
#[derive(Debug, Default)]
pub struct CrossSigningKeys {
    /// The master key.
    pub master: Option<Box<RawValue>>,
    /// The key that signs the user's devices.
    pub self_signing: Option<Box<RawValue>>,
    /// The key that signs other users.
    pub user_signing: Option<Box<RawValue>>,
}

/// Keys that were checked and may be stored.
#[derive(Debug)]
pub struct CrossSigningUpload {
    user_id: OwnedUserId,
    /// The new keys by usage, and those that go.
    keys: BTreeMap<&'static str, Option<CanonicalJsonObject>>,
    /// Whether the user has to confirm that it is them: there are keys already, and these are others.
    pub needs_confirmation: bool,
}

/// The content of `m.signing_key_update`.
#[derive(Serialize)]
struct SigningKeyUpdate {
    user_id: OwnedUserId,
    #[serde(skip_serializing_if = "Option::is_none")]
    master_key: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    self_signing_key: Option<Box<RawValue>>,
}

impl KeyServer {
    /// Checks keys that a user wants to have. Nothing is stored by this.
    pub async fn check_cross_signing(&self, user_id: &UserId, new: CrossSigningKeys) -> Result<CrossSigningUpload> {
        let stored = self.stored_cross_signing(user_id).await?;
        let mut keys = BTreeMap::new();
        for (usage, json) in
            [("master", new.master), ("self_signing", new.self_signing), ("user_signing", new.user_signing)]
        {
            let Some(json) = json else { continue };
            keys.insert(usage, read_key(&json, user_id, usage)?);
        }
        let master = keys.get("master").or(stored.get("master")).cloned();
        let master = master.ok_or_else(|| KeyError::MissingParam("There is no master key".to_owned()))?;
        let master_public = public_part_of(&master).unwrap_or_default();
        let devices = self.storage.device_ids(&[user_id.to_owned()]).await?;
        let publics: Vec<String> = keys.values().filter_map(public_part_of).collect();
        if devices.iter().any(|(_, device_id)| publics.iter().any(|public| device_id.as_str() == public)) {
            return Err(KeyError::Forbidden("A key has the id of a device".to_owned()));
        }
        for (usage, key) in keys.iter_mut().filter(|(usage, _)| **usage != "master") {
            if !is_signed_by(key, user_id, &format!("ed25519:{master_public}"), &master_public) {
                return Err(KeyError::InvalidSignature(format!("The {usage} key is not signed by the master key")));
            }
            retain_signatures(key, user_id, |key_id, _| key_id == format!("ed25519:{master_public}"));
        }
        self.retain_device_signatures(user_id, keys.get_mut("master")).await?;
        let is_stored = |(usage, key): (&&str, &CanonicalJsonObject)| {
            stored.get(*usage).is_some_and(|stored| signed_part(stored).ok() == signed_part(key).ok())
        };
        let is_same = keys.iter().all(is_stored);
        let replaces_master =
            keys.contains_key("master") && !keys.iter().filter(|(usage, _)| **usage == "master").all(is_stored);
        let mut keys: BTreeMap<_, _> =
            if is_same { BTreeMap::new() } else { keys.into_iter().map(|(usage, key)| (usage, Some(key))).collect() };
        if replaces_master {
            // What the old master key vouched for is worth nothing now.
            for usage in ["self_signing", "user_signing"].into_iter().filter(|usage| stored.contains_key(*usage)) {
                keys.entry(usage).or_insert(None);
            }
        }
        let needs_confirmation = stored.contains_key("master") && !is_same;
        Ok(CrossSigningUpload { user_id: user_id.to_owned(), keys, needs_confirmation })
    }

    /// Stores keys that were checked, and tells everybody.
    pub async fn store_cross_signing(&self, upload: CrossSigningUpload) -> Result<()> {
        let CrossSigningUpload { user_id, keys, .. } = upload;
        if keys.is_empty() {
            return Ok(());
        }
        let is_public = keys.keys().any(|usage| *usage != "user_signing");
        let shown = |usage: &str| keys.get(usage).and_then(Option::as_ref).map(raw).transpose();
        let (master_key, self_signing_key) = (shown("master")?, shown("self_signing")?);
        let mut changes = Vec::new();
        for (usage, key) in &keys {
            let key = key.as_ref().map(raw).transpose()?;
            changes.push(Change::CrossSigningKey { user_id: user_id.clone(), usage: (*usage).to_owned(), key });
        }
        changes.push(Change::DeviceList {
            user_id: user_id.clone(),
            device_id: None,
            viewer: (!is_public).then(|| user_id.clone()),
            servers: Vec::new(),
        });
        if is_public {
            changes.extend(self.signing_key_update(user_id, master_key, self_signing_key).await?);
        }
        self.commit(changes).await
    }

    /// Tells the servers that follow a user of cross-signing keys.
    pub(crate) async fn signing_key_update(
        &self,
        user_id: OwnedUserId,
        master_key: Option<Box<RawValue>>,
        self_signing_key: Option<Box<RawValue>>,
    ) -> Result<Option<Change>> {
        let servers = self.servers_following(&user_id).await?;
        if servers.is_empty() {
            return Ok(None);
        }
        let content = to_raw_value(&SigningKeyUpdate { user_id, master_key, self_signing_key });
        let content = content.map_err(|error| KeyError::bad_json(error.to_string()))?;
        Ok(Some(Change::Edu { servers, edu_type: "m.signing_key_update".to_owned(), content }))
    }

    /// The keys that are stored, by usage.
    pub(crate) async fn stored_cross_signing(&self, user_id: &UserId) -> Result<BTreeMap<String, CanonicalJsonObject>> {
        let records = self.storage.cross_signing_keys(&[user_id.to_owned()]).await?;
        let read =
            |record: storage::CrossSigningKeyRecord| Some((record.usage, serde_json::from_str(record.key.get()).ok()?));
        Ok(records.into_iter().filter_map(read).collect())
    }

    /// Keeps the signatures of the user's own devices on a master key, if they fit.
    async fn retain_device_signatures(&self, user_id: &UserId, key: Option<&mut CanonicalJsonObject>) -> Result<()> {
        let Some(key) = key else { return Ok(()) };
        let devices = self.storage.device_keys(&[user_id.to_owned()]).await?;
        let original = key.clone();
        retain_signatures(key, user_id, |key_id, signature| {
            let device = devices.iter().find(|device| key_id == format!("ed25519:{}", device.device_id));
            let ed25519 = device.and_then(|device| ed25519_of(&device.keys, device.device_id.as_str()));
            ed25519.is_some_and(|ed25519| is_signature(&original, &ed25519, signature))
        });
        Ok(())
    }
}

/// Reads a key of a user that is said to be for this use.
pub(crate) fn read_key(json: &RawValue, user_id: &UserId, usage: &str) -> Result<CanonicalJsonObject> {
    let key = object(json, KEY_BYTES_MAX)?;
    if text(&key, "user_id")? != user_id {
        return Err(KeyError::InvalidParam("The key is of another user".to_owned()));
    }
    let is_usage = |value: &CanonicalJsonValue| value.as_str() == Some(usage);
    match key.get("usage") {
        Some(CanonicalJsonValue::Array(usages)) if usages.len() == 1 && usages.iter().all(is_usage) => {}
        _ => return Err(KeyError::InvalidParam(format!("The key is not for the use {usage:?}"))),
    }
    let keys = map(&key, "keys")?;
    let is_key = |(name, public): (&String, &CanonicalJsonValue)| {
        public.as_str().is_some_and(|public| *name == format!("ed25519:{public}") && public_key(public).is_some())
    };
    if keys.len() != 1 || !keys.iter().all(is_key) {
        return Err(KeyError::InvalidParam("The key must be one Ed25519 key under its own name".to_owned()));
    }
    Ok(key)
}

/// The public part of a key, in base64.
pub(crate) fn public_part_of(key: &CanonicalJsonObject) -> Option<String> {
    Some(key.get("keys")?.as_object()?.values().next()?.as_str()?.to_owned())
}

/// The same out of JSON.
pub(crate) fn public_part(json: &RawValue) -> Option<String> {
    public_part_of(&serde_json::from_str(json.get()).ok()?)
}
