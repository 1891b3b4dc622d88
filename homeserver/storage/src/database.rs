//! Opening and closing: the only file that names the database drivers.

use ruma::OwnedServerName;

use crate::Result;

/// Where the database is and how careful it is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// `sqlite:PATH`, `sqlite::memory:` or `postgres://USER@HOST:PORT/DATABASE`.
    pub url: String,
    /// Whether an answer may be given before the change is on the disk.
    pub durability: Durability,
    /// How many connections read at the same time. At least 1 is used.
    pub read_connections: u32,
    /// The name of this server: decides which receipts are our users' and go out to other servers.
    pub server_name: OwnedServerName,
}

/// What a power loss may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: each commit is flushed to the disk before it is acknowledged.
    #[default]
    Full,
    /// The last commits. The database stays consistent.
    Relaxed,
}

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL names no database that this server knows.
    #[error("database.url {url:?} is not understood: {reason}; use sqlite:PATH or postgres://USER@HOST/DATABASE")]
    Url {
        /// The URL, without its password.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The database does not answer, or refuses.
    #[error("cannot open the database: {0}")]
    Connect(#[source] sqlx::Error),
    /// The tables could not be brought up to date.
    #[error("cannot migrate the database: {0}")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// Remnants of a database lie where the file should be: somebody moved or deleted the file itself.
    #[error("{path} is missing, but {remnant} exists; restore the database file, or remove the remnant to start anew")]
    MissingDatabase {
        /// Where the database should be.
        path: String,
        /// What is there instead.
        remnant: String,
    },
    /// The database does not promise what was asked of it.
    #[error("the database does not keep its promise of durability: {setting} is {value:?}, but should be {expected:?}")]
    Durability {
        /// The database's setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The tables could not be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Why something could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The database does not answer, or refuses; trying again later may help.
    #[error("the database is unavailable: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// What is stored cannot be what was stored.
    #[error("corrupt row in the database: {table}.{column} of {row}: {reason}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// Which row.
        row: String,
        /// What is wrong.
        reason: String,
    },
    /// A value holds a character that cannot be stored.
    #[error("the value for {0} holds a NUL character, which cannot be stored")]
    Unstorable(&'static str),
    /// The storage was closed.
    #[error("the storage is closed")]
    Closed,
    /// A write to the disk failed: nothing is acknowledged any more until the server is restarted.
    #[error("the storage is read-only since a write to the disk failed; check the disk and restart")]
    ReadOnly,
}

/// The storage. Cloning shares it.
#[derive(Clone)]
pub struct Storage {}

impl Storage {
    /// Connects, brings the tables up to date, checks that the database is as durable as `options` ask, and starts the
    /// committer.
    pub async fn open(options: &Options) -> Result<Self, OpenError> {
        todo!()
    }

    /// Commits what waits, then closes all connections. Later calls fail with [`StorageError::Closed`].
    pub async fn close(&self) {
        todo!()
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        todo!()
    }

    /// `SQLite` or `PostgreSQL`.
    pub fn backend(&self) -> &'static str {
        todo!()
    }
}
