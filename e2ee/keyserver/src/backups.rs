//! Backups of room keys, which clients encrypt before they come here.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#server-side-key-backups>

use std::collections::BTreeMap;

use ruma::{OwnedRoomId, RoomId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use storage::{BackedUpKey, BackupOutcome, KeyBackupRecord};

use crate::{KeyError, KeyServer, Result};

/// How many keys one backup holds. Clients with the longest histories have some ten thousand.
const KEYS_MAX: i64 = 500_000;
/// The largest encrypted key, in bytes; real ones have less than 1,000.
const SESSION_DATA_BYTES_MAX: usize = 16 * 1024;
/// The largest description of how keys are encrypted, in bytes.
const AUTH_DATA_BYTES_MAX: usize = 64 * 1024;
/// The longest name of an algorithm or session, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// How the keys of a backup are encrypted.
#[derive(Debug, Deserialize)]
pub struct NewBackup {
    /// The name of the algorithm.
    pub algorithm: String,
    /// What clients need to know about it.
    pub auth_data: Box<RawValue>,
}

/// A version of a backup.
#[derive(Debug)]
pub struct BackupVersion {
    /// Algorithm and auth data, as one JSON object.
    pub algorithm: Box<RawValue>,
    /// How many keys it has.
    pub count: u64,
    /// Another one after each change.
    pub etag: String,
    /// Its name.
    pub version: String,
}

/// What a backup came to by a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyCountAndEtag {
    /// How many keys it has.
    pub count: u64,
    /// Another one after each change.
    pub etag: String,
}

/// Keys by room and session, each as JSON.
pub type BackupKeys = BTreeMap<OwnedRoomId, BTreeMap<String, Box<RawValue>>>;

/// Algorithm and auth data as they are shown.
#[derive(Serialize)]
struct Algorithm<'a> {
    algorithm: &'a str,
    auth_data: &'a RawValue,
}

/// A key as it comes and goes.
#[derive(Deserialize, Serialize)]
struct KeyData {
    first_message_index: u32,
    forwarded_count: u32,
    is_verified: bool,
    session_data: Box<RawValue>,
}

impl KeyServer {
    /// Begins a new version, which is the current one then.
    pub async fn create_backup(&self, user_id: &UserId, new: NewBackup) -> Result<String> {
        check_new(&new)?;
        Ok(self.storage.create_key_backup(user_id, &new.algorithm, &new.auth_data).await?.to_string())
    }

    /// A version, or the current one.
    pub async fn backup(&self, user_id: &UserId, version: Option<&str>) -> Result<BackupVersion> {
        let version = version.map(number).transpose()?;
        let record = self.storage.key_backup(user_id, version).await?.ok_or_else(no_backup)?;
        shown(&record)
    }

    /// Replaces what clients need to know about a version; the algorithm stays.
    pub async fn update_backup(&self, user_id: &UserId, version: &str, new: NewBackup) -> Result<()> {
        check_new(&new)?;
        let version = number(version)?;
        let record = self.storage.key_backup(user_id, Some(version)).await?.ok_or_else(no_backup)?;
        if record.algorithm != new.algorithm {
            return Err(KeyError::InvalidParam("The algorithm of a backup cannot be changed".to_owned()));
        }
        if self.storage.update_key_backup(user_id, version, &new.auth_data).await? { Ok(()) } else { Err(no_backup()) }
    }

    /// Deletes a version with its keys.
    pub async fn delete_backup(&self, user_id: &UserId, version: &str) -> Result<()> {
        let deleted = self.storage.delete_key_backup(user_id, number(version)?).await?;
        if deleted { Ok(()) } else { Err(no_backup()) }
    }

    /// Adds keys to the current version; of two keys of one session the better one stays.
    pub async fn add_backup_keys(&self, user_id: &UserId, version: &str, keys: BackupKeys) -> Result<KeyCountAndEtag> {
        let mut read = Vec::new();
        for (room_id, sessions) in keys {
            for (session_id, json) in sessions {
                read.push(read_key(room_id.clone(), session_id, &json)?);
            }
        }
        let version = number(version)?;
        outcome(&self.storage.add_backed_up_keys(user_id, version, &read, KEYS_MAX, replaces).await?)
    }

    /// The keys of a version: all, or those of a room, or one.
    pub async fn backup_keys(
        &self,
        user_id: &UserId,
        version: &str,
        room_id: Option<&RoomId>,
        session_id: Option<&str>,
    ) -> Result<BackupKeys> {
        let version = number(version)?;
        if self.storage.key_backup(user_id, Some(version)).await?.is_none() {
            return Err(no_backup());
        }
        let mut keys = BackupKeys::new();
        for key in self.storage.backed_up_keys(user_id, version, room_id, session_id).await? {
            let data = KeyData {
                first_message_index: u32::try_from(key.first_message_index).unwrap_or(u32::MAX),
                forwarded_count: u32::try_from(key.forwarded_count).unwrap_or(u32::MAX),
                is_verified: key.is_verified,
                session_data: key.session_data,
            };
            keys.entry(key.room_id).or_default().insert(key.session_id, json(&data)?);
        }
        Ok(keys)
    }

