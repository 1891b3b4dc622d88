//! Accounts of local users, and their profiles.

use ruma::{OwnedUserId, UserId};

use crate::{
    Result, Storage,
    database::Transaction,
    devices::remove_all_devices,
    dialect::{db, is_storable, list, parsed, storable, without_nul},
};

/// An account to be created.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// The user.
    pub user_id: OwnedUserId,
    /// The hash of the password; `None` for users without one (application services, guests).
    pub password_hash: Option<String>,
    /// The name that the user has at first.
    pub display_name: Option<String>,
    /// When, in milliseconds since the epoch.
    pub created_ts: u64,
    /// Whether it is a guest.
    pub guest: bool,
    /// Whether the user may administrate the server.
    pub admin: bool,
}

/// An account.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each of them is a column, and independent of the others")]
pub struct Account {
    /// The user.
    pub user_id: OwnedUserId,
    /// The hash of the password, if the user has one.
    pub password_hash: Option<String>,
    /// When it was created, in milliseconds since the epoch.
    pub created_ts: u64,
    /// Whether it is a guest.
    pub guest: bool,
    /// Whether the user may administrate the server.
    pub admin: bool,
    /// Whether it was deactivated: the user id stays taken, nobody can log in.
    pub deactivated: bool,
    /// Whether an administrator has locked it: its sessions remain, but may do nothing.
    pub locked: bool,
    /// Whether an administrator has suspended it: it may read, but not act.
    pub suspended: bool,
    /// Whether what its user sent is to be shown to those only who have seen it.
    pub erased: bool,
}

/// What became of the wish for an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountCreation {
    /// The account exists now.
    Created,
    /// Somebody has, or had, that user id.
    UserIdTaken,
    /// The registration token is unknown, spent or expired.
    TokenSpent,
}

/// What a user shows of themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// The display name.
    pub display_name: Option<String>,
    /// The avatar, an `mxc:` URI.
    pub avatar_url: Option<String>,
}

