//! Backups of room keys. The keys are encrypted by the clients; only what is told beside them is read here.

use std::collections::HashMap;

use ruma::{OwnedRoomId, RoomId, UserId};
use serde_json::value::RawValue;

use crate::{
    Result, Storage,
    database::Transaction,
    device_keys::json,
    dialect::{db, is_storable, parsed, storable},
    insert::{Insert, row},
};

static KEYS: Insert = Insert::new(
    "backed_up_keys (user_id, version, room_id, session_id, first_message_index, forwarded_count, is_verified,
        session_data)",
    "ON CONFLICT (user_id, version, room_id, session_id) DO UPDATE SET
        first_message_index = excluded.first_message_index, forwarded_count = excluded.forwarded_count,
        is_verified = excluded.is_verified, session_data = excluded.session_data",
);

/// A version of a user's backup.
#[derive(Clone, Debug)]
pub struct KeyBackupRecord {
    /// 1, 2, 3, ...
    pub version: i64,
    /// How the keys are encrypted.
    pub algorithm: String,
    /// What clients need to know about that.
    pub auth_data: Box<RawValue>,
    /// Another number after each change of the keys.
    pub etag: i64,
    /// How many keys there are.
    pub count: i64,
}

/// A key in a backup.
#[derive(Clone, Debug)]
pub struct BackedUpKey {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The session.
    pub session_id: String,
    /// The first message that the key can decrypt.
    pub first_message_index: i64,
    /// How often the key was passed on.
    pub forwarded_count: i64,
    /// Whether the device that it came from was verified.
    pub is_verified: bool,
    /// The encrypted key.
    pub session_data: Box<RawValue>,
}

/// What became of keys that were to be added to a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupOutcome {
    /// They are in it.
    Done {
        /// How many keys there are now.
        count: i64,
        /// The new etag.
        etag: i64,
    },
    /// There is no such version.
    NoBackup,
    /// It is not the current version, which is this.
    NotCurrent(i64),
    /// There would be more keys than allowed.
    TooMany,
}

/// Version, algorithm, auth data, etag, count.
type Row = (i64, String, String, i64, i64);

impl Storage {
    /// Begins a new version of a user's backup, which is the current one then.
    pub async fn create_key_backup(&self, user_id: &UserId, algorithm: &str, auth_data: &RawValue) -> Result<i64> {
        const SQL: &str = "INSERT INTO key_backups (user_id, version, algorithm, auth_data, etag, deleted)
            SELECT $1, COALESCE(MAX(b.version), 0) + 1, $2, $3, 0, FALSE FROM key_backups b WHERE b.user_id = $1
            RETURNING version";
        let algorithm = storable(algorithm, "the algorithm of a backup")?;
        let mut transaction = self.begin().await?;
        let version = db!(transaction.connection(), |connection| {
            let query = sqlx::query_scalar(SQL).bind(user_id.as_str()).bind(algorithm).bind(auth_data.get());
            query.fetch_one(connection).await
        })?;
        transaction.commit().await?;
        Ok(version)
    }

    /// A version of a user's backup, or the current one.
    pub async fn key_backup(&self, user_id: &UserId, version: Option<i64>) -> Result<Option<KeyBackupRecord>> {
        const SQL: &str = "SELECT b.version, b.algorithm, b.auth_data, b.etag,
                (SELECT COUNT(*) FROM backed_up_keys k WHERE k.user_id = b.user_id AND k.version = b.version)
            FROM key_backups b WHERE b.user_id = $1 AND NOT b.deleted AND ($2 = 0 OR b.version = $2)
            ORDER BY b.version DESC LIMIT 1";
        let version = version.unwrap_or(0);
        let row: Option<Row> = db!(self.read(), |pool| {
            sqlx::query_as(SQL).bind(user_id.as_str()).bind(version).fetch_optional(pool).await
        })?;
        row.map(record).transpose()
    }

