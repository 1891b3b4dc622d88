//! Devices and their tokens. Tokens are given and kept only as SHA-256 hashes.

mod tokens;

use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};

pub(crate) use self::tokens::lock_device;
use crate::{
    Result, Storage,
    cache::{Reading, RowCache},
    commit::forget_device,
    database::Transaction,
    devices::tokens::{NewAccess, confirm, drop_unconfirmed, insert_tokens, is_unconfirmed, revoke_device},
    dialect::{db, is_storable, list, parsed, storable, without_nul},
    pushers::forget_pushers,
};

/// How many access tokens are remembered: one per device that is active at the same time.
const CACHED_TOKENS: u64 = 50_000;

/// A log-in.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Who.
    pub user_id: OwnedUserId,
    /// On which device; it is created when it does not exist.
    pub device_id: OwnedDeviceId,
    /// The display name of a new device.
    pub display_name: Option<String>,
    /// The hash of the access token.
    pub access_token_hash: [u8; 32],
    /// When the access token expires, in milliseconds since the epoch.
    pub access_token_expires_ts: Option<u64>,
    /// The hash of the refresh token, if the client wants one.
    pub refresh_token_hash: Option<[u8; 32]>,
    /// Now, in milliseconds since the epoch.
    pub now_ts: u64,
}

/// What an access token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each of them is a column, and independent of the others")]
pub struct AccessToken {
    /// Whose it is.
    pub user_id: OwnedUserId,
    /// The device it belongs to.
    pub device_id: OwnedDeviceId,
    /// When it expires, in milliseconds since the epoch.
    pub expires_ts: Option<u64>,
    /// Whether the account was deactivated.
    pub deactivated: bool,
    /// Whether the account is locked.
    pub locked: bool,
    /// Whether the account is suspended.
    pub suspended: bool,
    /// Whether it is a guest's.
    pub guest: bool,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its id.
    pub device_id: OwnedDeviceId,
    /// Whose it is.
    pub user_id: OwnedUserId,
    /// Its name.
    pub display_name: Option<String>,
    /// When it was last used, in milliseconds since the epoch.
    pub last_seen_ts: Option<u64>,
    /// From which address it was last used.
    pub last_seen_ip: Option<String>,
}

/// What became of a refresh token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefreshOutcome {
    /// The new pair is valid. The old access token stays valid until the new one is first used.
    Refreshed {
        /// Whose it is.
        user_id: OwnedUserId,
        /// The device it belongs to.
        device_id: OwnedDeviceId,
    },
    /// No such token.
    Unknown,
    /// It was spent before, so somebody stole it: all tokens of the device are revoked now.
    Reused,
}

/// The hash of a token.
type Hash = [u8; 32];

/// What access tokens that were used lately stand for.
pub(crate) struct TokenCache(RowCache<Hash, AccessToken>);

impl Default for TokenCache {
    fn default() -> Self {
        Self(RowCache::new(CACHED_TOKENS, |_, _| 1))
    }
}

impl TokenCache {
    /// Forgets revoked tokens. To be called after the transaction that revoked them.
    pub(crate) fn forget(&self, revoked: &[Vec<u8>]) {
        let hashes: Vec<Hash> = revoked.iter().filter_map(|hash| hash.as_slice().try_into().ok()).collect();
        self.0.forget(&hashes);
    }

    /// How many tokens are remembered.
    pub(crate) fn count(&self) -> u64 {
        self.0.weight()
    }

    fn reading(&self) -> Reading {
        self.0.reading()
    }
}

