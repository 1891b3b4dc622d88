//! Log-in with a password.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3login>

use ruma::UserId;
use storage::Account;

use super::{NewDevice, Session};
use crate::{Engine, EngineError, Result};

impl Engine {
    /// Logs a user in, given as a full user id or only its local part. Unknown user, wrong password, no password and
    /// deactivated are the same to whoever asks, in words and in time.
    pub async fn login_password(&self, user: &str, password: &str, device: NewDevice) -> Result<Session> {
        device.check()?;
        let account = self.account_to_log_in(user).await?;
        let is_right = self.is_password_of(account.as_ref(), password).await?;
        let Some(account) = account.filter(|_| is_right) else { return Err(EngineError::WrongCredentials) };
        // A log-in may wait long for its hash. Who changes the password meanwhile wants this session not to be.
        let now = self.storage().account(&account.user_id).await?;
        if now.as_ref().is_none_or(|now| now.deactivated || now.password_hash != account.password_hash) {
            return Err(EngineError::WrongCredentials);
        }
        if now.is_some_and(|now| now.locked) {
            return Err(EngineError::UserLocked);
        }
        self.open_session(account.user_id, device).await
    }

    /// Logs a user in whom an address stands for. Takes as long when there is no such user.
    pub async fn login_address(
        &self,
        medium: &str,
        address: &str,
        password: &str,
        device: NewDevice,
    ) -> Result<Session> {
        let owner = self.owner_of_address(medium, address).await?;
        // No user has this name: it cannot be one.
        let user = owner.map_or_else(String::new, |user_id| user_id.to_string());
        self.login_password(&user, password, device).await
    }

    /// The account that `user` names; in lower case, as new user ids are, when there is none of that very name.
    async fn account_to_log_in(&self, user: &str) -> Result<Option<Account>> {
        let Ok(user_id) = UserId::parse_with_server_name(user, self.server_name()) else { return Ok(None) };
        if !self.is_local(&user_id) {
            return Ok(None);
        }
        if let Some(account) = self.storage().account(&user_id).await? {
            return Ok(Some(account));
        }
        let lower_case = user_id.localpart().to_ascii_lowercase();
        if lower_case == user_id.localpart() {
            return Ok(None);
        }
        match UserId::parse_with_server_name(lower_case, self.server_name()) {
            Ok(user_id) => Ok(self.storage().account(&user_id).await?),
            Err(_) => Ok(None),
        }
    }
}
