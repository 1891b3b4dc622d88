//! The tokens of a device: pairs that follow upon each other.
//!
//! A refresh hands out a new pair beside the old one. The first use of either of the new ones shows that the client has
//! them: then the old ones are spent. Spec: <https://spec.matrix.org/v1.19/client-server-api/#refreshing-access-tokens>

use super::Hash;
use crate::{Result, database::Transaction, dialect::db};

/// Whoever changes the tokens of a device takes its row first, so that in several processes too they do it one after
/// the other. Notes when it was used, where that is known. `false` when there is no such device.
pub(crate) async fn lock_device(
    transaction: &mut Transaction,
    user_id: &str,
    device_id: &str,
    now_ts: Option<u64>,
) -> Result<bool> {
    const SQL: &str = "UPDATE devices SET last_seen_ts = COALESCE($1, last_seen_ts)
        WHERE user_id = $2 AND device_id = $3";
    let locked = db!(transaction.connection(), |connection| {
        let query = sqlx::query(SQL).bind(now_ts.map(|ts| ts as i64)).bind(user_id).bind(device_id);
        query.execute(connection).await.map(|done| done.rows_affected())
    })?;
    Ok(locked > 0)
}

/// An access token to be stored.
pub(super) struct NewAccess {
    pub(super) hash: Hash,
    pub(super) expires_ts: Option<u64>,
    /// Whether it comes from a refresh.
    pub(super) unconfirmed: bool,
}

/// Stores a pair of tokens, or an access token alone.
pub(super) async fn insert_tokens(
    transaction: &mut Transaction,
    user_id: &str,
    device_id: &str,
    access: &NewAccess,
    refresh_token_hash: Option<&Hash>,
) -> Result<()> {
    const ACCESS: &str = "INSERT INTO access_tokens (token_hash, user_id, device_id, expires_ts, unconfirmed)
        VALUES ($1, $2, $3, $4, $5)";
    const REFRESH: &str = "INSERT INTO refresh_tokens (token_hash, user_id, device_id, access_token_hash, used)
        VALUES ($1, $2, $3, $4, FALSE)";
    db!(transaction.connection(), |connection| {
        let query = sqlx::query(ACCESS).bind(&access.hash[..]).bind(user_id).bind(device_id);
        let query = query.bind(access.expires_ts.map(|ts| ts as i64)).bind(access.unconfirmed);
        query.execute(connection).await.map(drop)
    })?;
    if let Some(hash) = refresh_token_hash {
        db!(transaction.connection(), |connection| {
            let query = sqlx::query(REFRESH).bind(&hash[..]).bind(user_id).bind(device_id).bind(&access.hash[..]);
            query.execute(connection).await.map(drop)
        })?;
    }
    Ok(())
}

/// Whether an access token came from a refresh and was not used yet.
pub(super) async fn is_unconfirmed(transaction: &mut Transaction, access_token_hash: &[u8]) -> Result<bool> {
    const SQL: &str = "SELECT unconfirmed FROM access_tokens WHERE token_hash = $1";
    let unconfirmed: Option<bool> = db!(transaction.connection(), |connection| {
        sqlx::query_scalar(SQL).bind(access_token_hash).fetch_optional(connection).await
    })?;
    Ok(unconfirmed.unwrap_or(false))
}

/// The client has the pair of this access token: every other token of the device is spent.
pub(super) async fn confirm(
    transaction: &mut Transaction,
    user_id: &str,
    device_id: &str,
    access_token_hash: &[u8],
) -> Result<()> {
    const CONFIRM: &str = "UPDATE access_tokens SET unconfirmed = FALSE WHERE token_hash = $1";
    const REVOKE: &str = "DELETE FROM access_tokens WHERE user_id = $1 AND device_id = $2 AND token_hash <> $3
        RETURNING token_hash";
    const SPEND: &str = "UPDATE refresh_tokens SET used = TRUE
        WHERE user_id = $1 AND device_id = $2 AND access_token_hash <> $3";
    let confirmed = db!(transaction.connection(), |connection| {
        sqlx::query(CONFIRM).bind(access_token_hash).execute(connection).await.map(|done| done.rows_affected())
    })?;
    if confirmed == 0 {
        // Revoked between reading and now: it must not revoke what took its place.
        return Ok(());
    }
    let revoked = db!(transaction.connection(), |connection| {
        let query = sqlx::query_scalar(REVOKE).bind(user_id).bind(device_id).bind(access_token_hash);
        query.fetch_all(connection).await
    })?;
    db!(transaction.connection(), |connection| {
        let query = sqlx::query(SPEND).bind(user_id).bind(device_id).bind(access_token_hash);
        query.execute(connection).await.map(drop)
    })?;
    transaction.revokes(revoked);
    Ok(())
}

/// Takes back pairs that were handed out but never used.
pub(super) async fn drop_unconfirmed(transaction: &mut Transaction, user_id: &str, device_id: &str) -> Result<()> {
    const REFRESH: &str = "DELETE FROM refresh_tokens WHERE user_id = $1 AND device_id = $2 AND access_token_hash IN
        (SELECT token_hash FROM access_tokens WHERE user_id = $1 AND device_id = $2 AND unconfirmed)";
    const ACCESS: &str = "DELETE FROM access_tokens WHERE user_id = $1 AND device_id = $2 AND unconfirmed
        RETURNING token_hash";
    db!(transaction.connection(), |connection| {
        sqlx::query(REFRESH).bind(user_id).bind(device_id).execute(connection).await.map(drop)
    })?;
    let revoked = db!(transaction.connection(), |connection| {
        sqlx::query_scalar(ACCESS).bind(user_id).bind(device_id).fetch_all(connection).await
    })?;
    transaction.revokes(revoked);
    Ok(())
}

/// Revokes all tokens of a device.
pub(super) async fn revoke_device(transaction: &mut Transaction, user_id: &str, device_id: &str) -> Result<()> {
    const REFRESH: &str = "DELETE FROM refresh_tokens WHERE user_id = $1 AND device_id = $2";
    const ACCESS: &str = "DELETE FROM access_tokens WHERE user_id = $1 AND device_id = $2 RETURNING token_hash";
    db!(transaction.connection(), |connection| {
        sqlx::query(REFRESH).bind(user_id).bind(device_id).execute(connection).await.map(drop)
    })?;
    let revoked = db!(transaction.connection(), |connection| {
        sqlx::query_scalar(ACCESS).bind(user_id).bind(device_id).fetch_all(connection).await
    })?;
    transaction.revokes(revoked);
    Ok(())
}
