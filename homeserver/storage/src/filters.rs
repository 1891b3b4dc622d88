//! Filters that clients uploaded.

use ruma::UserId;

use crate::{
    Result, Storage,
    dialect::{db, without_nul},
};

impl Storage {
    /// Stores a filter and returns its id. The same JSON gets the same id. `None` when the user has `count_max` others.
    pub async fn store_filter(&self, user_id: &UserId, json: &str, count_max: u64) -> Result<Option<String>> {
        const FIND: &str = "SELECT filter_id FROM filters WHERE user_id = $1 AND json = $2";
        // Locks nothing: should two processes choose the same number, the second one's insertion waits and is ignored.
        const STORE: &str = "INSERT INTO filters (user_id, filter_id, json)
            VALUES ($1, (SELECT COALESCE(MAX(filter_id), 0) + 1 FROM filters WHERE user_id = $1), $2)
            ON CONFLICT (user_id, filter_id) DO NOTHING RETURNING filter_id";
        const COUNT: &str = "SELECT COUNT(*) FROM filters WHERE user_id = $1";
        let json = without_nul(json);
        loop {
            let found: Option<i64> = db!(self.read(), |pool| {
                sqlx::query_scalar(FIND).bind(user_id.as_str()).bind(&json).fetch_optional(pool).await
            })?;
            if let Some(filter_id) = found {
                return Ok(Some(filter_id.to_string()));
            }
            let count: i64 =
                db!(self.read(), |pool| sqlx::query_scalar(COUNT).bind(user_id.as_str()).fetch_one(pool).await)?;
            if count.unsigned_abs() >= count_max {
                return Ok(None);
            }
            let mut transaction = self.begin().await?;
            let stored: Option<i64> = db!(transaction.connection(), |connection| {
                sqlx::query_scalar(STORE).bind(user_id.as_str()).bind(&json).fetch_optional(connection).await
            })?;
            transaction.commit().await?;
            if let Some(filter_id) = stored {
                return Ok(Some(filter_id.to_string()));
            }
        }
    }

    /// A filter.
    pub async fn filter(&self, user_id: &UserId, filter_id: &str) -> Result<Option<String>> {
        const SQL: &str = "SELECT json FROM filters WHERE user_id = $1 AND filter_id = $2";
        let Ok(filter_id) = filter_id.parse::<i64>() else { return Ok(None) };
        Ok(db!(self.read(), |pool| {
            sqlx::query_scalar(SQL).bind(user_id.as_str()).bind(filter_id).fetch_optional(pool).await
        })?)
    }
}
