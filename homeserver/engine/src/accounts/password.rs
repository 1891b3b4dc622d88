//! Checking and changing passwords.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3accountpassword>

use ruma::{DeviceId, UserId};
use storage::Account;

use super::hashing::{self, PASSWORD_BYTES_MAX};
use crate::{Engine, EngineError, Result};

impl Engine {
    /// Whether this is the user's password. Takes the same time when there is no such user, or none who may log in.
    pub async fn check_password(&self, user_id: &UserId, password: &str) -> Result<bool> {
        let account = if self.is_local(user_id) { self.storage().account(user_id).await? } else { None };
        self.is_password_of(account.as_ref(), password).await
    }

    /// Replaces the password. With `logout_others_except` all sessions but that device's end; without, all go on.
    pub async fn change_password(
        &self,
        user_id: &UserId,
        new_password: &str,
        logout_others_except: Option<&DeviceId>,
    ) -> Result<()> {
        self.check_strength(new_password)?;
        let account = self.storage().account(user_id).await?;
        if account.ok_or_else(|| EngineError::not_found("No such user"))?.deactivated {
            return Err(EngineError::UserDeactivated);
        }
        let hash = self.hash_password(new_password).await?;
        self.storage().set_password(user_id, &hash).await?;
        if let Some(device_id) = logout_others_except {
            self.delete_other_devices(user_id, Some(device_id)).await?;
        }
        tracing::info!(user.id = %user_id, "password changed");
        Ok(())
    }

    /// An account without a hash, and one that was deactivated, has no password that could be right.
    pub(super) async fn is_password_of(&self, account: Option<&Account>, password: &str) -> Result<bool> {
        let account = account.filter(|account| !account.deactivated);
        let hash = account.and_then(|account| account.password_hash.as_deref());
        self.inner.accounts.hashing.verify(password, hash).await
    }

    pub(super) async fn hash_password(&self, password: &str) -> Result<String> {
        self.inner.accounts.hashing.hash(self.world(), password).await
    }

    /// Whether a password is good enough to be a new one.
    pub(super) fn check_strength(&self, password: &str) -> Result<()> {
        check_length(password, self.settings().accounts.password_characters_min)
    }
}

fn check_length(password: &str, characters_min: usize) -> Result<()> {
    if password.chars().count() < characters_min {
        let text = format!("Password must have at least {characters_min} characters");
        return Err(EngineError::WeakPassword(text));
    }
    if !hashing::is_possible(password) {
        let text = format!("Password must have at most {PASSWORD_BYTES_MAX} bytes");
        return Err(EngineError::invalid_param(text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_passwords_are_neither_short_nor_endless() {
        for weak in ["", "1234567", "\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}"] {
            assert!(matches!(check_length(weak, 8), Err(EngineError::WeakPassword(_))), "{weak:?}");
        }
        for good in ["12345678", "\u{fc}bers3kr1t", &"x".repeat(512)] {
            assert!(check_length(good, 8).is_ok(), "{good:?}");
        }
        assert!(matches!(check_length(&"x".repeat(513), 8), Err(EngineError::InvalidParam(_))));
    }
}