impl Storage {
    /// Logs a device in, replacing older tokens of that device.
    pub async fn create_session(&self, session: NewSession) -> Result<()> {
        const DEVICE: &str = "INSERT INTO devices (user_id, device_id, display_name, last_seen_ts)
            VALUES ($1, $2, $3, $4)
            ON CONFLICT (user_id, device_id) DO UPDATE SET last_seen_ts = excluded.last_seen_ts";
        // Who logs in with it has brought it back to life.
        const ALIVE: &str = "DELETE FROM dehydrated_devices WHERE user_id = $1 AND device_id = $2";
        let user_id = session.user_id.as_str();
        let device_id = storable(session.device_id.as_str(), "a device id")?;
        let display_name = session.display_name.as_deref().map(without_nul);
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            let query = sqlx::query(DEVICE).bind(user_id).bind(device_id).bind(display_name);
            query.bind(session.now_ts as i64).execute(connection).await.map(drop)
        })?;
        db!(transaction.connection(), |connection| {
            sqlx::query(ALIVE).bind(user_id).bind(device_id).execute(connection).await.map(drop)
        })?;
        revoke_device(&mut transaction, user_id, device_id).await?;
        let access = NewAccess {
            hash: session.access_token_hash,
            expires_ts: session.access_token_expires_ts,
            unconfirmed: false,
        };
        insert_tokens(&mut transaction, user_id, device_id, &access, session.refresh_token_hash.as_ref()).await?;
        transaction.commit().await
    }

    /// What an access token stands for, expired or not; `None` when it is unknown or revoked. The first use of a token
    /// that came from a refresh revokes the pair before it.
    pub async fn access_token(&self, hash: &[u8; 32]) -> Result<Option<AccessToken>> {
        const SQL: &str = "SELECT t.user_id, t.device_id, t.expires_ts, t.unconfirmed, COALESCE(a.deactivated, FALSE),
            COALESCE(a.locked, FALSE), COALESCE(a.suspended, FALSE), COALESCE(a.guest, FALSE) FROM access_tokens t
            LEFT JOIN accounts a ON a.user_id = t.user_id WHERE t.token_hash = $1";
        if let Some(token) = self.shared.tokens.0.get(hash) {
            return Ok(Some(token));
        }
        let reading = self.shared.tokens.reading();
        let row: Option<TokenRow> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(&hash[..]).fetch_optional(pool).await)?;
        let Some((user_id, device_id, expires_ts, unconfirmed, deactivated, locked, suspended, guest)) = row else {
            return Ok(None);
        };
        if unconfirmed {
            let mut transaction = self.begin().await?;
            lock_device(&mut transaction, &user_id, &device_id, None).await?;
            confirm(&mut transaction, &user_id, &device_id, hash).await?;
            transaction.commit().await?;
        }
        let token = AccessToken {
            user_id: parsed(&user_id, "access_tokens", "user_id")?,
            device_id: device_id.into(),
            expires_ts: expires_ts.map(i64::unsigned_abs),
            deactivated,
            locked,
            suspended,
            guest,
        };
        // After a confirmation this is refused, and the next use remembers it.
        self.shared.tokens.0.offer(reading, *hash, token.clone());
        Ok(Some(token))
    }

    /// Whose refresh token it is, spent or not.
    pub async fn owner_of_refresh_token(&self, hash: &[u8; 32]) -> Result<Option<OwnedUserId>> {
        const SQL: &str = "SELECT user_id FROM refresh_tokens WHERE token_hash = $1";
        let user_id: Option<String> =
            db!(self.read(), |pool| sqlx::query_scalar(SQL).bind(&hash[..]).fetch_optional(pool).await)?;
        user_id.map(|user_id| parsed(&user_id, "refresh_tokens", "user_id")).transpose()
    }

    /// Spends a refresh token for a new pair of tokens. Until one of the new pair is used, the old refresh token can be
    /// spent again, should the answer have been lost: then that pair takes the place of the one before.
    pub async fn refresh(
        &self,
        refresh_token_hash: &[u8; 32],
        new_access_token_hash: [u8; 32],
        access_token_expires_ts: Option<u64>,
        new_refresh_token_hash: [u8; 32],
        now_ts: u64,
    ) -> Result<RefreshOutcome> {
        const WHOSE: &str = "SELECT user_id, device_id FROM refresh_tokens WHERE token_hash = $1";
        const WHICH: &str = "SELECT access_token_hash, used FROM refresh_tokens WHERE token_hash = $1";
        let mut transaction = self.begin().await?;
        let whose: Option<(String, String)> = db!(transaction.connection(), |connection| {
            sqlx::query_as(WHOSE).bind(&refresh_token_hash[..]).fetch_optional(connection).await
        })?;
        let Some((user_id, device_id)) = whose else { return Ok(RefreshOutcome::Unknown) };
        lock_device(&mut transaction, &user_id, &device_id, Some(now_ts)).await?;
        let which: Option<(Vec<u8>, bool)> = db!(transaction.connection(), |connection| {
            sqlx::query_as(WHICH).bind(&refresh_token_hash[..]).fetch_optional(connection).await
        })?;
        let Some((access_token_hash, used)) = which else { return Ok(RefreshOutcome::Unknown) };
        let outcome = if used {
            revoke_device(&mut transaction, &user_id, &device_id).await?;
            RefreshOutcome::Reused
        } else {
            if is_unconfirmed(&mut transaction, &access_token_hash).await? {
                confirm(&mut transaction, &user_id, &device_id, &access_token_hash).await?;
            }
            drop_unconfirmed(&mut transaction, &user_id, &device_id).await?;
            let access =
                NewAccess { hash: new_access_token_hash, expires_ts: access_token_expires_ts, unconfirmed: true };
            insert_tokens(&mut transaction, &user_id, &device_id, &access, Some(&new_refresh_token_hash)).await?;
            let (user_id, device_id) = (parsed(&user_id, "refresh_tokens", "user_id")?, device_id.into());
            RefreshOutcome::Refreshed { user_id, device_id }
        };
        transaction.commit().await?;
        Ok(outcome)
    }

    /// All devices of a user.
    pub async fn devices(&self, user_id: &UserId) -> Result<Vec<Device>> {
        const SQL: &str = "SELECT device_id, display_name, last_seen_ts, last_seen_ip FROM devices WHERE user_id = $1";
        let rows: Vec<Row> = db!(self.read(), |pool| sqlx::query_as(SQL).bind(user_id.as_str()).fetch_all(pool).await)?;
        Ok(rows.into_iter().map(|row| device(user_id, row)).collect())
    }

    /// One device.
    pub async fn device(&self, user_id: &UserId, device_id: &DeviceId) -> Result<Option<Device>> {
        const SQL: &str = "SELECT device_id, display_name, last_seen_ts, last_seen_ip FROM devices
            WHERE user_id = $1 AND device_id = $2";
        let device_id = storable(device_id.as_str(), "a device id")?;
        let row: Option<Row> = db!(self.read(), |pool| {
            sqlx::query_as(SQL).bind(user_id.as_str()).bind(device_id).fetch_optional(pool).await
        })?;
        Ok(row.map(|row| device(user_id, row)))
    }

    /// Makes a device that nobody is logged in with; `false` when there is one of that id.
    pub async fn create_device(
        &self,
        user_id: &UserId,
        device_id: &DeviceId,
        display_name: Option<&str>,
        now_ts: u64,
    ) -> Result<bool> {
        const SQL: &str = "INSERT INTO devices (user_id, device_id, display_name, last_seen_ts)
            VALUES ($1, $2, $3, $4) ON CONFLICT (user_id, device_id) DO NOTHING";
        let device_id = storable(device_id.as_str(), "a device id")?;
        let display_name = display_name.map(without_nul);
        let mut transaction = self.begin().await?;
        let created = db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(user_id.as_str()).bind(device_id).bind(display_name);
            query.bind(now_ts as i64).execute(connection).await.map(|done| done.rows_affected())
        })?;
        transaction.commit().await?;
        Ok(created > 0)
    }

    /// Renames a device; `false` when there is no such device.
    pub async fn set_device_display_name(
        &self,
        user_id: &UserId,
        device_id: &DeviceId,
        display_name: Option<&str>,
    ) -> Result<bool> {
        const SQL: &str = "UPDATE devices SET display_name = $1 WHERE user_id = $2 AND device_id = $3";
        let device_id = storable(device_id.as_str(), "a device id")?;
        let display_name = display_name.map(without_nul);
        let mut transaction = self.begin().await?;
        let renamed = db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(display_name).bind(user_id.as_str()).bind(device_id);
            query.execute(connection).await.map(|done| done.rows_affected())
        })?;
        transaction.commit().await?;
        Ok(renamed > 0)
    }

    /// Deletes all devices of a user and their tokens, but for one.
    pub async fn delete_all_devices(&self, user_id: &UserId, except: Option<&DeviceId>) -> Result<()> {
        let mut transaction = self.begin().await?;
        remove_all_devices(&mut transaction, user_id, except).await?;
        transaction.commit().await
    }

    /// Notes when and from where a device was used.
    pub async fn touch_device(&self, user_id: &UserId, device_id: &DeviceId, ts: u64, ip: &str) -> Result<()> {
        const SQL: &str =
            "UPDATE devices SET last_seen_ts = $1, last_seen_ip = $2 WHERE user_id = $3 AND device_id = $4";
        let device_id = storable(device_id.as_str(), "a device id")?;
        let ip = without_nul(ip);
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(ts as i64).bind(ip).bind(user_id.as_str()).bind(device_id);
            query.execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }
}