    /// Replaces what clients need to know about a version; `false` when there is no such version.
    pub async fn update_key_backup(&self, user_id: &UserId, version: i64, auth_data: &RawValue) -> Result<bool> {
        const SQL: &str = "UPDATE key_backups SET auth_data = $1 WHERE user_id = $2 AND version = $3 AND NOT deleted";
        let mut transaction = self.begin().await?;
        let updated = db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(auth_data.get()).bind(user_id.as_str()).bind(version);
            query.execute(connection).await.map(|done| done.rows_affected())
        })?;
        transaction.commit().await?;
        Ok(updated > 0)
    }

    /// Deletes a version with its keys; `false` when there is no such version. Its number is never given again.
    pub async fn delete_key_backup(&self, user_id: &UserId, version: i64) -> Result<bool> {
        const SQL: &str = "UPDATE key_backups SET deleted = TRUE WHERE user_id = $1 AND version = $2 AND NOT deleted";
        const KEYS_OF: &str = "DELETE FROM backed_up_keys WHERE user_id = $1 AND version = $2";
        let mut transaction = self.begin().await?;
        let deleted = db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(user_id.as_str()).bind(version);
            query.execute(connection).await.map(|done| done.rows_affected())
        })?;
        db!(transaction.connection(), |connection| {
            sqlx::query(KEYS_OF).bind(user_id.as_str()).bind(version).execute(connection).await.map(drop)
        })?;
        transaction.commit().await?;
        Ok(deleted > 0)
    }

    /// Adds keys to the current version of a backup, which may hold `keys_max`. Where there is one already,
    /// `replaces(new, old)` says whether the new one takes its place.
    pub async fn add_backed_up_keys(
        &self,
        user_id: &UserId,
        version: i64,
        keys: &[BackedUpKey],
        keys_max: i64,
        replaces: impl Fn(&BackedUpKey, &BackedUpKey) -> bool + Send,
    ) -> Result<BackupOutcome> {
        for key in keys {
            storable(&key.session_id, "the id of a session")?;
            storable(key.room_id.as_str(), "a room id")?;
        }
        let mut transaction = self.begin().await?;
        match lock_backup(&mut transaction, user_id, version).await? {
            Locked::Current => {}
            Locked::NotCurrent(current) => return Ok(BackupOutcome::NotCurrent(current)),
            Locked::Missing => return Ok(BackupOutcome::NoBackup),
        }
        let mut new: HashMap<(&str, &str), &BackedUpKey> = HashMap::new();
        for key in keys {
            let place = (key.room_id.as_str(), key.session_id.as_str());
            let takes_it = match new.get(&place) {
                Some(old) => replaces(key, old),
                None => {
                    stored_key(&mut transaction, user_id, version, key).await?.is_none_or(|old| replaces(key, &old))
                }
            };
            if takes_it {
                new.insert(place, key);
            }
        }
        let changed = !new.is_empty();
        let rows = new.into_values().map(|key| {
            row![
                user_id.as_str(),
                version,
                key.room_id.as_str(),
                key.session_id.as_str(),
                key.first_message_index,
                key.forwarded_count,
                key.is_verified,
                key.session_data.get()
            ]
        });
        KEYS.run(&mut transaction, rows.collect()).await?;
        let (count, etag) = advance(&mut transaction, user_id, version, changed).await?;
        if count > keys_max {
            return Ok(BackupOutcome::TooMany);
        }
        transaction.commit().await?;
        Ok(BackupOutcome::Done { count, etag })
    }

    /// The keys of a version: all, or those of a room, or one.
    pub async fn backed_up_keys(
        &self,
        user_id: &UserId,
        version: i64,
        room_id: Option<&RoomId>,
        session_id: Option<&str>,
    ) -> Result<Vec<BackedUpKey>> {
        const SQL: &str = "SELECT room_id, session_id, first_message_index, forwarded_count, is_verified, session_data
            FROM backed_up_keys WHERE user_id = $1 AND version = $2 AND ($3 = '' OR room_id = $3)
            AND ($4 = '' OR session_id = $4) ORDER BY room_id, session_id";
        let (room_id, session_id) = (room_id.map_or("", RoomId::as_str), session_id.unwrap_or_default());
        if !is_storable(room_id) || !is_storable(session_id) {
            return Ok(Vec::new());
        }
        let rows: Vec<KeyRow> = db!(self.read(), |pool| {
            let query = sqlx::query_as(SQL).bind(user_id.as_str()).bind(version).bind(room_id);
            query.bind(session_id).fetch_all(pool).await
        })?;
        rows.into_iter().map(key).collect()
    }

    /// Deletes keys of a version: all, or those of a room, or one.
    pub async fn delete_backed_up_keys(
        &self,
        user_id: &UserId,
        version: i64,
        room_id: Option<&RoomId>,
        session_id: Option<&str>,
    ) -> Result<BackupOutcome> {
        const SQL: &str = "DELETE FROM backed_up_keys WHERE user_id = $1 AND version = $2
            AND ($3 = '' OR room_id = $3) AND ($4 = '' OR session_id = $4)";
        let room_id = storable(room_id.map_or("", RoomId::as_str), "a room id")?;
        let session_id = storable(session_id.unwrap_or_default(), "the id of a session")?;
        let mut transaction = self.begin().await?;
        if matches!(lock_backup(&mut transaction, user_id, version).await?, Locked::Missing) {
            return Ok(BackupOutcome::NoBackup);
        }
        let deleted = db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(user_id.as_str()).bind(version).bind(room_id).bind(session_id);
            query.execute(connection).await.map(|done| done.rows_affected())
        })?;
        let (count, etag) = advance(&mut transaction, user_id, version, deleted > 0).await?;
        transaction.commit().await?;
        Ok(BackupOutcome::Done { count, etag })
    }
}

