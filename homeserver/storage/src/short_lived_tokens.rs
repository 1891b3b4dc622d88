//! Tokens that stand for a user for one purpose and a short time. Given and kept only as SHA-256 hashes.

use ruma::{OwnedUserId, UserId};

use crate::{
    Result, Storage,
    dialect::{db, parsed},
};

/// What a short-lived token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenPurpose {
    /// To log in, once.
    Login,
    /// To show another service who its holder is.
    OpenId,
}

impl TokenPurpose {
    const fn number(self) -> i16 {
        match self {
            Self::Login => 0,
            Self::OpenId => 1,
        }
    }
}

impl Storage {
    /// Stores a token, and forgets those that have expired by `now_ts`.
    pub async fn create_short_lived_token(
        &self,
        purpose: TokenPurpose,
        hash: &[u8; 32],
        user_id: &UserId,
        expires_ts: u64,
        now_ts: u64,
    ) -> Result<()> {
        const PRUNE: &str = "DELETE FROM short_lived_tokens WHERE expires_ts <= $1";
        const SQL: &str =
            "INSERT INTO short_lived_tokens (token_hash, purpose, user_id, expires_ts) VALUES ($1, $2, $3, $4)";
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            sqlx::query(PRUNE).bind(now_ts as i64).execute(connection).await.map(drop)
        })?;
        db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(&hash[..]).bind(purpose.number()).bind(user_id.as_str());
            query.bind(expires_ts as i64).execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }

    /// Whose token it is, if it is valid at `now_ts`.
    pub async fn short_lived_token(
        &self,
        purpose: TokenPurpose,
        hash: &[u8; 32],
        now_ts: u64,
    ) -> Result<Option<OwnedUserId>> {
        const SQL: &str =
            "SELECT user_id FROM short_lived_tokens WHERE token_hash = $1 AND purpose = $2 AND expires_ts > $3";
        let user_id: Option<String> = db!(self.read(), |pool| {
            let query = sqlx::query_scalar(SQL).bind(&hash[..]).bind(purpose.number()).bind(now_ts as i64);
            query.fetch_optional(pool).await
        })?;
        user_id.map(|user_id| parsed(&user_id, "short_lived_tokens", "user_id")).transpose()
    }

    /// The same, and the token is gone: of two who spend it, one gets the user.
    pub async fn spend_short_lived_token(
        &self,
        purpose: TokenPurpose,
        hash: &[u8; 32],
        now_ts: u64,
    ) -> Result<Option<OwnedUserId>> {
        const SQL: &str = "DELETE FROM short_lived_tokens WHERE token_hash = $1 AND purpose = $2
            RETURNING user_id, expires_ts";
        let mut transaction = self.begin().await?;
        let row: Option<(String, i64)> = db!(transaction.connection(), |connection| {
            sqlx::query_as(SQL).bind(&hash[..]).bind(purpose.number()).fetch_optional(connection).await
        })?;
        transaction.commit().await?;
        match row {
            Some((user_id, expires_ts)) if expires_ts > now_ts as i64 => {
                parsed(&user_id, "short_lived_tokens", "user_id").map(Some)
            }
            _ => Ok(None),
        }
    }
}