impl Storage {
    /// Creates an account, spending one use of a registration token in the same transaction. Whether the token is
    /// expired is decided against `created_ts`.
    pub async fn create_account(
        &self,
        account: NewAccount,
        registration_token: Option<&str>,
    ) -> Result<AccountCreation> {
        const SQL: &str = "INSERT INTO accounts (user_id, password_hash, created_ts, guest, admin)
            VALUES ($1, $2, $3, $4, $5) ON CONFLICT (user_id) DO NOTHING";
        const NAME: &str = "INSERT INTO profiles (user_id, display_name) VALUES ($1, $2)";
        let user_id = storable(account.user_id.as_str(), "a user id")?;
        let mut transaction = self.begin().await?;
        let created = db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(user_id).bind(&account.password_hash).bind(account.created_ts as i64);
            let query = query.bind(account.guest).bind(account.admin);
            query.execute(connection).await.map(|done| done.rows_affected())
        })?;
        if created == 0 {
            return Ok(AccountCreation::UserIdTaken);
        }
        if let Some(display_name) = account.display_name.as_deref().map(without_nul) {
            db!(transaction.connection(), |connection| {
                sqlx::query(NAME).bind(user_id).bind(display_name).execute(connection).await.map(drop)
            })?;
        }
        if let Some(token) = registration_token
            && !spend_token(&mut transaction, token, account.created_ts).await?
        {
            return Ok(AccountCreation::TokenSpent);
        }
        transaction.commit().await?;
        Ok(AccountCreation::Created)
    }

    /// An account.
    pub async fn account(&self, user_id: &UserId) -> Result<Option<Account>> {
        const SQL: &str = "SELECT user_id, password_hash, created_ts, guest, admin, deactivated, locked, suspended,
            erased FROM accounts WHERE user_id = $1";
        type Row = (String, Option<String>, i64, bool, bool, bool, bool, bool, bool);
        let row: Option<Row> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(user_id.as_str()).fetch_optional(pool).await)?;
        let Some((user_id, password_hash, created_ts, guest, admin, deactivated, locked, suspended, erased)) = row
        else {
            return Ok(None);
        };
        let (user_id, created_ts) = (parsed(&user_id, "accounts", "user_id")?, created_ts.unsigned_abs());
        let account =
            Account { user_id, password_hash, created_ts, guest, admin, deactivated, locked, suspended, erased };
        Ok(Some(account))
    }

    /// Locks or unlocks an account. Its tokens stay as they are.
    pub async fn set_locked(&self, user_id: &UserId, locked: bool) -> Result<()> {
        self.set_standing("UPDATE accounts SET locked = $1 WHERE user_id = $2", user_id, locked).await
    }

    /// Suspends an account, or ends that.
    pub async fn set_suspended(&self, user_id: &UserId, suspended: bool) -> Result<()> {
        self.set_standing("UPDATE accounts SET suspended = $1 WHERE user_id = $2", user_id, suspended).await
    }

    async fn set_standing(&self, sql: &'static str, user_id: &UserId, value: bool) -> Result<()> {
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            sqlx::query(sql).bind(value).bind(user_id.as_str()).execute(connection).await.map(drop)
        })?;
        let tokens = tokens_of(&mut transaction, user_id).await?;
        transaction.revokes(tokens);
        transaction.commit().await
    }

    /// Makes an account of a guest one of a user, with a password.
    pub async fn upgrade_guest(&self, user_id: &UserId, password_hash: Option<&str>) -> Result<bool> {
        const SQL: &str = "UPDATE accounts SET guest = FALSE, password_hash = $1
            WHERE user_id = $2 AND guest AND NOT deactivated";
        let mut transaction = self.begin().await?;
        let upgraded = db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(password_hash).bind(user_id.as_str());
            query.execute(connection).await.map(|done| done.rows_affected())
        })?;
        let tokens = tokens_of(&mut transaction, user_id).await?;
        transaction.revokes(tokens);
        transaction.commit().await?;
        Ok(upgraded > 0)
    }

    /// Replaces the hash of the password. A deactivated account gets none.
    pub async fn set_password(&self, user_id: &UserId, hash: &str) -> Result<()> {
        const SQL: &str = "UPDATE accounts SET password_hash = $1 WHERE user_id = $2 AND NOT deactivated";
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            sqlx::query(SQL).bind(hash).bind(user_id.as_str()).execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }

    /// Deactivates an account: its password, its addresses, its keys and all of its sessions are gone. With `erase` its
    /// profile goes too, and what its user sent is shown only to those who have seen it.
    pub async fn deactivate_account(&self, user_id: &UserId, erase: bool) -> Result<()> {
        const DEACTIVATE: &str = "UPDATE accounts SET deactivated = TRUE, password_hash = NULL, erased = erased OR $1
            WHERE user_id = $2";
        const ALWAYS: [&str; 4] = [
            "DELETE FROM third_party_ids WHERE user_id = $1",
            "DELETE FROM short_lived_tokens WHERE user_id = $1",
            "DELETE FROM presence_statuses WHERE user_id = $1",
            "DELETE FROM pushers WHERE user_id = $1",
        ];
        const ERASE: [&str; 2] =
            ["DELETE FROM profiles WHERE user_id = $1", "DELETE FROM profile_fields WHERE user_id = $1"];
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            sqlx::query(DEACTIVATE).bind(erase).bind(user_id.as_str()).execute(connection).await.map(drop)
        })?;
        let erasing = ERASE.into_iter().filter(|_| erase);
        for sql in ALWAYS.into_iter().chain(erasing) {
            db!(transaction.connection(), |connection| {
                sqlx::query(sql).bind(user_id.as_str()).execute(connection).await.map(drop)
            })?;
        }
        remove_all_devices(&mut transaction, user_id, None).await?;
        forget_keys(&mut transaction, user_id).await?;
        transaction.commit().await
    }

    /// Those of `user_ids` whose users wanted what they sent to be erased.
    pub async fn erased_users(&self, user_ids: &[OwnedUserId]) -> Result<Vec<OwnedUserId>> {
        const SQL: &str = "SELECT user_id FROM accounts WHERE erased AND user_id IN (SELECT value FROM json_each($1))";
        let user_ids = list(user_ids.iter().map(|user_id| user_id.as_str()));
        let rows: Vec<String> = db!(self.read(), |pool| sqlx::query_scalar(SQL).bind(user_ids).fetch_all(pool).await)?;
        rows.iter().map(|user_id| parsed(user_id, "accounts", "user_id")).collect()
    }

    /// The profile of a local user; `None` when there is no such account.
    pub async fn profile(&self, user_id: &UserId) -> Result<Option<Profile>> {
        const SQL: &str = "SELECT p.display_name, p.avatar_url FROM accounts a
            LEFT JOIN profiles p ON p.user_id = a.user_id WHERE a.user_id = $1";
        let row: Option<(Option<String>, Option<String>)> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(user_id.as_str()).fetch_optional(pool).await)?;
        Ok(row.map(|(display_name, avatar_url)| Profile { display_name, avatar_url }))
    }

    /// Sets or removes the display name.
    pub async fn set_display_name(&self, user_id: &UserId, display_name: Option<&str>) -> Result<()> {
        const SQL: &str = "INSERT INTO profiles (user_id, display_name) VALUES ($1, $2)
            ON CONFLICT (user_id) DO UPDATE SET display_name = excluded.display_name";
        self.set_profile(SQL, user_id, display_name).await
    }

    /// Sets or removes the avatar.
    pub async fn set_avatar_url(&self, user_id: &UserId, avatar_url: Option<&str>) -> Result<()> {
        const SQL: &str = "INSERT INTO profiles (user_id, avatar_url) VALUES ($1, $2)
            ON CONFLICT (user_id) DO UPDATE SET avatar_url = excluded.avatar_url";
        self.set_profile(SQL, user_id, avatar_url).await
    }

    async fn set_profile(&self, sql: &'static str, user_id: &UserId, value: Option<&str>) -> Result<()> {
        let value = value.map(without_nul);
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            sqlx::query(sql).bind(user_id.as_str()).bind(value).execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }
}