/// User, device, expiry; whether unconfirmed, deactivated, locked, suspended, a guest's.
type TokenRow = (String, String, Option<i64>, bool, bool, bool, bool, bool);

/// Device, display name, last seen when and from where.
type Row = (String, Option<String>, Option<i64>, Option<String>);

fn device(user_id: &UserId, (device_id, display_name, last_seen_ts, last_seen_ip): Row) -> Device {
    Device {
        device_id: device_id.into(),
        user_id: user_id.to_owned(),
        display_name,
        last_seen_ts: last_seen_ts.map(i64::unsigned_abs),
        last_seen_ip,
    }
}

/// Deletes all devices of a user with their tokens, but for one.
pub(crate) async fn remove_all_devices(
    transaction: &mut Transaction,
    user_id: &UserId,
    except: Option<&DeviceId>,
) -> Result<()> {
    const SQL: &str = "SELECT device_id FROM devices WHERE user_id = $1";
    let device_ids: Vec<String> = db!(transaction.connection(), |connection| {
        sqlx::query_scalar(SQL).bind(user_id.as_str()).fetch_all(connection).await
    })?;
    let mut device_ids: Vec<OwnedDeviceId> = device_ids.into_iter().map(OwnedDeviceId::from).collect();
    device_ids.retain(|device_id| Some(&**device_id) != except);
    remove_devices(transaction, user_id, &device_ids).await
}

