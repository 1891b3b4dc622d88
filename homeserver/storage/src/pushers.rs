//! Where users want to be told what notifies them, and how far each of these places has got.
//!
//! Setting a pusher is nobody else's business, so that it has no position in the log. What it is told follows from the
//! log, after a cursor of its own.

mod concerned;
mod delivery;
mod due;

use ruma::{OwnedDeviceId, OwnedUserId, UserId};
use serde_json::value::RawValue;

pub(crate) use self::concerned::PusherHolders;
pub use self::delivery::{ConcernedPusher, PusherQueue};
use crate::{
    Result, Storage, StorageError,
    database::Transaction,
    dialect::{db, is_storable, parsed, storable, without_nul},
};

/// What tells pushers apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PusherKey {
    /// Whose it is.
    pub user_id: OwnedUserId,
    /// The application, at most 64 characters.
    pub app_id: String,
    /// The address within it, at most 512 bytes.
    pub pushkey: String,
}

/// A place where a user wants to be told.
#[derive(Clone, Debug)]
pub struct PusherRecord {
    /// Which.
    pub key: PusherKey,
    /// The device that asked for it, and with which it ends.
    pub device_id: OwnedDeviceId,
    /// `http` or `email`.
    pub kind: String,
    /// Where it leads: what is known of this place holds for all pushers that lead there.
    pub gateway: String,
    /// The application, for people.
    pub app_display_name: String,
    /// The device, for people.
    pub device_display_name: String,
    /// Which set of rules the client means it for.
    pub profile_tag: Option<String>,
    /// The language that the user prefers.
    pub lang: String,
    /// What the client gave for the gateway: a JSON object.
    pub data: Box<RawValue>,
    /// What is needed to end it without being logged in; stays as it was first.
    pub secret: String,
    /// When it was set, in milliseconds since the epoch.
    pub set_ts: u64,
}

/// The fields of a [`PusherRecord`], in its order.
type Row =
    (String, String, String, String, String, String, String, String, Option<String>, String, String, String, i64);

/// The columns of a [`Row`].
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT user_id, app_id, pushkey, device_id, kind, gateway, app_display_name, device_display_name,
            profile_tag, lang, data, secret, set_ts FROM pushers ",
            $rest
        )
    };
}

impl Storage {
    /// A user's pushers, in the order of their keys.
    pub async fn pushers(&self, user_id: &UserId) -> Result<Vec<PusherRecord>> {
        const SQL: &str = select!("WHERE user_id = $1 ORDER BY app_id, pushkey");
        let rows: Vec<Row> = db!(self.read(), |pool| sqlx::query_as(SQL).bind(user_id.as_str()).fetch_all(pool).await)?;
        rows.into_iter().map(pusher).collect()
    }

    /// One pusher.
    pub async fn pusher(&self, key: &PusherKey) -> Result<Option<PusherRecord>> {
        const SQL: &str = select!("WHERE user_id = $1 AND app_id = $2 AND pushkey = $3");
        let row: Option<Row> = db!(self.read(), |pool| {
            let query = sqlx::query_as(SQL).bind(key.user_id.as_str());
            query.bind(&key.app_id).bind(&key.pushkey).fetch_optional(pool).await
        })?;
        row.map(pusher).transpose()
    }