/// The hashes of a user's access tokens.
async fn tokens_of(transaction: &mut Transaction, user_id: &UserId) -> Result<Vec<Vec<u8>>> {
    const SQL: &str = "SELECT token_hash FROM access_tokens WHERE user_id = $1";
    Ok(db!(transaction.connection(), |connection| {
        sqlx::query_scalar(SQL).bind(user_id.as_str()).fetch_all(connection).await
    })?)
}

/// Deletes the cross-signing keys of a user, the signatures made with them, and the backups of room keys.
async fn forget_keys(transaction: &mut Transaction, user_id: &UserId) -> Result<()> {
    const OF_USER: [&str; 4] = [
        "DELETE FROM cross_signing_keys WHERE user_id = $1",
        "DELETE FROM key_signatures WHERE signer = $1 OR target_user_id = $1",
        "DELETE FROM backed_up_keys WHERE user_id = $1",
        "DELETE FROM key_backups WHERE user_id = $1",
    ];
    for sql in OF_USER {
        db!(transaction.connection(), |connection| {
            sqlx::query(sql).bind(user_id.as_str()).execute(connection).await.map(drop)
        })?;
    }
    Ok(())
}

/// Spends one use of a registration token; `false` when it has none left, is expired or unknown.
async fn spend_token(transaction: &mut Transaction, token: &str, now_ts: u64) -> Result<bool> {
    const SQL: &str = "UPDATE registration_tokens SET uses = uses + 1 WHERE token = $1
        AND (uses_allowed IS NULL OR uses < uses_allowed) AND (expires_ts IS NULL OR expires_ts > $2)";
    if !is_storable(token) {
        return Ok(false);
    }
    let spent = db!(transaction.connection(), |connection| {
        let query = sqlx::query(SQL).bind(token).bind(now_ts as i64);
        query.execute(connection).await.map(|done| done.rows_affected())
    })?;
    Ok(spent > 0)
}