/// What is held until the end of the transaction.
enum Locked {
    Current,
    NotCurrent(i64),
    Missing,
}

async fn lock_backup(transaction: &mut Transaction, user_id: &UserId, version: i64) -> Result<Locked> {
    const LOCK: &str = "UPDATE key_backups SET etag = etag WHERE user_id = $1 AND NOT deleted RETURNING version";
    let versions: Vec<i64> = db!(transaction.connection(), |connection| {
        sqlx::query_scalar(LOCK).bind(user_id.as_str()).fetch_all(connection).await
    })?;
    let current = versions.iter().copied().max().unwrap_or(0);
    Ok(match versions.contains(&version) {
        true if current == version => Locked::Current,
        true => Locked::NotCurrent(current),
        false => Locked::Missing,
    })
}

async fn stored_key(
    transaction: &mut Transaction,
    user_id: &UserId,
    version: i64,
    wanted: &BackedUpKey,
) -> Result<Option<BackedUpKey>> {
    const SQL: &str = "SELECT room_id, session_id, first_message_index, forwarded_count, is_verified, session_data
        FROM backed_up_keys WHERE user_id = $1 AND version = $2 AND room_id = $3 AND session_id = $4";
    let row: Option<KeyRow> = db!(transaction.connection(), |connection| {
        let query = sqlx::query_as(SQL).bind(user_id.as_str()).bind(version).bind(wanted.room_id.as_str());
        query.bind(&wanted.session_id).fetch_optional(connection).await
    })?;
    row.map(key).transpose()
}

/// The count, and the etag, which is another one if something changed.
async fn advance(transaction: &mut Transaction, user_id: &UserId, version: i64, changed: bool) -> Result<(i64, i64)> {
    const SQL: &str = "UPDATE key_backups SET etag = etag + $3 WHERE user_id = $1 AND version = $2 RETURNING
        (SELECT COUNT(*) FROM backed_up_keys k WHERE k.user_id = $1 AND k.version = $2), etag";
    Ok(db!(transaction.connection(), |connection| {
        let query = sqlx::query_as(SQL).bind(user_id.as_str()).bind(version).bind(i64::from(changed));
        query.fetch_one(connection).await
    })?)
}

fn record((version, algorithm, auth_data, etag, count): Row) -> Result<KeyBackupRecord> {
    let auth_data = json(auth_data, "key_backups", &version.to_string())?;
    Ok(KeyBackupRecord { version, algorithm, auth_data, etag, count })
}

/// Room, session, first message, forwarded, verified, data.
type KeyRow = (String, String, i64, i64, bool, String);

fn key((room_id, session_id, first_message_index, forwarded_count, is_verified, data): KeyRow) -> Result<BackedUpKey> {
    Ok(BackedUpKey {
        room_id: parsed(&room_id, "backed_up_keys", "room_id")?,
        session_data: json(data, "backed_up_keys", &session_id)?,
        session_id,
        first_message_index,
        forwarded_count,
        is_verified,
    })
}
