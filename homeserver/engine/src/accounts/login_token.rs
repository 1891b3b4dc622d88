//! Tokens by which a session logs in another one.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv1loginget_token>

use ruma::UserId;
use storage::TokenPurpose;

use super::{NewDevice, Session};
use crate::{
    Engine, EngineError, Result,
    tokens::{self, TokenKind},
};

/// As long as the specification recommends.
const LIFETIME_MS: u64 = 2 * 60 * 1000;

impl Engine {
    /// A new token that logs its user in once, and how long it is good for, in milliseconds.
    pub async fn create_login_token(&self, user_id: &UserId) -> Result<(String, u64)> {
        if !self.settings().accounts.login_tokens {
            return Err(EngineError::forbidden("This server gives out no login tokens"));
        }
        let now_ts = self.world().clock.now_ms();
        let token = tokens::new_token(self.world(), TokenKind::Login);
        let hash = tokens::hash_token(&token);
        let storage = self.storage();
        storage.create_short_lived_token(TokenPurpose::Login, &hash, user_id, now_ts + LIFETIME_MS, now_ts).await?;
        Ok((token, LIFETIME_MS))
    }

    /// Spends a token and logs its user in.
    pub async fn login_token(&self, token: &str, device: NewDevice) -> Result<Session> {
        device.check()?;
        if !tokens::is_well_formed(token, TokenKind::Login) {
            return Err(EngineError::WrongCredentials);
        }
        let (hash, now_ts) = (tokens::hash_token(token), self.world().clock.now_ms());
        let user_id = self.storage().spend_short_lived_token(TokenPurpose::Login, &hash, now_ts).await?;
        self.open_session_if_allowed(user_id.ok_or(EngineError::WrongCredentials)?, device).await
    }
}
