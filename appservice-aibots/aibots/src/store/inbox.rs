//! What came from the homeserver and is not worked off.

use super::{Owed, Store};

/// Most events that are taken at once: what a transaction holds at most on common homeservers.
const TAKEN_MAX: i64 = 100;

/// An event that came.
#[derive(Clone, Debug)]
#[expect(clippy::struct_field_names, reason = "the field says when")]
pub(crate) struct Received {
    pub(crate) position: i64,
    /// The event, JSON as it came.
    pub(crate) event: String,
    pub(crate) received_ms: u64,
}

impl Store {
    /// Keeps the events of a transaction: each `(event_id, room_id, JSON)`. An event that came before changes nothing. Gives
    /// how many were new. The transaction's id says nothing: a homeserver that counts and was restored uses one again.
    pub(crate) async fn receive(&self, events: &[(String, String, String)], now_ms: u64) -> Result<u64, sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        let mut count = 0;
        for (event_id, room_id, event) in events {
            let new = sqlx::query("INSERT INTO seen (event_id, received_ms) VALUES (?, ?) ON CONFLICT DO NOTHING")
                .bind(event_id)
                .bind(now_ms as i64)
                .execute(&mut *transaction)
                .await?;
            if new.rows_affected() == 0 {
                continue;
            }
            sqlx::query("INSERT INTO inbox (room_id, event, received_ms) VALUES (?, ?, ?)")
                .bind(room_id)
                .bind(event)
                .bind(now_ms as i64)
                .execute(&mut *transaction)
                .await?;
            count += 1;
        }
        transaction.commit().await?;
        Ok(count)
    }

    /// An event could not be worked off. Gives how often.
    pub(crate) async fn event_failed(&self, position: i64) -> Result<u32, sqlx::Error> {
        let statement = "UPDATE inbox SET attempts = attempts + 1 WHERE position = ? RETURNING attempts";
        let attempts: Option<i64> = sqlx::query_scalar(statement).bind(position).fetch_optional(&self.pool).await?;
        Ok(attempts.unwrap_or(1).try_into().unwrap_or(u32::MAX))
    }

    /// The rooms in which events wait.
    pub(crate) async fn rooms_with_events(&self) -> Result<Vec<String>, sqlx::Error> {
        sqlx::query_scalar("SELECT DISTINCT room_id FROM inbox").fetch_all(&self.pool).await
    }

    /// The next events of a room after a position, in their order.
    pub(crate) async fn next_of(&self, room_id: &str, after: i64) -> Result<Vec<Received>, sqlx::Error> {
        let rows: Vec<(i64, String, i64)> = sqlx::query_as(
            "SELECT position, event, received_ms FROM inbox WHERE room_id = ? AND position > ? ORDER BY position LIMIT ?",
        )
        .bind(room_id)
        .bind(after)
        .bind(TAKEN_MAX)
        .fetch_all(&self.pool)
        .await?;
        let received = |(position, event, received_ms): (i64, String, i64)| Received {
            position,
            event,
            received_ms: received_ms as u64,
        };
        Ok(rows.into_iter().map(received).collect())
    }

    /// Events were worked off: they go, and the answers that they ask for are owed from now on. What is owed or done
    /// already stays as it is.
    pub(crate) async fn work_off(&self, positions: &[i64], owed: &[Owed], now_ms: u64) -> Result<(), sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        for job in owed {
            sqlx::query(
                "INSERT INTO jobs (event_id, bot, room_id, task, event, created_ms) VALUES (?, ?, ?, ?, ?, ?)
                ON CONFLICT DO NOTHING",
            )
            .bind(&job.event_id)
            .bind(&job.bot)
            .bind(&job.room_id)
            .bind(&job.task)
            .bind(&job.event)
            .bind(now_ms as i64)
            .execute(&mut *transaction)
            .await?;
        }
        for position in positions {
            sqlx::query("DELETE FROM inbox WHERE position = ?").bind(position).execute(&mut *transaction).await?;
        }
        transaction.commit().await
    }
}
