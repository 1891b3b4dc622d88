//! Backups of room keys.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#server-side-key-backups>

use keyserver::{BackupKeys, BackupVersion, KeyCountAndEtag, NewBackup};
use ruma::{RoomId, UserId};

use crate::{Engine, Result};

impl Engine {
    /// Begins a new version of a user's backup, which is the current one then.
    pub async fn create_key_backup(&self, user_id: &UserId, new: NewBackup) -> Result<String> {
        Ok(self.key_server().create_backup(user_id, new).await?)
    }

    /// A version of a user's backup, or the current one.
    pub async fn key_backup(&self, user_id: &UserId, version: Option<&str>) -> Result<BackupVersion> {
        Ok(self.key_server().backup(user_id, version).await?)
    }

    /// Replaces what clients need to know about a version.
    pub async fn update_key_backup(&self, user_id: &UserId, version: &str, new: NewBackup) -> Result<()> {
        Ok(self.key_server().update_backup(user_id, version, new).await?)
    }

    /// Deletes a version with its keys.
    pub async fn delete_key_backup(&self, user_id: &UserId, version: &str) -> Result<()> {
        Ok(self.key_server().delete_backup(user_id, version).await?)
    }

    /// Adds keys to the current version.
    pub async fn add_backup_keys(&self, user_id: &UserId, version: &str, keys: BackupKeys) -> Result<KeyCountAndEtag> {
        Ok(self.key_server().add_backup_keys(user_id, version, keys).await?)
    }

    /// The keys of a version: all, or those of a room, or one.
    pub async fn backup_keys(
        &self,
        user_id: &UserId,
        version: &str,
        room_id: Option<&RoomId>,
        session_id: Option<&str>,
    ) -> Result<BackupKeys> {
        Ok(self.key_server().backup_keys(user_id, version, room_id, session_id).await?)
    }

    /// Deletes keys of a version: all, or those of a room, or one.
    pub async fn delete_backup_keys(
        &self,
        user_id: &UserId,
        version: &str,
        room_id: Option<&RoomId>,
        session_id: Option<&str>,
    ) -> Result<KeyCountAndEtag> {
        Ok(self.key_server().delete_backup_keys(user_id, version, room_id, session_id).await?)
    }
}
