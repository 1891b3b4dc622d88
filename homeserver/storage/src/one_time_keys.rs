//! Keys that are handed out once, and what takes their place when none are left.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use serde_json::value::RawValue;

use crate::{
    Result, Storage,
    cache::RowCache,
    database::Transaction,
    devices::lock_device,
    dialect::{db, is_storable, storable},
    insert::{Insert, row},
};

/// How many keys that were handed out are remembered for each device, so that an upload that is repeated does not
/// bring them back. Clients keep at most a hundred on the server, and repeat an upload within minutes.
const CLAIMED_MAX: i64 = 1_000;

/// Of how many devices it is remembered what they have left: each answer to a sync says so. Some 300 bytes each.
const CACHED_COUNTS: u64 = 20_000;

/// What devices have left, by user and device.
pub(crate) type KeyCountCache = RowCache<(String, String), Arc<KeyCounts>>;

pub(crate) fn key_count_cache() -> KeyCountCache {
    RowCache::new(CACHED_COUNTS, |_, _| 1)
}

static KEYS: Insert = Insert::new(
    "one_time_keys (user_id, device_id, algorithm, key_id, upload_order, claimed, json)",
    "ON CONFLICT (user_id, device_id, algorithm, key_id) DO UPDATE SET upload_order = excluded.upload_order,
        claimed = excluded.claimed, json = excluded.json",
);
static FALLBACK_KEYS: Insert = Insert::new(
    "fallback_keys (user_id, device_id, algorithm, key_id, used, json)",
    "ON CONFLICT (user_id, device_id, algorithm) DO UPDATE SET key_id = excluded.key_id, used = excluded.used,
        json = excluded.json",
);

/// A one-time or fallback key to be stored. Keys are compared by their JSON, so it must be canonical.
#[derive(Clone, Debug)]
pub struct NewOneTimeKey {
    /// Such as `signed_curve25519`.
    pub algorithm: String,
    /// What stands after the colon.
    pub key_id: String,
    /// The key.
    pub key: Box<RawValue>,
}

/// What became of an upload of one-time keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OneTimeKeysUpload {
    /// They are stored.
    Stored,
    /// There is no such device.
    NoDevice,
    /// Another key is stored under the id of this one; nothing was stored.
    Conflict(String),
    /// The device would have more keys than allowed; nothing was stored.
    TooMany,
}

/// What is to be claimed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyClaim {
    /// Of whom.
    pub user_id: OwnedUserId,
    /// Of which device.
    pub device_id: OwnedDeviceId,
    /// Of which algorithm.
    pub algorithm: String,
}

/// A key that was handed out.
#[derive(Clone, Debug)]
pub struct ClaimedKey {
    /// For which claim.
    pub claim: KeyClaim,
    /// What stands after the colon.
    pub key_id: String,
    /// The key.
    pub key: Box<RawValue>,
}

/// What a device has left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyCounts {
    /// How many one-time keys, by algorithm.
    pub one_time_keys: BTreeMap<String, u64>,
    /// The algorithms of which there is a fallback key that was not handed out yet.
    pub unused_fallback_algorithms: Vec<String>,
}

/// Whether a key was claimed, and its JSON, by algorithm and id.
type Existing = HashMap<(String, String), (bool, String)>;

