//! Registration tokens: who has one may create an account.

use crate::{
    Result, Storage, StorageError,
    dialect::{db, is_storable, storable},
};

/// A registration token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationToken {
    /// The token.
    pub token: String,
    /// How many accounts may be created with it; `None` for any number.
    pub uses_allowed: Option<u32>,
    /// How many were.
    pub uses: u32,
    /// Until when it may be used, in milliseconds since the epoch.
    pub expires_ts: Option<u64>,
}

/// Token, uses allowed, uses, expiry.
type Row = (String, Option<i64>, i64, Option<i64>);

impl Storage {
    /// Creates a token; `false` when there is one with that text.
    pub async fn create_registration_token(&self, token: &RegistrationToken) -> Result<bool> {
        const SQL: &str = "INSERT INTO registration_tokens (token, uses_allowed, uses, expires_ts)
            VALUES ($1, $2, $3, $4) ON CONFLICT (token) DO NOTHING";
        let text = storable(&token.token, "a registration token")?;
        let mut transaction = self.begin().await?;
        let created = db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(text).bind(token.uses_allowed.map(i64::from));
            let query = query.bind(i64::from(token.uses)).bind(token.expires_ts.map(|ts| ts as i64));
            query.execute(connection).await.map(|done| done.rows_affected())
        })?;
        transaction.commit().await?;
        Ok(created > 0)
    }

    /// A token.
    pub async fn registration_token(&self, token: &str) -> Result<Option<RegistrationToken>> {
        const SQL: &str = "SELECT token, uses_allowed, uses, expires_ts FROM registration_tokens WHERE token = $1";
        if !is_storable(token) {
            return Ok(None);
        }
        let row: Option<Row> = db!(self.read(), |pool| sqlx::query_as(SQL).bind(token).fetch_optional(pool).await)?;
        row.map(record).transpose()
    }

    /// All tokens.
    pub async fn registration_tokens(&self) -> Result<Vec<RegistrationToken>> {
        const SQL: &str = "SELECT token, uses_allowed, uses, expires_ts FROM registration_tokens";
        let rows: Vec<Row> = db!(self.read(), |pool| sqlx::query_as(SQL).fetch_all(pool).await)?;
        rows.into_iter().map(record).collect()
    }

    /// Deletes a token; `false` when there is none.
    pub async fn delete_registration_token(&self, token: &str) -> Result<bool> {
        const SQL: &str = "DELETE FROM registration_tokens WHERE token = $1";
        if !is_storable(token) {
            return Ok(false);
        }
        let mut transaction = self.begin().await?;
        let deleted = db!(transaction.connection(), |connection| {
            sqlx::query(SQL).bind(token).execute(connection).await.map(|done| done.rows_affected())
        })?;
        transaction.commit().await?;
        Ok(deleted > 0)
    }
}

fn record((token, uses_allowed, uses, expires_ts): Row) -> Result<RegistrationToken> {
    // The token itself is a secret: errors do not name it.
    let count = |column, value: i64| {
        u32::try_from(value).map_err(|error| StorageError::corrupt("registration_tokens", column, "a token", &error))
    };
    let uses = count("uses", uses)?;
    let uses_allowed = uses_allowed.map(|value| count("uses_allowed", value)).transpose()?;
    Ok(RegistrationToken { token, uses_allowed, uses, expires_ts: expires_ts.map(i64::unsigned_abs) })
}