    /// Deletes keys of a version: all, or those of a room, or one.
    pub async fn delete_backup_keys(
        &self,
        user_id: &UserId,
        version: &str,
        room_id: Option<&RoomId>,
        session_id: Option<&str>,
    ) -> Result<KeyCountAndEtag> {
        outcome(&self.storage.delete_backed_up_keys(user_id, number(version)?, room_id, session_id).await?)
    }
}

/// Whether a new key takes the place of one of the same session.
fn replaces(new: &BackedUpKey, old: &BackedUpKey) -> bool {
    let rank = |key: &BackedUpKey| (!key.is_verified, key.first_message_index, key.forwarded_count);
    rank(new) < rank(old)
}

fn read_key(room_id: OwnedRoomId, session_id: String, json: &RawValue) -> Result<BackedUpKey> {
    let data: KeyData = serde_json::from_str(json.get()).map_err(|error| KeyError::bad_json(error.to_string()))?;
    if !(1..=NAME_BYTES_MAX).contains(&session_id.len()) || session_id.contains('\0') {
        return Err(KeyError::InvalidParam("A session has no usable id".to_owned()));
    }
    if data.session_data.get().len() > SESSION_DATA_BYTES_MAX {
        return Err(KeyError::TooLarge(format!("A key must not be larger than {SESSION_DATA_BYTES_MAX} bytes")));
    }
    if !data.session_data.get().starts_with('{') {
        return Err(KeyError::bad_json("`session_data` must be an object"));
    }
    Ok(BackedUpKey {
        room_id,
        session_id,
        first_message_index: data.first_message_index.into(),
        forwarded_count: data.forwarded_count.into(),
        is_verified: data.is_verified,
        session_data: data.session_data,
    })
}

fn check_new(new: &NewBackup) -> Result<()> {
    if !(1..=NAME_BYTES_MAX).contains(&new.algorithm.len()) || new.algorithm.contains('\0') {
        return Err(KeyError::InvalidParam("The backup has no usable algorithm".to_owned()));
    }
    if new.auth_data.get().len() > AUTH_DATA_BYTES_MAX {
        return Err(KeyError::TooLarge(format!("`auth_data` must not be larger than {AUTH_DATA_BYTES_MAX} bytes")));
    }
    if new.auth_data.get().starts_with('{') { Ok(()) } else { Err(KeyError::bad_json("`auth_data` must be an object")) }
}

/// The number of a version; what is none names no version.
fn number(version: &str) -> Result<i64> {
    version.parse().ok().filter(|number| *number > 0).ok_or_else(no_backup)
}

fn no_backup() -> KeyError {
    KeyError::NotFound("Unknown backup version".to_owned())
}

fn outcome(outcome: &BackupOutcome) -> Result<KeyCountAndEtag> {
    match *outcome {
        BackupOutcome::Done { count, etag } => {
            Ok(KeyCountAndEtag { count: count.unsigned_abs(), etag: etag.to_string() })
        }
        BackupOutcome::NoBackup => Err(no_backup()),
        BackupOutcome::NotCurrent(current) => Err(KeyError::WrongBackupVersion(current.to_string())),
        BackupOutcome::TooMany => Err(KeyError::TooLarge(format!("A backup may have {KEYS_MAX} keys"))),
    }
}

fn shown(record: &KeyBackupRecord) -> Result<BackupVersion> {
    Ok(BackupVersion {
        algorithm: json(&Algorithm { algorithm: &record.algorithm, auth_data: &record.auth_data })?,
        count: record.count.unsigned_abs(),
        etag: record.etag.to_string(),
        version: record.version.to_string(),
    })
}

fn json(value: &impl Serialize) -> Result<Box<RawValue>> {
    to_raw_value(value).map_err(|error| KeyError::bad_json(error.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(is_verified: bool, first_message_index: u32, forwarded_count: u32) -> BackedUpKey {
        let data = KeyData {
            first_message_index,
            forwarded_count,
            is_verified,
            session_data: to_raw_value(&json!({})).unwrap(),
        };
        read_key(ruma::owned_room_id!("!room:test"), "session".to_owned(), &json(&data).unwrap()).unwrap()
    }

    #[test]
    fn s_084_only_a_better_key_takes_the_place_of_another() {
        let ascending =
            [key(false, 9, 9), key(false, 9, 2), key(false, 3, 9), key(true, 9, 9), key(true, 9, 1), key(true, 0, 1)];
        for (index, better) in ascending.iter().enumerate() {
            for worse in &ascending[..index] {
                assert!(replaces(better, worse) && !replaces(worse, better), "{better:?} {worse:?}");
            }
            assert!(!replaces(better, better));
        }
    }
}
