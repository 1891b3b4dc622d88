//! What bots have cost, and what they remember in fewer words.

use super::Store;
use crate::budget::{Charge, Spent};

impl Store {
    /// What was spent on a day.
    pub(crate) async fn spent(&self, day: u64, room_id: &str, user_id: &str) -> Result<Spent, sqlx::Error> {
        let (room, user, total): (i64, i64, i64) = sqlx::query_as(
            "SELECT COALESCE(SUM(CASE WHEN room_id = ? THEN tokens ELSE 0 END), 0),
                COALESCE(SUM(CASE WHEN user_id = ? THEN tokens ELSE 0 END), 0), COALESCE(SUM(tokens), 0)
            FROM tokens WHERE day = ?",
        )
        .bind(room_id)
        .bind(user_id)
        .bind(day as i64)
        .fetch_one(&self.pool)
        .await?;
        Ok(Spent { room: room as u64, user: user as u64, total: total as u64 })
    }

    /// Adds what an answer has cost.
    pub(crate) async fn charge(&self, charge: &Charge) -> Result<(), sqlx::Error> {
        let statement = "INSERT INTO tokens (day, room_id, user_id, tokens) VALUES (?, ?, ?, ?)
            ON CONFLICT (day, room_id, user_id) DO UPDATE SET tokens = tokens + excluded.tokens";
        sqlx::query(statement)
            .bind(charge.day as i64)
            .bind(&charge.room_id)
            .bind(&charge.user_id)
            .bind(charge.usage.total() as i64)
            .execute(&self.pool)
            .await
            .map(drop)
    }

    /// What a bot remembers of a room, and the last event that it covers.
    pub(crate) async fn summary(&self, room_id: &str, bot: &str) -> Result<Option<(String, String)>, sqlx::Error> {
        let statement = "SELECT summary, until FROM summaries WHERE room_id = ? AND bot = ?";
        sqlx::query_as(statement).bind(room_id).bind(bot).fetch_optional(&self.pool).await
    }

    /// Remembers.
    pub(crate) async fn remember(
        &self,
        room_id: &str,
        bot: &str,
        summary: &str,
        until: &str,
    ) -> Result<(), sqlx::Error> {
        let statement = "INSERT INTO summaries (room_id, bot, summary, until) VALUES (?, ?, ?, ?)
            ON CONFLICT (room_id, bot) DO UPDATE SET summary = excluded.summary, until = excluded.until";
        let query = sqlx::query(statement).bind(room_id).bind(bot).bind(summary).bind(until);
        query.execute(&self.pool).await.map(drop)
    }

    /// Forgets what bots remember of a room.
    pub(crate) async fn forget(&self, room_id: &str) -> Result<(), sqlx::Error> {
        sqlx::query("DELETE FROM summaries WHERE room_id = ?").bind(room_id).execute(&self.pool).await.map(drop)
    }
}