    /// Creates a pusher, which is told what comes from now on, or changes one, which goes on where it was and is tried
    /// at once. Without `append` the same app and pushkey of other users is gone.
    pub async fn set_pusher(&self, pusher: &PusherRecord, append: bool) -> Result<()> {
        const OTHERS: &str = "DELETE FROM pushers WHERE pushkey = $1 AND app_id = $2 AND user_id <> $3";
        const SQL: &str = "INSERT INTO pushers (user_id, app_id, pushkey, device_id, kind, gateway, app_display_name,
                device_display_name, profile_tag, lang, data, secret, set_ts, cursor,
                generation)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $13)
            ON CONFLICT (user_id, app_id, pushkey) DO UPDATE SET device_id = excluded.device_id, kind = excluded.kind,
                gateway = excluded.gateway, app_display_name = excluded.app_display_name,
                device_display_name = excluded.device_display_name, profile_tag = excluded.profile_tag,
                lang = excluded.lang, data = excluded.data, set_ts = excluded.set_ts, failures = 0,
                retry_at_ts = CASE WHEN pushers.retry_at_ts IS NULL THEN NULL ELSE excluded.set_ts END,
                generation = CASE WHEN pushers.generation < excluded.generation THEN excluded.generation
                    ELSE pushers.generation + 1 END";
        let PusherKey { user_id, app_id, pushkey } = &pusher.key;
        let (app_id, pushkey) = (storable(app_id, "an app id")?, storable(pushkey, "a pushkey")?);
        let device_id = storable(pusher.device_id.as_str(), "a device id")?;
        let texts = [&pusher.kind, &pusher.gateway, &pusher.app_display_name, &pusher.device_display_name];
        let [kind, gateway, app, device] = texts.map(|text| without_nul(text));
        let (profile_tag, lang) = (pusher.profile_tag.as_deref().map(without_nul), without_nul(&pusher.lang));
        let head = self.head();
        let mut transaction = self.begin().await?;
        if !append {
            db!(transaction.connection(), |connection| {
                let query = sqlx::query(OTHERS).bind(pushkey).bind(app_id).bind(user_id.as_str());
                query.execute(connection).await.map(drop)
            })?;
        }
        db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(user_id.as_str()).bind(app_id).bind(pushkey).bind(device_id);
            let query = query.bind(kind).bind(gateway).bind(app).bind(device).bind(profile_tag).bind(lang);
            let query = query.bind(pusher.data.get()).bind(&pusher.secret);
            query.bind(pusher.set_ts as i64).bind(head).execute(connection).await.map(drop)
        })?;
        transaction.commit().await?;
        self.shared.pusher_holders.add(user_id);
        Ok(())
    }

    /// Deletes the pusher of which a secret is known. Returns whether there was one.
    pub async fn delete_pusher_by_secret(&self, secret: &str) -> Result<bool> {
        const SQL: &str = "DELETE FROM pushers WHERE secret = $1";
        if !is_storable(secret) {
            return Ok(false);
        }
        let mut transaction = self.begin().await?;
        let deleted = db!(transaction.connection(), |connection| {
            sqlx::query(SQL).bind(secret).execute(connection).await.map(|done| done.rows_affected())
        })?;
        transaction.commit().await?;
        Ok(deleted > 0)
    }

    /// Deletes a pusher. One that there is not is gone already.
    pub async fn delete_pusher(&self, key: &PusherKey) -> Result<()> {
        const SQL: &str = "DELETE FROM pushers WHERE user_id = $1 AND app_id = $2 AND pushkey = $3";
        if !is_storable(&key.app_id) || !is_storable(&key.pushkey) {
            return Ok(());
        }
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(key.user_id.as_str()).bind(&key.app_id).bind(&key.pushkey);
            query.execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }

    /// Deletes a pusher that leads nowhere any more, unless it was set again since its queue was read.
    pub async fn delete_rejected_pusher(&self, queue: &PusherQueue) -> Result<()> {
        const SQL: &str = "DELETE FROM pushers WHERE user_id = $1 AND app_id = $2 AND pushkey = $3 AND generation = $4";
        let PusherKey { user_id, app_id, pushkey } = &queue.key;
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(user_id.as_str()).bind(app_id).bind(pushkey);
            query.bind(queue.generation as i64).execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }
}

/// Deletes the pushers that a device asked for.
pub(crate) async fn forget_pushers(transaction: &mut Transaction, user_id: &UserId, device_id: &str) -> Result<()> {
    const SQL: &str = "DELETE FROM pushers WHERE user_id = $1 AND device_id = $2";
    Ok(db!(transaction.connection(), |connection| {
        sqlx::query(SQL).bind(user_id.as_str()).bind(device_id).execute(connection).await.map(drop)
    })?)
}

fn pusher(row: Row) -> Result<PusherRecord> {
    let (user_id, app_id, pushkey, device_id, kind, gateway, app, device, profile_tag, lang, data, secret, set_ts) =
        row;
    let data = RawValue::from_string(data)
        .map_err(|error| StorageError::corrupt("pushers", "data", user_id.as_str(), &error))?;
    Ok(PusherRecord {
        key: PusherKey { user_id: parsed(&user_id, "pushers", "user_id")?, app_id, pushkey },
        device_id: device_id.into(),
        kind,
        gateway,
        app_display_name: app,
        device_display_name: device,
        profile_tag,
        lang,
        data,
        secret,
        set_ts: set_ts.unsigned_abs(),
    })
}
