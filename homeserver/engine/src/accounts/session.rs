//! Opening a session: a device with its tokens.

use rules::world::World;
use ruma::{OwnedDeviceId, OwnedUserId};
use storage::NewSession;

use super::{devices::check_display_name, refuse_nul};
use crate::{
    Engine, EngineError, Result,
    tokens::{self, TokenKind},
};

/// The longest device id, in bytes.
const DEVICE_ID_BYTES_MAX: usize = 255;

/// How many letters the device ids have that we choose.
const DEVICE_ID_LETTERS: usize = 10;

/// What a client wishes of the device that it logs in with.
#[derive(Clone, Debug, Default)]
pub struct NewDevice {
    /// An id of its own, perhaps of a device that it had before.
    pub device_id: Option<OwnedDeviceId>,
    /// The name of the device, if it is new.
    pub display_name: Option<String>,
    /// Whether the client can refresh its access token.
    pub wants_refresh_token: bool,
}

impl NewDevice {
    /// Whether the wishes can be granted.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(device_id) = &self.device_id {
            if !(1..=DEVICE_ID_BYTES_MAX).contains(&device_id.as_str().len()) {
                let text = format!("A device ID must have 1 to {DEVICE_ID_BYTES_MAX} bytes");
                return Err(EngineError::invalid_param(text));
            }
            refuse_nul(device_id.as_str(), "A device ID")?;
        }
        check_display_name(self.display_name.as_deref())
    }
}

/// A device that is logged in. The tokens are nowhere else in the clear.
#[derive(Clone)]
pub struct Session {
    /// Whose it is.
    pub user_id: OwnedUserId,
    /// The device.
    pub device_id: OwnedDeviceId,
    /// The access token.
    pub access_token: String,
    /// The refresh token, if the client wanted one.
    pub refresh_token: Option<String>,
    /// How long the access token lives, in milliseconds; `None` for as long as the device exists.
    pub expires_in_ms: Option<u64>,
}

impl Engine {
    /// Opens a session for a user who has proved to be that user by other means than a password.
    pub(crate) async fn open_session_if_allowed(&self, user_id: OwnedUserId, device: NewDevice) -> Result<Session> {
        match self.storage().account(&user_id).await? {
            Some(account) if account.locked => Err(EngineError::UserLocked),
            Some(account) if account.deactivated => Err(EngineError::UserDeactivated),
            Some(account) if !account.guest => self.open_session(user_id, device).await,
            _ => Err(EngineError::WrongCredentials),
        }
    }

    /// Opens a session for a user who has proved to be that user.
    pub(crate) async fn open_session(&self, user_id: OwnedUserId, device: NewDevice) -> Result<Session> {
        device.check()?;
        let now_ts = self.world().clock.now_ms();
        let expires_in_ms = device.wants_refresh_token.then_some(self.settings().access_token_lifetime_ms);
        let access_token = tokens::new_token(self.world(), TokenKind::Access);
        let refresh_token = device.wants_refresh_token.then(|| tokens::new_token(self.world(), TokenKind::Refresh));
        let device_id = device.device_id.unwrap_or_else(|| random_device_id(self.world()));
        let session = NewSession {
            user_id: user_id.clone(),
            device_id: device_id.clone(),
            display_name: device.display_name,
            access_token_hash: tokens::hash_token(&access_token),
            access_token_expires_ts: expires_in_ms.map(|lifetime_ms| now_ts.saturating_add(lifetime_ms)),
            refresh_token_hash: refresh_token.as_deref().map(tokens::hash_token),
            now_ts,
        };
        self.storage().create_session(session).await?;
        Ok(Session { user_id, device_id, access_token, refresh_token, expires_in_ms })
    }
}

fn random_device_id(world: &World) -> OwnedDeviceId {
    let mut letters = String::with_capacity(DEVICE_ID_LETTERS);
    while letters.len() < DEVICE_ID_LETTERS {
        let more = world.random_string(32);
        letters.extend(more.chars().filter(char::is_ascii_uppercase).take(DEVICE_ID_LETTERS - letters.len()));
    }
    letters.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(device_id: Option<&str>, display_name: Option<&str>) -> NewDevice {
        NewDevice {
            device_id: device_id.map(Into::into),
            display_name: display_name.map(ToOwned::to_owned),
            wants_refresh_token: false,
        }
    }

    #[test]
    fn devices_have_ids_and_names_within_bounds() {
        for id in ["D", "my_device_id", "/\u{e9} \u{1f600}", &"x".repeat(255)] {
            assert!(device(Some(id), None).check().is_ok(), "{id:?}");
        }
        for id in ["", "a\0b", &"x".repeat(256), &"\u{e9}".repeat(128)] {
            assert!(matches!(device(Some(id), None).check(), Err(EngineError::InvalidParam(_))), "{id:?}");
        }
        assert!(device(None, Some(&"\u{e9}".repeat(100))).check().is_ok());
        for name in ["a\0b", &"x".repeat(101)] {
            assert!(matches!(device(None, Some(name)).check(), Err(EngineError::InvalidParam(_))), "{name:?}");
        }
    }
}