impl Storage {
    /// Stores one-time and fallback keys of a device, of which it may have at most `unclaimed_max` one-time keys at a
    /// time. A key that is stored already, or was and is handed out, is passed over.
    pub async fn add_one_time_keys(
        &self,
        user_id: &UserId,
        device_id: &DeviceId,
        one_time_keys: &[NewOneTimeKey],
        fallback_keys: &[NewOneTimeKey],
        unclaimed_max: usize,
    ) -> Result<OneTimeKeysUpload> {
        let (user, device) = (user_id.as_str(), storable(device_id.as_str(), "a device id")?);
        for key in one_time_keys.iter().chain(fallback_keys) {
            storable(&key.algorithm, "the algorithm of a key")?;
            storable(&key.key_id, "the id of a key")?;
        }
        let mut transaction = self.begin().await?;
        if !lock_device(&mut transaction, user, device, None).await? {
            return Ok(OneTimeKeysUpload::NoDevice);
        }
        let (existing, mut order) = load_existing(&mut transaction, user, device).await?;
        let mut unclaimed = existing.values().filter(|(claimed, _)| !claimed).count();
        let mut rows = Vec::new();
        for key in one_time_keys {
            match existing.get(&(key.algorithm.clone(), key.key_id.clone())) {
                Some((_, stored)) if stored == key.key.get() => continue,
                Some((false, _)) => {
                    return Ok(OneTimeKeysUpload::Conflict(format!("{}:{}", key.algorithm, key.key_id)));
                }
                _ => {}
            }
            (order, unclaimed) = (order + 1, unclaimed + 1);
            let (algorithm, key_id) = (key.algorithm.as_str(), key.key_id.as_str());
            rows.push(row![user, device, algorithm, key_id, order, false, key.key.get()]);
        }
        if unclaimed > unclaimed_max && !rows.is_empty() {
            return Ok(OneTimeKeysUpload::TooMany);
        }
        transaction.changes_key_counts(user, device);
        KEYS.run(&mut transaction, rows).await?;
        add_fallback_keys(&mut transaction, user, device, fallback_keys).await?;
        forget_claimed(&mut transaction, user, device, order - CLAIMED_MAX).await?;
        transaction.commit().await?;
        Ok(OneTimeKeysUpload::Stored)
    }

    /// What a device has left.
    pub async fn key_counts(&self, user_id: &UserId, device_id: &DeviceId) -> Result<KeyCounts> {
        const SQL: &str = "SELECT algorithm, COUNT(*) FROM one_time_keys
            WHERE user_id = $1 AND device_id = $2 AND NOT claimed GROUP BY algorithm
            UNION ALL SELECT algorithm, -1 FROM fallback_keys WHERE user_id = $1 AND device_id = $2 AND NOT used";
        if !is_storable(device_id.as_str()) {
            return Ok(KeyCounts::default());
        }
        let cache = &self.shared.key_counts;
        let device = (user_id.to_string(), device_id.to_string());
        if let Some(counts) = cache.get(&device) {
            return Ok((*counts).clone());
        }
        let reading = cache.reading();
        let rows: Vec<(String, i64)> = db!(self.read(), |pool| {
            sqlx::query_as(SQL).bind(user_id.as_str()).bind(device_id.as_str()).fetch_all(pool).await
        })?;
        let mut counts = KeyCounts::default();
        for (algorithm, count) in rows {
            match u64::try_from(count) {
                Ok(count) => drop(counts.one_time_keys.insert(algorithm, count)),
                Err(_) => counts.unused_fallback_algorithms.push(algorithm),
            }
        }
        cache.offer(reading, device, Arc::new(counts.clone()));
        Ok(counts)
    }

    /// Forgets all one-time and fallback keys of a device, who signed it and what it signed: it has another identity now.
    pub async fn forget_device_identity(&self, user_id: &UserId, device_id: &DeviceId) -> Result<()> {
        const SQL: [&str; 4] = [
            "DELETE FROM key_signatures WHERE target_user_id = $1 AND target_id = $2",
            "DELETE FROM key_signatures WHERE target_user_id = $1 AND signer = $1 AND key_id = 'ed25519:' || $2",
            "DELETE FROM one_time_keys WHERE user_id = $1 AND device_id = $2",
            "DELETE FROM fallback_keys WHERE user_id = $1 AND device_id = $2",
        ];
        let device_id = storable(device_id.as_str(), "a device id")?;
        let mut transaction = self.begin().await?;
        transaction.changes_key_counts(user_id.as_str(), device_id);
        for sql in SQL {
            db!(transaction.connection(), |connection| {
                sqlx::query(sql).bind(user_id.as_str()).bind(device_id).execute(connection).await.map(drop)
            })?;
        }
        transaction.commit().await
    }
}

