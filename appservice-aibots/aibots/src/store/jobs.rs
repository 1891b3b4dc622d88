//! The answers that are owed, one for each message and bot, and how far each is.

use super::Store;

/// How many later messages are looked at for one that an answer can wait for.
const LATER_MAX: i64 = 20;

/// An answer to be owed.
#[derive(Clone, Debug)]
pub(crate) struct Owed {
    pub(crate) event_id: String,
    pub(crate) bot: String,
    pub(crate) room_id: String,
    /// A task instead of a reply.
    pub(crate) task: Option<String>,
    /// The event to answer, JSON as it came.
    pub(crate) event: String,
}

/// An answer that is owed.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) position: i64,
    pub(crate) bot: String,
    pub(crate) task: Option<String>,
    pub(crate) event: String,
    /// The message in the room that shows what there is of it.
    pub(crate) shown: Option<String>,
    /// The whole text, once it is there, and the model that wrote it.
    pub(crate) text: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) created_ms: u64,
    /// Whether it counts as one of the room's replies.
    pub(crate) is_permitted: bool,
    /// Whether some of it may have been sent.
    pub(crate) is_begun: bool,
}

type Row =
    (i64, String, Option<String>, Option<String>, Option<String>, Option<String>, Option<String>, i64, bool, bool);

impl Store {
    /// The rooms in which answers are owed.
    pub(crate) async fn rooms_with_jobs(&self) -> Result<Vec<String>, sqlx::Error> {
        sqlx::query_scalar("SELECT DISTINCT room_id FROM jobs WHERE is_done = 0").fetch_all(&self.pool).await
    }

    /// The events that a bot owes further replies to in a room, after an answer.
    pub(crate) async fn later_replies(&self, room_id: &str, job: &Job) -> Result<Vec<String>, sqlx::Error> {
        sqlx::query_scalar(
            "SELECT event FROM jobs WHERE is_done = 0 AND room_id = ? AND bot = ? AND task IS NULL AND position > ?
            ORDER BY position LIMIT ?",
        )
        .bind(room_id)
        .bind(&job.bot)
        .bind(job.position)
        .bind(LATER_MAX)
        .fetch_all(&self.pool)
        .await
    }

    /// The next answer owed in a room.
    pub(crate) async fn next_job(&self, room_id: &str) -> Result<Option<Job>, sqlx::Error> {
        let row: Option<Row> = sqlx::query_as(
            "SELECT position, bot, task, event, shown, text, model, created_ms, is_permitted, is_begun FROM jobs
            WHERE is_done = 0 AND room_id = ? ORDER BY position LIMIT 1",
        )
        .bind(room_id)
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|(position, bot, task, event, shown, text, model, created_ms, is_permitted, is_begun)| Job {
            position,
            bot,
            task,
            event: event.unwrap_or_default(),
            shown,
            text,
            model,
            created_ms: created_ms as u64,
            is_permitted,
            is_begun,
        }))
    }

    /// An answer could not be given. Gives how often.
    pub(crate) async fn job_failed(&self, job: i64) -> Result<u32, sqlx::Error> {
        let statement = "UPDATE jobs SET attempts = attempts + 1 WHERE position = ? RETURNING attempts";
        let attempts: Option<i64> = sqlx::query_scalar(statement).bind(job).fetch_optional(&self.pool).await?;
        Ok(attempts.unwrap_or(1).try_into().unwrap_or(u32::MAX))
    }

    /// The answer counts as one of the room's replies.
    pub(crate) async fn note_permitted(&self, job: i64) -> Result<(), sqlx::Error> {
        let statement = "UPDATE jobs SET is_permitted = 1 WHERE position = ?";
        sqlx::query(statement).bind(job).execute(&self.pool).await.map(drop)
    }

    /// Some of the answer may be in the room from now on.
    pub(crate) async fn note_begun(&self, job: i64) -> Result<(), sqlx::Error> {
        let statement = "UPDATE jobs SET is_begun = 1 WHERE position = ?";
        sqlx::query(statement).bind(job).execute(&self.pool).await.map(drop)
    }

    /// Some of the answer is in the room, in this message.
    pub(crate) async fn note_shown(&self, job: i64, event_id: &str) -> Result<(), sqlx::Error> {
        let statement = "UPDATE jobs SET shown = ?, sent = ? WHERE position = ?";
        sqlx::query(statement).bind(event_id).bind(event_id).bind(job).execute(&self.pool).await.map(drop)
    }

    /// The whole text is there. From now on it is this one that will be sent, whatever happens.
    pub(crate) async fn note_text(&self, job: i64, text: &str, model: &str) -> Result<(), sqlx::Error> {
        let statement = "UPDATE jobs SET text = ?, model = ? WHERE position = ?";
        sqlx::query(statement).bind(text).bind(model).bind(job).execute(&self.pool).await.map(drop)
    }

    /// The answer is sent, or will never be. Its words are forgotten; that it was made is not.
    pub(crate) async fn finish(&self, job: i64, sent: Option<&str>) -> Result<(), sqlx::Error> {
        let statement =
            "UPDATE jobs SET is_done = 1, event = NULL, text = NULL, sent = COALESCE(?, sent) WHERE position = ?";
        sqlx::query(statement).bind(sent).bind(job).execute(&self.pool).await.map(drop)
    }

    /// The bot that sent a message.
    pub(crate) async fn sender_of(&self, event_id: &str) -> Result<Option<String>, sqlx::Error> {
        sqlx::query_scalar("SELECT bot FROM jobs WHERE sent = ?").bind(event_id).fetch_optional(&self.pool).await
    }
}
