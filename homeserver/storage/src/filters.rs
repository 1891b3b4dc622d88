//! Filters that clients uploaded.

use ruma::UserId;

use crate::{
    Result, Storage,
    dialect::{db, without_nul},
};

impl Storage {
    /// Stores a filter and returns its id. The same JSON gets the same id. Where the user has `count_max` others, the one
    /// that was not used for longest goes; but never the last that was made, whose id would be given out again.
    pub async fn store_filter(&self, user_id: &UserId, json: &str, now_ms: u64, count_max: u64) -> Result<String> {
        const FIND: &str = "SELECT filter_id FROM filters WHERE user_id = $1 AND json = $2";
        // Locks nothing: should two processes choose the same number, the second one's insertion waits and is ignored.
        const STORE: &str = "INSERT INTO filters (user_id, filter_id, json, used_ts)
            VALUES ($1, (SELECT COALESCE(MAX(filter_id), 0) + 1 FROM filters WHERE user_id = $1), $2, $3)
            ON CONFLICT (user_id, filter_id) DO NOTHING RETURNING filter_id";
        const DROP: &str = "DELETE FROM filters WHERE user_id = $1 AND filter_id IN (
            SELECT filter_id FROM filters WHERE user_id = $1
            AND filter_id < (SELECT MAX(filter_id) FROM filters WHERE user_id = $1)
            ORDER BY used_ts DESC, filter_id DESC LIMIT +$3 OFFSET +$2)";
        let json = without_nul(json);
        let others_max = i64::try_from(count_max.saturating_sub(1)).unwrap_or(i64::MAX);
        loop {
            let found: Option<i64> = db!(self.read(), |pool| {
                sqlx::query_scalar(FIND).bind(user_id.as_str()).bind(&json).fetch_optional(pool).await
            })?;
            if let Some(filter_id) = found {
                return Ok(filter_id.to_string());
            }
            let mut transaction = self.begin().await?;
            let stored: Option<i64> = db!(transaction.connection(), |connection| {
                let query = sqlx::query_scalar(STORE).bind(user_id.as_str()).bind(&json).bind(now_ms as i64);
                query.fetch_optional(connection).await
            })?;
            db!(transaction.connection(), |connection| {
                let query = sqlx::query(DROP).bind(user_id.as_str()).bind(others_max).bind(i64::from(u32::MAX));
                query.execute(connection).await.map(drop)
            })?;
            transaction.commit().await?;
            if let Some(filter_id) = stored {
                return Ok(filter_id.to_string());
            }
        }
    }

    /// A filter, and when it was noted last that it is in use.
    pub async fn filter(&self, user_id: &UserId, filter_id: &str) -> Result<Option<(String, u64)>> {
        const SQL: &str = "SELECT json, used_ts FROM filters WHERE user_id = $1 AND filter_id = $2";
        let Ok(filter_id) = filter_id.parse::<i64>() else { return Ok(None) };
        let found: Option<(String, i64)> = db!(self.read(), |pool| {
            sqlx::query_as(SQL).bind(user_id.as_str()).bind(filter_id).fetch_optional(pool).await
        })?;
        Ok(found.map(|(json, used_ts)| (json, used_ts.unsigned_abs())))
    }

    /// Notes that a filter is in use.
    pub async fn note_filter_used(&self, user_id: &UserId, filter_id: &str, now_ms: u64) -> Result<()> {
        const SQL: &str = "UPDATE filters SET used_ts = $3 WHERE user_id = $1 AND filter_id = $2";
        let Ok(filter_id) = filter_id.parse::<i64>() else { return Ok(()) };
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(user_id.as_str()).bind(filter_id).bind(now_ms as i64);
            query.execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }
}
