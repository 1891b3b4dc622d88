//! The public keys of devices and users, and the signatures on them. Nothing here is secret.

use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use serde_json::value::RawValue;

use crate::{
    Result, Storage, StorageError,
    dialect::{db, is_storable, list, parsed},
};

/// The identity keys of a device.
#[derive(Clone, Debug)]
pub struct DeviceKeysRecord {
    /// Whose.
    pub user_id: OwnedUserId,
    /// Which device.
    pub device_id: OwnedDeviceId,
    /// The name of the device.
    pub display_name: Option<String>,
    /// The signed keys.
    pub keys: Box<RawValue>,
}

/// A cross-signing key.
#[derive(Clone, Debug)]
pub struct CrossSigningKeyRecord {
    /// Whose.
    pub user_id: OwnedUserId,
    /// `master`, `self_signing` or `user_signing`.
    pub usage: String,
    /// The key.
    pub key: Box<RawValue>,
}

/// A signature that came after what it signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySignatureRecord {
    /// Whose device or key is signed.
    pub target_user_id: OwnedUserId,
    /// The device id, or the public part of the key.
    pub target_id: String,
    /// Who signed.
    pub signer: OwnedUserId,
    /// With which key.
    pub key_id: String,
    /// The signature.
    pub signature: String,
}

impl Storage {
    /// The keys of all devices of these users that have keys.
    pub async fn device_keys(&self, user_ids: &[OwnedUserId]) -> Result<Vec<DeviceKeysRecord>> {
        const SQL: &str = "SELECT k.user_id, k.device_id, COALESCE(d.display_name, k.display_name), k.json
            FROM device_keys k LEFT JOIN devices d ON d.user_id = k.user_id AND d.device_id = k.device_id
            WHERE k.user_id IN (SELECT value FROM json_each($1)) ORDER BY k.user_id, k.device_id";
        let users = list(user_ids.iter().map(|user_id| user_id.as_str()));
        let rows: Vec<DeviceKeysRow> = db!(self.read(), |pool| sqlx::query_as(SQL).bind(users).fetch_all(pool).await)?;
        rows.into_iter().map(device_keys_record).collect()
    }

    /// The keys of one device.
    pub async fn device_keys_of(&self, user_id: &UserId, device_id: &DeviceId) -> Result<Option<DeviceKeysRecord>> {
        const SQL: &str = "SELECT k.user_id, k.device_id, COALESCE(d.display_name, k.display_name), k.json
            FROM device_keys k LEFT JOIN devices d ON d.user_id = k.user_id AND d.device_id = k.device_id
            WHERE k.user_id = $1 AND k.device_id = $2";
        if !is_storable(device_id.as_str()) {
            return Ok(None);
        }
        let row: Option<DeviceKeysRow> = db!(self.read(), |pool| {
            sqlx::query_as(SQL).bind(user_id.as_str()).bind(device_id.as_str()).fetch_optional(pool).await
        })?;
        row.map(device_keys_record).transpose()
    }

    /// The cross-signing keys of these users, those included that only their owner may see.
    pub async fn cross_signing_keys(&self, user_ids: &[OwnedUserId]) -> Result<Vec<CrossSigningKeyRecord>> {
        const SQL: &str = "SELECT user_id, usage, json FROM cross_signing_keys
            WHERE user_id IN (SELECT value FROM json_each($1)) ORDER BY user_id, usage";
        let users = list(user_ids.iter().map(|user_id| user_id.as_str()));
        let rows: Vec<(String, String, String)> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(users).fetch_all(pool).await)?;
        let record = |(user_id, usage, key): (String, String, String)| {
            let key = json(key, "cross_signing_keys", &user_id)?;
            Ok(CrossSigningKeyRecord { user_id: parsed(&user_id, "cross_signing_keys", "user_id")?, usage, key })
        };
        rows.into_iter().map(record).collect()
    }

    /// The signatures on devices and keys of these users that they put there themselves, or that `viewer` did.
    pub async fn key_signatures(
        &self,
        target_user_ids: &[OwnedUserId],
        viewer: Option<&UserId>,
    ) -> Result<Vec<KeySignatureRecord>> {
        const SQL: &str = "SELECT target_user_id, target_id, signer, key_id, signature FROM key_signatures
            WHERE target_user_id IN (SELECT value FROM json_each($1)) AND (signer = target_user_id OR signer = $2)";
        let users = list(target_user_ids.iter().map(|user_id| user_id.as_str()));
        let viewer = viewer.map_or("", UserId::as_str);
        let rows: Vec<(String, String, String, String, String)> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(users).bind(viewer).fetch_all(pool).await)?;
        let record = |(target_user_id, target_id, signer, key_id, signature): (String, _, String, _, _)| {
            Ok(KeySignatureRecord {
                target_user_id: parsed(&target_user_id, "key_signatures", "target_user_id")?,
                target_id,
                signer: parsed(&signer, "key_signatures", "signer")?,
                key_id,
                signature,
            })
        };
        rows.into_iter().map(record).collect()
    }

    /// The devices of these users, with or without keys.
    pub async fn device_ids(&self, user_ids: &[OwnedUserId]) -> Result<Vec<(OwnedUserId, OwnedDeviceId)>> {
        const SQL: &str = "SELECT user_id, device_id FROM devices
            WHERE user_id IN (SELECT value FROM json_each($1)) ORDER BY user_id, device_id";
        let users = list(user_ids.iter().map(|user_id| user_id.as_str()));
        let rows: Vec<(String, String)> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(users).fetch_all(pool).await)?;
        let ids =
            |(user_id, device_id): (String, String)| Ok((parsed(&user_id, "devices", "user_id")?, device_id.into()));
        rows.into_iter().map(ids).collect()
    }
}

/// User, device, name, JSON.
type DeviceKeysRow = (String, String, Option<String>, String);

fn device_keys_record((user_id, device_id, display_name, keys): DeviceKeysRow) -> Result<DeviceKeysRecord> {
    Ok(DeviceKeysRecord {
        keys: json(keys, "device_keys", &device_id)?,
        user_id: parsed(&user_id, "device_keys", "user_id")?,
        device_id: device_id.into(),
        display_name,
    })
}

/// Stored JSON.
pub(crate) fn json(text: String, table: &'static str, row: &str) -> Result<Box<RawValue>> {
    RawValue::from_string(text).map_err(|error| StorageError::corrupt(table, "json", row, &error))
}
