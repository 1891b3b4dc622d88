//! How far pushers have got.

use rules::change::Position;

use super::PusherKey;
use crate::{
    Result, Storage,
    dialect::{db, parsed},
};

/// How far a pusher has got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PusherQueue {
    /// Which.
    pub key: PusherKey,
    /// Everything up to this position was delivered, or need not be.
    pub cursor: Position,
    /// The count of what is not read that was told last.
    pub badge: Option<u64>,
    /// How many attempts failed in a row.
    pub failures: u32,
    /// When to go on, in milliseconds since the epoch, if something waits.
    pub retry_at_ts: Option<u64>,
    /// How long to wait after the next letter, in milliseconds.
    pub throttle_ms: u64,
    /// Which setting of the pusher this belongs to.
    pub generation: u64,
}

/// A pusher that the log may have something for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConcernedPusher {
    /// Which.
    pub key: PusherKey,
    /// Where it leads.
    pub gateway: String,
    /// When to go on, in milliseconds since the epoch, if something waits.
    pub retry_at_ts: Option<u64>,
}

/// Cursor, badge, failures, retry at, throttle, generation.
type QueueRow = (Position, Option<i64>, i64, Option<i64>, i64, i64);

/// User, app, pushkey, gateway, retry at.
pub(super) type ConcernedRow = (String, String, String, String, Option<i64>);

impl Storage {
    /// How far a pusher has got, if there still is one.
    pub async fn pusher_queue(&self, key: &PusherKey) -> Result<Option<PusherQueue>> {
        const SQL: &str = "SELECT cursor, badge, failures, retry_at_ts, throttle_ms, generation FROM pushers
            WHERE user_id = $1 AND app_id = $2 AND pushkey = $3";
        let row: Option<QueueRow> = db!(self.read(), |pool| {
            let query = sqlx::query_as(SQL).bind(key.user_id.as_str());
            query.bind(&key.app_id).bind(&key.pushkey).fetch_optional(pool).await
        })?;
        Ok(row.map(|(cursor, badge, failures, retry_at_ts, throttle_ms, generation)| PusherQueue {
            key: key.clone(),
            cursor,
            badge: badge.map(i64::unsigned_abs),
            failures: u32::try_from(failures).unwrap_or(u32::MAX),
            retry_at_ts: retry_at_ts.map(i64::unsigned_abs),
            throttle_ms: throttle_ms.unsigned_abs(),
            generation: generation.unsigned_abs(),
        }))
    }

    /// Notes how far pushers have got. Those that are gone meanwhile stay gone, those that were set again begin as they
    /// were set, and none goes back.
    pub async fn save_pusher_queues(&self, queues: &[PusherQueue]) -> Result<()> {
        const SQL: &str = "UPDATE pushers SET cursor = CASE WHEN cursor > $4 THEN cursor ELSE $4 END, badge = $5,
            failures = $6, retry_at_ts = $7, throttle_ms = $8
            WHERE user_id = $1 AND app_id = $2 AND pushkey = $3 AND generation = $9";
        let mut transaction = self.begin().await?;
        for queue in queues {
            let PusherKey { user_id, app_id, pushkey } = &queue.key;
            db!(transaction.connection(), |connection| {
                let query = sqlx::query(SQL).bind(user_id.as_str()).bind(app_id).bind(pushkey).bind(queue.cursor);
                let query = query.bind(queue.badge.map(|badge| badge as i64)).bind(i64::from(queue.failures));
                let query = query.bind(queue.retry_at_ts.map(|ts| ts as i64)).bind(queue.throttle_ms as i64);
                let query = query.bind(queue.generation as i64);
                query.execute(connection).await.map(drop)
            })?;
        }
        transaction.commit().await
    }

    /// The pushers that wait for their next attempt.
    pub async fn waiting_pushers(&self) -> Result<Vec<ConcernedPusher>> {
        const SQL: &str = "SELECT user_id, app_id, pushkey, gateway, retry_at_ts FROM pushers
            WHERE retry_at_ts IS NOT NULL ORDER BY retry_at_ts, user_id, app_id, pushkey";
        let rows: Vec<ConcernedRow> = db!(self.read(), |pool| sqlx::query_as(SQL).fetch_all(pool).await)?;
        rows.into_iter().map(concerned).collect()
    }

    /// Up to where the log was read for pushers.
    pub async fn pushers_read(&self) -> Result<Position> {
        const SQL: &str = "SELECT position FROM pushers_read";
        Ok(db!(self.read(), |pool| sqlx::query_scalar(SQL).fetch_one(pool).await)?)
    }

    /// Notes up to where the log was read for pushers.
    pub async fn save_pushers_read(&self, position: Position) -> Result<()> {
        const SQL: &str = "UPDATE pushers_read SET position = $1";
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            sqlx::query(SQL).bind(position).execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }
}

pub(super) fn concerned((user_id, app_id, pushkey, gateway, retry_at_ts): ConcernedRow) -> Result<ConcernedPusher> {
    let key = PusherKey { user_id: parsed(&user_id, "pushers", "user_id")?, app_id, pushkey };
    Ok(ConcernedPusher { key, gateway, retry_at_ts: retry_at_ts.map(i64::unsigned_abs) })
}
