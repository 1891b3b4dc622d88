//! Messages that wait for devices of local users.

use moka::{policy::EvictionPolicy, sync::Cache};
use rules::change::Position;
use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use serde_json::value::RawValue;

use crate::{
    LogEntry, LogKind, Result, Storage,
    device_keys::json,
    dialect::{db, is_storable, list, parsed, storable},
};

/// For how many devices is kept what they acknowledged: at some 200 bytes each.
const ACKNOWLEDGED_MAX: u64 = 50_000;

/// How many positions of the log are looked through again each time, rather than that it is noted each time that there was
/// nothing in them.
const NOTED_EVERY: Position = 64;

/// Up to where devices have their messages, and none waits any more.
pub(crate) type Acknowledged = Cache<(OwnedUserId, OwnedDeviceId), Position>;

pub(crate) fn none_acknowledged() -> Acknowledged {
    Cache::builder().max_capacity(ACKNOWLEDGED_MAX).eviction_policy(EvictionPolicy::lru()).build()
}

/// A message to a device.
#[derive(Clone, Debug)]
pub struct ToDeviceRecord {
    /// Its place in the log.
    pub position: Position,
    /// Who sent it.
    pub sender: OwnedUserId,
    /// Its type.
    pub event_type: String,
    /// Its content.
    pub content: Box<RawValue>,
}

impl Storage {
    /// Up to `limit` messages for a device with `after < position <= until`, in order.
    pub async fn to_device(
        &self,
        user_id: &UserId,
        device_id: &DeviceId,
        after: Position,
        until: Position,
        limit: usize,
    ) -> Result<Vec<ToDeviceRecord>> {
        const SQL: &str = "SELECT position, sender, type, content FROM to_device
            WHERE user_id = $1 AND device_id = $2 AND position > $3 AND position <= $4 ORDER BY position LIMIT +$5";
        if !is_storable(device_id.as_str()) || self.got_none(user_id, after, until) {
            return Ok(Vec::new());
        }
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows: Vec<(Position, String, String, String)> = db!(self.read(), |pool| {
            let query = sqlx::query_as(SQL).bind(user_id.as_str()).bind(device_id.as_str());
            query.bind(after).bind(until).bind(limit).fetch_all(pool).await
        })?;
        let record = |(position, sender, event_type, content): (Position, String, String, String)| {
            Ok(ToDeviceRecord {
                position,
                sender: parsed(&sender, "to_device", "sender")?,
                event_type,
                content: json(content, "to_device", &position.to_string())?,
            })
        };
        rows.into_iter().map(record).collect()
    }

    /// Up to `limit` messages for the devices of a user with `after < position <= until`, in order.
    pub async fn to_devices_of(
        &self,
        user_id: &UserId,
        after: Position,
        until: Position,
        limit: usize,
    ) -> Result<Vec<(OwnedDeviceId, ToDeviceRecord)>> {
        const SQL: &str = "SELECT device_id, position, sender, type, content FROM to_device
            WHERE user_id = $1 AND position > $2 AND position <= $3 ORDER BY position LIMIT +$4";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows: Vec<(String, Position, String, String, String)> = db!(self.read(), |pool| {
            let query = sqlx::query_as(SQL).bind(user_id.as_str()).bind(after).bind(until);
            query.bind(limit).fetch_all(pool).await
        })?;
        let record =
            |(device_id, position, sender, event_type, content): (String, Position, String, String, String)| {
                let sender = parsed(&sender, "to_device", "sender")?;
                let content = json(content, "to_device", &position.to_string())?;
                Ok((device_id.into(), ToDeviceRecord { position, sender, event_type, content }))
            };
        rows.into_iter().map(record).collect()
    }

    /// Deletes the messages for a device up to a position: it has them.
    pub async fn acknowledge_to_device(&self, user_id: &UserId, device_id: &DeviceId, until: Position) -> Result<()> {
        const ANY: &str =
            "SELECT position FROM to_device WHERE user_id = $1 AND device_id = $2 AND position <= $3 LIMIT 1";
        const SQL: &str = "DELETE FROM to_device WHERE user_id = $1 AND device_id = $2 AND position <= $3";
        if !is_storable(device_id.as_str()) {
            return Ok(());
        }
        let device = (user_id.to_owned(), device_id.to_owned());
        let acknowledged = &self.shared.acknowledged_to_device;
        // What is yet to come is not acknowledged, whatever number a client names.
        let noted = until.min(self.head());
        if let Some(before) = acknowledged.get(&device)
            && (until <= before || self.got_none(user_id, before, until))
        {
            if noted - before > NOTED_EVERY {
                acknowledged.insert(device, noted);
            }
            return Ok(());
        }
        // Nearly always there is nothing, and looking costs no write.
        let any: Option<Position> = db!(self.read(), |pool| {
            let query = sqlx::query_scalar(ANY).bind(user_id.as_str()).bind(device_id.as_str());
            query.bind(until).fetch_optional(pool).await
        })?;
        if any.is_some() {
            let mut transaction = self.begin().await?;
            db!(transaction.connection(), |connection| {
                let query = sqlx::query(SQL).bind(user_id.as_str()).bind(device_id.as_str());
                query.bind(until).execute(connection).await.map(drop)
            })?;
            transaction.commit().await?;
        }
        acknowledged.insert(device, noted);
        Ok(())
    }

    /// Whether the log is known in memory from one position to another, and no message to a device of the user is in it.
    fn got_none(&self, user_id: &UserId, since: Position, until: Position) -> bool {
        let is_for_user =
            |entry: &LogEntry| entry.kind == LogKind::ToDevice && entry.user_id.as_deref() == Some(user_id);
        self.shared.bus.has_none(since, until, is_for_user)
    }

    /// The devices of these users for which at least so many messages wait.
    pub async fn full_to_device_queues(
        &self,
        user_ids: &[OwnedUserId],
        waiting_min: usize,
    ) -> Result<Vec<(OwnedUserId, OwnedDeviceId)>> {
        const SQL: &str = "SELECT user_id, device_id FROM to_device
            WHERE user_id IN (SELECT value FROM json_each($1)) GROUP BY user_id, device_id HAVING COUNT(*) >= $2";
        let users = list(user_ids.iter().map(|user_id| user_id.as_str()));
        let waiting_min = i64::try_from(waiting_min).unwrap_or(i64::MAX);
        let rows: Vec<(String, String)> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(users).bind(waiting_min).fetch_all(pool).await)?;
        let ids =
            |(user_id, device_id): (String, String)| Ok((parsed(&user_id, "to_device", "user_id")?, device_id.into()));
        rows.into_iter().map(ids).collect()
    }

    /// Whether messages were taken under this id before.
    pub async fn is_to_device_id_known(&self, sender: &str, message_id: &str) -> Result<bool> {
        const SQL: &str = "SELECT ts FROM to_device_ids WHERE sender = $1 AND message_id = $2";
        let (sender, message_id) = (storable(sender, "a sender")?, storable(message_id, "the id of a message")?);
        let ts: Option<i64> = db!(self.read(), |pool| {
            sqlx::query_scalar(SQL).bind(sender).bind(message_id).fetch_optional(pool).await
        })?;
        Ok(ts.is_some())
    }

    /// Forgets ids from before a time, in milliseconds since the epoch.
    pub async fn prune_to_device_ids(&self, before_ts: u64) -> Result<()> {
        const SQL: &str = "DELETE FROM to_device_ids WHERE ts < $1";
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            sqlx::query(SQL).bind(before_ts as i64).execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }
}
