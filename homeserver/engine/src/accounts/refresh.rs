//! A new pair of tokens for a refresh token.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#refreshing-access-tokens>

use storage::RefreshOutcome;

use super::Session;
use crate::{
    Engine, EngineError, Result,
    tokens::{self, TokenKind},
};

impl Engine {
    /// Spends a refresh token. One that was spent before is in two hands, so the device is logged out.
    pub async fn refresh(&self, refresh_token: &str) -> Result<Session> {
        const UNKNOWN: EngineError = EngineError::UnknownToken { soft_logout: false };
        if !tokens::is_well_formed(refresh_token, TokenKind::Refresh) {
            return Err(UNKNOWN);
        }
        let spent_hash = tokens::hash_token(refresh_token);
        let now_ts = self.world().clock.now_ms();
        let lifetime_ms = self.settings().access_token_lifetime_ms;
        let expires_ts = Some(now_ts.saturating_add(lifetime_ms));
        let access_token = tokens::new_token(self.world(), TokenKind::Access);
        let refresh_token = tokens::new_token(self.world(), TokenKind::Refresh);
        self.refuse_refresh_of_locked(&spent_hash).await?;
        let (access_hash, refresh_hash) = (tokens::hash_token(&access_token), tokens::hash_token(&refresh_token));
        let outcome = self.storage().refresh(&spent_hash, access_hash, expires_ts, refresh_hash, now_ts).await?;
        let (user_id, device_id) = match outcome {
            RefreshOutcome::Refreshed { user_id, device_id } => (user_id, device_id),
            RefreshOutcome::Unknown => return Err(UNKNOWN),
            RefreshOutcome::Reused => {
                tracing::warn!("a refresh token was used twice; its device is logged out");
                return Err(UNKNOWN);
            }
        };
        Ok(Session {
            user_id,
            device_id,
            access_token,
            refresh_token: Some(refresh_token),
            expires_in_ms: Some(lifetime_ms),
        })
    }

    /// A locked user keeps their tokens for when the lock is lifted, so the refresh token is not spent.
    async fn refuse_refresh_of_locked(&self, hash: &[u8; 32]) -> Result<()> {
        match self.storage().owner_of_refresh_token(hash).await? {
            Some(user_id) if self.storage().account(&user_id).await?.is_some_and(|account| account.locked) => {
                Err(EngineError::UserLocked)
            }
            _ => Ok(()),
        }
    }
}