async fn load_existing(transaction: &mut Transaction, user: &str, device: &str) -> Result<(Existing, i64)> {
    const SQL: &str = "SELECT algorithm, key_id, upload_order, claimed, json FROM one_time_keys
        WHERE user_id = $1 AND device_id = $2";
    let rows: Vec<(String, String, i64, bool, String)> = db!(transaction.connection(), |connection| {
        sqlx::query_as(SQL).bind(user).bind(device).fetch_all(connection).await
    })?;
    let order = rows.iter().map(|(_, _, order, _, _)| *order).max().unwrap_or(0);
    let existing = |(algorithm, key_id, _, claimed, json)| ((algorithm, key_id), (claimed, json));
    Ok((rows.into_iter().map(existing).collect(), order))
}

/// A fallback key takes the place of the one before. The same again stays as used as it is.
async fn add_fallback_keys(
    transaction: &mut Transaction,
    user: &str,
    device: &str,
    keys: &[NewOneTimeKey],
) -> Result<()> {
    const SQL: &str = "SELECT algorithm, key_id, json FROM fallback_keys WHERE user_id = $1 AND device_id = $2";
    if keys.is_empty() {
        return Ok(());
    }
    let stored: Vec<(String, String, String)> = db!(transaction.connection(), |connection| {
        sqlx::query_as(SQL).bind(user).bind(device).fetch_all(connection).await
    })?;
    let is_new = |key: &&NewOneTimeKey| {
        !stored.iter().any(|(algorithm, key_id, json)| {
            (algorithm, key_id, json.as_str()) == (&key.algorithm, &key.key_id, key.key.get())
        })
    };
    // No algorithm twice: the last one counts.
    let new: BTreeMap<&str, &NewOneTimeKey> =
        keys.iter().filter(is_new).map(|key| (key.algorithm.as_str(), key)).collect();
    let rows = new
        .into_values()
        .map(|key| row![user, device, key.algorithm.as_str(), key.key_id.as_str(), false, key.key.get()]);
    Ok(FALLBACK_KEYS.run(transaction, rows.collect()).await?)
}

async fn forget_claimed(transaction: &mut Transaction, user: &str, device: &str, until: i64) -> Result<()> {
    const SQL: &str = "DELETE FROM one_time_keys WHERE user_id = $1 AND device_id = $2 AND claimed
        AND upload_order <= $3";
    db!(transaction.connection(), |connection| {
        sqlx::query(SQL).bind(user).bind(device).bind(until).execute(connection).await.map(drop)
    })?;
    Ok(())
}

/// The next key of a device, which is handed out by that.
pub(crate) async fn take_key(transaction: &mut Transaction, claim: &KeyClaim) -> Result<Option<(String, String)>> {
    const NEXT: &str = "SELECT key_id, json FROM one_time_keys WHERE user_id = $1 AND device_id = $2 AND algorithm = $3
        AND NOT claimed ORDER BY upload_order LIMIT 1";
    const TAKE: &str = "UPDATE one_time_keys SET claimed = TRUE
        WHERE user_id = $1 AND device_id = $2 AND algorithm = $3 AND key_id = $4";
    const FALLBACK: &str = "UPDATE fallback_keys SET used = TRUE
        WHERE user_id = $1 AND device_id = $2 AND algorithm = $3 RETURNING key_id, json";
    let (user, device) = (claim.user_id.as_str(), claim.device_id.as_str());
    if !is_storable(&claim.algorithm) {
        return Ok(None);
    }
    transaction.changes_key_counts(user, device);
    let next: Option<(String, String)> = db!(transaction.connection(), |connection| {
        sqlx::query_as(NEXT).bind(user).bind(device).bind(&claim.algorithm).fetch_optional(connection).await
    })?;
    if let Some((key_id, key)) = next {
        db!(transaction.connection(), |connection| {
            let query = sqlx::query(TAKE).bind(user).bind(device).bind(&claim.algorithm).bind(&key_id);
            query.execute(connection).await.map(drop)
        })?;
        return Ok(Some((key_id, key)));
    }
    Ok(db!(transaction.connection(), |connection| {
        sqlx::query_as(FALLBACK).bind(user).bind(device).bind(&claim.algorithm).fetch_optional(connection).await
    })?)
}
