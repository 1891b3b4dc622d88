//! Devices and their tokens. Tokens are given and kept only as SHA-256 hashes.

use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};

use crate::{Result, Storage};

/// A log-in.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Who.
    pub user_id: OwnedUserId,
    /// On which device; it is created when it does not exist.
    pub device_id: OwnedDeviceId,
    /// The display name of a new device.
    pub display_name: Option<String>,
    /// The hash of the access token.
    pub access_token_hash: [u8; 32],
    /// When the access token expires, in milliseconds since the epoch.
    pub access_token_expires_ts: Option<u64>,
    /// The hash of the refresh token, if the client wants one.
    pub refresh_token_hash: Option<[u8; 32]>,
    /// Now, in milliseconds since the epoch.
    pub now_ts: u64,
}

/// What an access token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessToken {
    /// Whose it is.
    pub user_id: OwnedUserId,
    /// The device it belongs to.
    pub device_id: OwnedDeviceId,
    /// When it expires, in milliseconds since the epoch.
    pub expires_ts: Option<u64>,
    /// Whether the account was deactivated.
    pub deactivated: bool,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its id.
    pub device_id: OwnedDeviceId,
    /// Whose it is.
    pub user_id: OwnedUserId,
    /// Its name.
    pub display_name: Option<String>,
    /// When it was last used, in milliseconds since the epoch.
    pub last_seen_ts: Option<u64>,
    /// From which address it was last used.
    pub last_seen_ip: Option<String>,
}

/// What became of a refresh token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefreshOutcome {
    /// The new pair is valid. The old access token stays valid until the new one is first used.
    Refreshed {
        /// Whose it is.
        user_id: OwnedUserId,
        /// The device it belongs to.
        device_id: OwnedDeviceId,
    },
    /// No such token.
    Unknown,
    /// It was spent before, so somebody stole it: all tokens of the device are revoked now.
    Reused,
}

impl Storage {
    /// Logs a device in, replacing older tokens of that device.
    pub async fn create_session(&self, session: NewSession) -> Result<()> {
        todo!()
    }

    /// What an access token stands for, expired or not; `None` when it is unknown or revoked. The first use of a token
    /// that came from a refresh revokes the pair before it.
    pub async fn access_token(&self, hash: &[u8; 32]) -> Result<Option<AccessToken>> {
        todo!()
    }

    /// Spends a refresh token for a new pair of tokens.
    pub async fn refresh(
        &self,
        refresh_token_hash: &[u8; 32],
        new_access_token_hash: [u8; 32],
        access_token_expires_ts: Option<u64>,
        new_refresh_token_hash: [u8; 32],
        now_ts: u64,
    ) -> Result<RefreshOutcome> {
        todo!()
    }

    /// All devices of a user.
    pub async fn devices(&self, user_id: &UserId) -> Result<Vec<Device>> {
        todo!()
    }

    /// One device.
    pub async fn device(&self, user_id: &UserId, device_id: &DeviceId) -> Result<Option<Device>> {
        todo!()
    }

    /// Renames a device; `false` when there is no such device.
    pub async fn set_device_display_name(
        &self,
        user_id: &UserId,
        device_id: &DeviceId,
        display_name: Option<&str>,
    ) -> Result<bool> {
        todo!()
    }

    /// Deletes devices and their tokens. Unknown ones are ignored.
    pub async fn delete_devices(&self, user_id: &UserId, device_ids: &[OwnedDeviceId]) -> Result<()> {
        todo!()
    }

    /// Deletes all devices of a user and their tokens, but for one.
    pub async fn delete_all_devices(&self, user_id: &UserId, except: Option<&DeviceId>) -> Result<()> {
        todo!()
    }

    /// Notes when and from where a device was used.
    pub async fn touch_device(&self, user_id: &UserId, device_id: &DeviceId, ts: u64, ip: &str) -> Result<()> {
        todo!()
    }
}
