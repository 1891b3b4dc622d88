//! Tokens by which users show other services who they are.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#openid>

use ruma::{OwnedUserId, UserId};
use storage::TokenPurpose;

use crate::{
    Engine, EngineError, Result,
    tokens::{self, TokenKind},
};

/// An hour: widgets and integration managers change it for a session of their own at once.
const LIFETIME_MS: u64 = 60 * 60 * 1000;

impl Engine {
    /// A new token, and how long it is good for, in milliseconds.
    pub async fn create_open_id_token(&self, user_id: &UserId) -> Result<(String, u64)> {
        let now_ts = self.world().clock.now_ms();
        let token = tokens::new_token(self.world(), TokenKind::OpenId);
        let hash = tokens::hash_token(&token);
        let storage = self.storage();
        storage.create_short_lived_token(TokenPurpose::OpenId, &hash, user_id, now_ts + LIFETIME_MS, now_ts).await?;
        Ok((token, LIFETIME_MS))
    }

    /// Whose token it is: always one of our own users.
    pub async fn open_id_user(&self, token: &str) -> Result<OwnedUserId> {
        const UNKNOWN: EngineError = EngineError::UnknownToken { soft_logout: false };
        if !tokens::is_well_formed(token, TokenKind::OpenId) {
            return Err(UNKNOWN);
        }
        let (hash, now_ts) = (tokens::hash_token(token), self.world().clock.now_ms());
        let user_id = self.storage().short_lived_token(TokenPurpose::OpenId, &hash, now_ts).await?.ok_or(UNKNOWN)?;
        match self.storage().account(&user_id).await? {
            Some(account) if !account.deactivated && !account.locked => Ok(user_id),
            _ => Err(UNKNOWN),
        }
    }
}
