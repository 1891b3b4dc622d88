//! Addresses of people outside of Matrix, and how they show that an address is theirs.

use ruma::{OwnedUserId, UserId};

use crate::{
    Result, Storage,
    dialect::{db, is_storable, parsed, storable},
};

/// An address that belongs to an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThirdPartyId {
    /// What kind of address, such as `email`.
    pub medium: String,
    /// The address, in its one way of writing.
    pub address: String,
    /// Whose it is.
    pub user_id: OwnedUserId,
    /// When its owner showed that it is theirs, in milliseconds since the epoch.
    pub validated_ts: u64,
    /// When it was added to the account, in milliseconds since the epoch.
    pub added_ts: u64,
}

/// Somebody who is about to show that an address is theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressValidation {
    /// The session.
    pub session_id: String,
    /// What for; a session for one purpose is none for another.
    pub purpose: String,
    /// What kind of address.
    pub medium: String,
    /// The address.
    pub address: String,
    /// What only the client that asked knows.
    pub client_secret: String,
    /// Which of the client's attempts was the last that a letter was sent for.
    pub send_attempt: u64,
    /// The SHA-256 hash of the token in the last letter.
    pub token_hash: [u8; 32],
    /// Where to send the person afterwards.
    pub next_link: Option<String>,
    /// When the session ends, in milliseconds since the epoch.
    pub expires_ts: u64,
    /// When it was shown that the address is theirs.
    pub validated_ts: Option<u64>,
}

type ValidationRow = (String, String, String, String, String, i64, Vec<u8>, Option<String>, i64, Option<i64>);

