//! What can go wrong, and what a failure means for what comes after it.

use std::{fmt, sync::Arc};

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL names no database that this server knows.
    #[error("the database URL {url:?} is not understood: {reason}; use sqlite:PATH or postgres://USER@HOST/DATABASE")]
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
    /// The tables are those of another version, and it is not the time to change them.
    #[error(
        "the tables are those of another version of nudge ({found}, this one has {expected}): use the binary that the \
         server runs, or start the server with this one first"
    )]
    OtherTables {
        /// The newest migration that was made.
        found: i64,
        /// The newest migration of ours.
        expected: i64,
    },
    /// Remnants of a database lie where the file should be: somebody moved or deleted the file itself.
    #[error("{path} is missing, but {remnant} exists; restore the database file, or remove the remnant to start anew")]
    MissingDatabase {
        /// Where the database should be.
        path: String,
        /// What is there instead.
        remnant: String,
    },
    /// The database does not promise what was asked of it.
    #[error("the database would not keep acknowledged data: its {setting} is {value:?}, but must be {expected:?}")]
    Durability {
        /// The database's setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        expected: &'static str,
    },
    /// The tables could not be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Why something could not be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    /// The database does not answer, or refuses; trying again later may help.
    #[error("the database is unavailable: {0}")]
    Unavailable(#[source] Arc<sqlx::Error>),
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
    /// A value holds a NUL character or is too long, so that it cannot be stored, nor be found.
    #[error("{0} holds a NUL character or is too long to be stored")]
    Unstorable(&'static str),
    /// A change names an event that is not stored and has to be.
    #[error("a change names the event {0}, which is not stored")]
    NotStored(ruma::OwnedEventId),
    /// The storage was closed.
    #[error("the storage is closed")]
    Closed,
    /// Writing panicked: whether it happened is not known.
    #[error("writing has panicked")]
    Panicked,
    /// A write to the disk failed: nothing is acknowledged any more until the server is restarted.
    #[error("the storage is read-only since a write to the disk failed; check the disk and restart the server")]
    ReadOnly,
}

impl StorageError {
    /// A stored value that cannot be read.
    pub(crate) fn corrupt(
        table: &'static str,
        column: &'static str,
        row: impl Into<String>,
        reason: &dyn fmt::Display,
    ) -> Self {
        Self::Corrupt { table, column, row: row.into(), reason: reason.to_string() }
    }

    /// Whether the database is away, or must not be written to: the same may succeed later, and nothing is wrong with what
    /// was asked.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Closed | Self::ReadOnly | Self::Panicked => true,
            Self::Unavailable(error) => Failure::of(error) != Failure::Refused,
            Self::Corrupt { .. } | Self::Unstorable(_) | Self::NotStored(_) => false,
        }
    }

    /// What the failure means for what comes after it.
    pub(crate) fn failure(&self) -> Failure {
        match self {
            Self::Unavailable(error) => Failure::of(error),
            _ => Failure::Refused,
        }
    }
}

impl From<sqlx::Error> for StorageError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolClosed => Self::Closed,
            error => Self::Unavailable(Arc::new(error)),
        }
    }
}

/// What a failed transaction means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Another one got in the way; the same again may succeed.
    Collision,
    /// The connection broke.
    Disconnected,
    /// What was to be written is refused; the rest of a batch may be fine.
    Refused,
    /// There is no room on the disk, or no connection to be had; when there is again, all is well.
    Shortage,
    /// The disk failed: what it holds is uncertain.
    Disk,
}

impl Failure {
    pub(crate) fn of(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed => Self::Disconnected,
            sqlx::Error::PoolTimedOut => Self::Shortage,
            sqlx::Error::Database(error) => error.code().map_or(Self::Refused, |code| Self::of_code(&code)),
            _ => Self::Refused,
        }
    }

    /// PostgreSQL's codes have five characters, SQLite's are numbers whose lowest byte is the kind of error.
    fn of_code(code: &str) -> Self {
        match code {
            "40001" | "40P01" | "55P03" => Self::Collision,
            // No space, no memory, no connection left; or the statement took too long, most likely waiting for a lock.
            "53100" | "53200" | "53300" | "57014" => Self::Shortage,
            // The administrator, a crash, or our own silence ends the session; or the server is starting up.
            "57P01" | "57P02" | "57P03" | "25P03" | "08000" | "08003" | "08006" => Self::Disconnected,
            "58030" | "XX001" | "XX002" => Self::Disk,
            code if code.len() == 5 => Self::Refused,
            code => Self::of_sqlite_code(code.parse().unwrap_or(0)),
        }
    }

    fn of_sqlite_code(code: u32) -> Self {
        /// Kinds of I/O errors that leave what is on the disk alone: no memory, and what concerns locks or the memory
        /// that connections share.
        const HARMLESS: [u32; 9] = [8, 9, 11, 12, 15, 18, 19, 20, 21];
        match (code & 0xff, code >> 8) {
            (5 | 6, _) => Self::Collision,
            (10, kind) if HARMLESS.contains(&kind) => Self::Shortage,
            // Full; out of memory; the file is read-only, or cannot be opened.
            (7 | 8 | 13 | 14, _) => Self::Shortage,
            // I/O error, corrupt, not a database.
            (10 | 11 | 26, _) => Self::Disk,
            _ => Self::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Failure;

    #[test]
    fn codes_of_both_databases_are_told_apart() {
        assert_eq!(Failure::of_code("40001"), Failure::Collision);
        assert_eq!(Failure::of_code("23505"), Failure::Refused);
        assert_eq!(Failure::of_code("2067"), Failure::Refused, "SQLITE_CONSTRAINT_UNIQUE");
        assert_eq!(Failure::of_code("1034"), Failure::Disk, "SQLITE_IOERR_FSYNC");
        assert_eq!(Failure::of_code("4874"), Failure::Shortage, "SQLITE_IOERR_SHMSIZE");
        assert_eq!(Failure::of_code("13"), Failure::Shortage);
        assert_eq!(Failure::of_code("517"), Failure::Collision, "SQLITE_BUSY_SNAPSHOT");
    }
}
