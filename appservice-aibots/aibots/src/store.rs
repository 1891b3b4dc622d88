//! What the service must not forget: what came from the homeserver and is not worked off, which answers are owed and how
//! far each is, how rooms are set. One small SQLite file, with one connection.
//!
//! Nothing of it is kept for longer than it is needed: an event goes when its answer is sent. Of encrypted rooms only
//! what the homeserver has too is in it.

mod inbox;
mod jobs;
mod tokens;

use std::path::Path;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};

pub(crate) use inbox::Received;
pub(crate) use jobs::{Job, Owed};

/// How long to wait for another process that has locked the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// For how long it is remembered what was received and answered: far longer than a homeserver tries again.
const REMEMBERED_MS: i64 = 30 * 24 * 60 * 60 * 1000;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS seen (event_id TEXT PRIMARY KEY, received_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS inbox (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    room_id TEXT NOT NULL,
    event TEXT NOT NULL,
    received_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS inbox_of_room ON inbox (room_id, position);
CREATE TABLE IF NOT EXISTS jobs (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL,
    bot TEXT NOT NULL,
    room_id TEXT NOT NULL,
    task TEXT,
    event TEXT,
    created_ms INTEGER NOT NULL,
    shown TEXT,
    text TEXT,
    model TEXT,
    sent TEXT,
    is_done INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    is_permitted INTEGER NOT NULL DEFAULT 0,
    is_begun INTEGER NOT NULL DEFAULT 0,
    UNIQUE (event_id, bot)
);
CREATE INDEX IF NOT EXISTS jobs_open ON jobs (is_done, room_id, position);
CREATE INDEX IF NOT EXISTS jobs_sent ON jobs (sent);
CREATE TABLE IF NOT EXISTS settings (room_id TEXT PRIMARY KEY, settings TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tokens (
    day INTEGER NOT NULL,
    room_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    PRIMARY KEY (day, room_id, user_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS summaries (
    room_id TEXT NOT NULL,
    bot TEXT NOT NULL,
    summary TEXT NOT NULL,
    until TEXT NOT NULL,
    PRIMARY KEY (room_id, bot)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
";

/// Columns that came later than their tables.
const COLUMNS: [(&str, &str); 4] =
    [("inbox", "attempts"), ("jobs", "attempts"), ("jobs", "is_permitted"), ("jobs", "is_begun")];

/// The store. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Store {
    pool: SqlitePool,
}

impl Store {
    /// Opens the file, or makes it.
    pub(crate) async fn open(path: &Path) -> Result<Self, sqlx::Error> {
        // The files beside it that SQLite makes are as private as this one.
        crate::system::make_private_file(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .pragma("secure_delete", "FAST")
            .disable_statement_logging();
        let pool = SqlitePoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
        let pool = pool.connect_with(options).await?;
        sqlx::raw_sql(TABLES).execute(&pool).await?;
        for (table, column) in COLUMNS {
            let known = "SELECT COUNT(*) FROM pragma_table_info(?) WHERE name = ?";
            let count: i64 = sqlx::query_scalar(known).bind(table).bind(column).fetch_one(&pool).await?;
            if count == 0 {
                let statement = format!("ALTER TABLE {table} ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0");
                sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&pool).await?;
            }
        }
        Ok(Self { pool })
    }

    /// Closes the file.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    /// Forgets what nobody will ask for again.
    pub(crate) async fn prune(&self, now_ms: u64) -> Result<(), sqlx::Error> {
        let before = now_ms as i64 - REMEMBERED_MS;
        for statement in
            ["DELETE FROM seen WHERE received_ms < ?", "DELETE FROM jobs WHERE is_done = 1 AND created_ms < ?"]
        {
            sqlx::query(statement).bind(before).execute(&self.pool).await?;
        }
        let days = crate::budget::day_of(before.max(0) as u64) as i64;
        sqlx::query("DELETE FROM tokens WHERE day < ?").bind(days).execute(&self.pool).await?;
        Ok(())
    }

    /// Something that was noted under a name.
    pub(crate) async fn fact(&self, name: &str) -> Result<Option<String>, sqlx::Error> {
        sqlx::query_scalar("SELECT value FROM facts WHERE name = ?").bind(name).fetch_optional(&self.pool).await
    }

    /// Notes something.
    pub(crate) async fn note(&self, name: &str, value: &str) -> Result<(), sqlx::Error> {
        let statement =
            "INSERT INTO facts (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        sqlx::query(statement).bind(name).bind(value).execute(&self.pool).await.map(drop)
    }

    /// Notes something unless something is noted under this name already. Gives what is noted.
    pub(crate) async fn note_first(&self, name: &str, value: &str) -> Result<String, sqlx::Error> {
        let statement = "INSERT INTO facts (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING";
        sqlx::query(statement).bind(name).bind(value).execute(&self.pool).await?;
        sqlx::query_scalar("SELECT value FROM facts WHERE name = ?").bind(name).fetch_one(&self.pool).await
    }

    /// How a room is set.
    pub(crate) async fn settings(&self, room_id: &str) -> Result<Option<String>, sqlx::Error> {
        let statement = "SELECT settings FROM settings WHERE room_id = ?";
        sqlx::query_scalar(statement).bind(room_id).fetch_optional(&self.pool).await
    }

    /// Sets a room.
    pub(crate) async fn set(&self, room_id: &str, settings: &str) -> Result<(), sqlx::Error> {
        let statement = "INSERT INTO settings (room_id, settings) VALUES (?, ?)
            ON CONFLICT (room_id) DO UPDATE SET settings = excluded.settings";
        sqlx::query(statement).bind(room_id).bind(settings).execute(&self.pool).await.map(drop)
    }
}

#[cfg(test)]
mod tests;