impl Storage {
    /// The addresses of a user, the oldest first.
    pub async fn third_party_ids(&self, user_id: &UserId) -> Result<Vec<ThirdPartyId>> {
        const SQL: &str = "SELECT medium, address, user_id, validated_ts, added_ts FROM third_party_ids
            WHERE user_id = $1 ORDER BY added_ts, medium, address";
        let rows: Vec<(String, String, String, i64, i64)> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(user_id.as_str()).fetch_all(pool).await)?;
        rows.into_iter().map(third_party_id).collect()
    }

    /// Whose address it is.
    pub async fn third_party_id(&self, medium: &str, address: &str) -> Result<Option<ThirdPartyId>> {
        const SQL: &str = "SELECT medium, address, user_id, validated_ts, added_ts FROM third_party_ids
            WHERE medium = $1 AND address = $2";
        if !is_storable(medium) || !is_storable(address) {
            return Ok(None);
        }
        let row: Option<(String, String, String, i64, i64)> =
            db!(self.read(), |pool| { sqlx::query_as(SQL).bind(medium).bind(address).fetch_optional(pool).await })?;
        row.map(third_party_id).transpose()
    }

    /// Adds an address to an account; `false` when it belongs to another. One's own is noted anew.
    pub async fn add_third_party_id(&self, id: &ThirdPartyId) -> Result<bool> {
        const SQL: &str = "INSERT INTO third_party_ids (medium, address, user_id, validated_ts, added_ts)
            VALUES ($1, $2, $3, $4, $5) ON CONFLICT (medium, address) DO UPDATE
            SET validated_ts = excluded.validated_ts WHERE third_party_ids.user_id = excluded.user_id";
        let medium = storable(&id.medium, "a medium")?;
        let address = storable(&id.address, "an address")?;
        let mut transaction = self.begin().await?;
        let added = db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(medium).bind(address).bind(id.user_id.as_str());
            let query = query.bind(id.validated_ts as i64).bind(id.added_ts as i64);
            query.execute(connection).await.map(|done| done.rows_affected())
        })?;
        transaction.commit().await?;
        Ok(added > 0)
    }

    /// Takes an address from a user's account, if it is there.
    pub async fn delete_third_party_id(&self, user_id: &UserId, medium: &str, address: &str) -> Result<()> {
        const SQL: &str = "DELETE FROM third_party_ids WHERE medium = $1 AND address = $2 AND user_id = $3";
        if !is_storable(medium) || !is_storable(address) {
            return Ok(());
        }
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            sqlx::query(SQL).bind(medium).bind(address).bind(user_id.as_str()).execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }

    /// The session in which a client asked for a letter to that address before.
    pub async fn address_validation_of(
        &self,
        purpose: &str,
        medium: &str,
        address: &str,
        client_secret: &str,
    ) -> Result<Option<AddressValidation>> {
        const SQL: &str = "SELECT session_id, purpose, medium, address, client_secret, send_attempt, token_hash,
            next_link, expires_ts, validated_ts FROM address_validations
            WHERE purpose = $1 AND medium = $2 AND address = $3 AND client_secret = $4";
        if !is_storable(address) || !is_storable(client_secret) {
            return Ok(None);
        }
        let row: Option<ValidationRow> = db!(self.read(), |pool| {
            let query = sqlx::query_as(SQL).bind(purpose).bind(medium).bind(address).bind(client_secret);
            query.fetch_optional(pool).await
        })?;
        Ok(row.map(validation))
    }

    /// A session.
    pub async fn address_validation(&self, session_id: &str) -> Result<Option<AddressValidation>> {
        const SQL: &str = "SELECT session_id, purpose, medium, address, client_secret, send_attempt, token_hash,
            next_link, expires_ts, validated_ts FROM address_validations WHERE session_id = $1";
        if !is_storable(session_id) {
            return Ok(None);
        }
        let row: Option<ValidationRow> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(session_id).fetch_optional(pool).await)?;
        Ok(row.map(validation))
    }

    /// Stores a session, in place of one that the same client has for the same address, and forgets those that have
    /// ended by `now_ts`.
    pub async fn put_address_validation(&self, validation: &AddressValidation, now_ts: u64) -> Result<()> {
        const PRUNE: &str = "DELETE FROM address_validations WHERE expires_ts <= $1
            OR (purpose = $2 AND medium = $3 AND address = $4 AND client_secret = $5)";
        const SQL: &str = "INSERT INTO address_validations (session_id, purpose, medium, address, client_secret,
            send_attempt, token_hash, next_link, expires_ts, validated_ts)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        let address = storable(&validation.address, "an address")?;
        let secret = storable(&validation.client_secret, "a client secret")?;
        let next_link = validation.next_link.as_deref().map(|link| storable(link, "a link")).transpose()?;
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            let query = sqlx::query(PRUNE).bind(now_ts as i64).bind(&validation.purpose).bind(&validation.medium);
            query.bind(address).bind(secret).execute(connection).await.map(drop)
        })?;
        db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(&validation.session_id).bind(&validation.purpose);
            let query = query.bind(&validation.medium).bind(address).bind(secret);
            let query = query.bind(validation.send_attempt as i64).bind(&validation.token_hash[..]).bind(next_link);
            let query = query.bind(validation.expires_ts as i64).bind(validation.validated_ts.map(|ts| ts as i64));
            query.execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }

    /// Notes that the person with the token of the last letter was there in time; `false` otherwise.
    pub async fn validate_address(
        &self,
        session_id: &str,
        client_secret: &str,
        token_hash: &[u8; 32],
        now_ts: u64,
    ) -> Result<bool> {
        const SQL: &str = "UPDATE address_validations SET validated_ts = COALESCE(validated_ts, $1)
            WHERE session_id = $2 AND client_secret = $3 AND token_hash = $4 AND expires_ts > $1";
        if !is_storable(session_id) || !is_storable(client_secret) {
            return Ok(false);
        }
        let mut transaction = self.begin().await?;
        let validated = db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(now_ts as i64).bind(session_id).bind(client_secret);
            query.bind(&token_hash[..]).execute(connection).await.map(|done| done.rows_affected())
        })?;
        transaction.commit().await?;
        Ok(validated > 0)
    }

    /// Ends a session; `false` when somebody else ended it before: what it shows counts once.
    pub async fn spend_address_validation(&self, session_id: &str) -> Result<bool> {
        const SQL: &str = "DELETE FROM address_validations WHERE session_id = $1 AND validated_ts IS NOT NULL";
        if !is_storable(session_id) {
            return Ok(false);
        }
        let mut transaction = self.begin().await?;
        let spent = db!(transaction.connection(), |connection| {
            sqlx::query(SQL).bind(session_id).execute(connection).await.map(|done| done.rows_affected())
        })?;
        transaction.commit().await?;
        Ok(spent > 0)
    }
}

fn third_party_id(
    (medium, address, user_id, validated_ts, added_ts): (String, String, String, i64, i64),
) -> Result<ThirdPartyId> {
    let user_id = parsed(&user_id, "third_party_ids", "user_id")?;
    let (validated_ts, added_ts) = (validated_ts.unsigned_abs(), added_ts.unsigned_abs());
    Ok(ThirdPartyId { medium, address, user_id, validated_ts, added_ts })
}

fn validation(row: ValidationRow) -> AddressValidation {
    let (session_id, purpose, medium, address, client_secret, send_attempt, hash, next_link, expires_ts, validated_ts) =
        row;
    AddressValidation {
        session_id,
        purpose,
        medium,
        address,
        client_secret,
        send_attempt: send_attempt.unsigned_abs(),
        // A hash of another length is of no token.
        token_hash: hash.try_into().unwrap_or_default(),
        next_link,
        expires_ts: expires_ts.unsigned_abs(),
        validated_ts: validated_ts.map(i64::unsigned_abs),
    }
}
