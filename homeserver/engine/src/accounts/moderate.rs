//! What administrators do to accounts: looking, locking, suspending.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#account-locking>

use ruma::UserId;
use storage::{Account, Device};

use super::Requester;
use crate::{Engine, EngineError, Result};

impl Engine {
    /// Whether it is a user who may administrate this server, now.
    pub async fn is_admin(&self, user_id: &UserId) -> Result<bool> {
        let account = self.storage().account(user_id).await?;
        Ok(account.is_some_and(|account| {
            account.admin && !account.guest && !account.deactivated && !account.locked && !account.suspended
        }))
    }

    /// Refuses whoever may not administrate this server.
    pub async fn require_admin(&self, requester: &Requester) -> Result<()> {
        if self.is_admin(&requester.user_id).await? {
            return Ok(());
        }
        Err(EngineError::forbidden("You are not an administrator of this server"))
    }

    /// The devices of a user, for that user and for administrators.
    pub async fn whois(&self, requester: &Requester, user_id: &UserId) -> Result<Vec<Device>> {
        if requester.user_id != *user_id {
            self.require_admin(requester).await?;
            if !self.is_local(user_id) || self.storage().account(user_id).await?.is_none() {
                return Err(EngineError::not_found("No such user"));
            }
        }
        self.devices(user_id).await
    }

    /// Whether an account is locked.
    pub async fn is_locked(&self, requester: &Requester, user_id: &UserId) -> Result<bool> {
        Ok(self.account_to_moderate(requester, user_id).await?.locked)
    }

    /// Whether an account is suspended.
    pub async fn is_suspended(&self, requester: &Requester, user_id: &UserId) -> Result<bool> {
        Ok(self.account_to_moderate(requester, user_id).await?.suspended)
    }

    /// Locks or unlocks an account.
    pub async fn lock(&self, requester: &Requester, user_id: &UserId, locked: bool) -> Result<()> {
        self.account_to_moderate(requester, user_id).await?;
        self.storage().set_locked(user_id, locked).await?;
        tracing::info!(user.id = %user_id, by = %requester.user_id, locked, "account locked or unlocked");
        Ok(())
    }

    /// Suspends an account, or ends that.
    pub async fn suspend(&self, requester: &Requester, user_id: &UserId, suspended: bool) -> Result<()> {
        self.account_to_moderate(requester, user_id).await?;
        self.storage().set_suspended(user_id, suspended).await?;
        tracing::info!(user.id = %user_id, by = %requester.user_id, suspended, "account suspended or not");
        Ok(())
    }

    /// Whether the asker may is checked first: nobody else learns which accounts there are.
    async fn account_to_moderate(&self, requester: &Requester, user_id: &UserId) -> Result<Account> {
        self.require_admin(requester).await?;
        if !self.is_local(user_id) {
            return Err(EngineError::invalid_param("The user does not belong to this server"));
        }
        let account = self.storage().account(user_id).await?.filter(|account| !account.deactivated);
        let account = account.ok_or_else(|| EngineError::not_found("No such user"))?;
        if account.admin {
            return Err(EngineError::forbidden("Administrators cannot be locked or suspended"));
        }
        Ok(account)
    }
}