/// Deletes devices with their tokens, and all that is kept for them. Unknown ones are ignored.
pub(crate) async fn remove_devices(
    transaction: &mut Transaction,
    user_id: &UserId,
    device_ids: &[OwnedDeviceId],
) -> Result<()> {
    const SQL: &str = "DELETE FROM devices WHERE user_id = $1 AND device_id IN (SELECT value FROM json_each($2))";
    let device_ids = device_ids.iter().map(|device_id| device_id.as_str());
    let device_ids: Vec<&str> = device_ids.filter(|device_id| is_storable(device_id)).collect();
    let known = list(device_ids.iter().copied());
    db!(transaction.connection(), |connection| {
        sqlx::query(SQL).bind(user_id.as_str()).bind(known).execute(connection).await.map(drop)
    })?;
    for device_id in device_ids {
        revoke_device(transaction, user_id.as_str(), device_id).await?;
        forget_device(transaction, user_id.as_str(), device_id).await?;
        forget_notification_settings(transaction, user_id, device_id).await?;
        forget_pushers(transaction, user_id, device_id).await?;
    }
    Ok(())
}

/// What clients keep about the notifications of one device, which is nothing without it.
async fn forget_notification_settings(transaction: &mut Transaction, user_id: &UserId, device_id: &str) -> Result<()> {
    const SQL: &str = "DELETE FROM account_data WHERE room_nid = 0 AND type IN ($2, $3)
        AND user_nid = (SELECT name_nid FROM names WHERE name = $1)";
    let stable = format!("m.local_notification_settings.{device_id}");
    let unstable = format!("org.matrix.msc3890.local_notification_settings.{device_id}");
    db!(transaction.connection(), |connection| {
        let query = sqlx::query(SQL).bind(user_id.as_str()).bind(stable).bind(unstable);
        query.execute(connection).await.map(drop)
    })?;
    Ok(())
}
