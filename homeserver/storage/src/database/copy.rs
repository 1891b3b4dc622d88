//! A whole database as one SQLite file, whichever database it comes from and goes to.
//!
//! Both databases have the same tables and columns (a test compares them), so that rows go over as they are.

use std::path::Path;

use futures_util::TryStreamExt as _;
use sqlx::{
    AssertSqlSafe, Column as _, ConnectOptions as _, PgConnection, Postgres, QueryBuilder, Row as _, Sqlite,
    SqliteConnection, SqlitePool, TypeInfo as _,
    postgres::PgRow,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteRow},
};

use super::{
    Storage, Transaction,
    migrations::{SQLITE, migrator},
};
use crate::{
    OpenError, Result, StorageError,
    dialect::{Backend, db},
};

/// How many rows go over in one statement at most.
const ROWS_MAX: usize = 500;
/// How many values a statement takes at most: SQLite's limit, the lower one.
const VALUES_MAX: usize = 32_766;
/// How many positions are skipped after a backup was restored. More than any server can have given out since, so that
/// none of them is ever given out a second time.
const SKIPPED_POSITIONS: i64 = 1 << 40;

/// Why a database could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// One of the two could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// One of the two could not be read or written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// There is something in the database already.
    #[error("the database holds data already; a backup is restored into an empty one")]
    NotEmpty,
    /// A column holds what nothing of ours does.
    #[error("{table}.{column} holds {kind}, which no table of ours does")]
    Foreign {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// The type of its values.
        kind: String,
    },
}

impl From<sqlx::Error> for CopyError {
    fn from(error: sqlx::Error) -> Self {
        Self::Storage(error.into())
    }
}

/// Binds a value to the next place of a statement, for whichever database it is.
macro_rules! bind {
    ($separated:ident, $value:expr) => {
        match $value {
            Value::Integer(value) => $separated.push_bind(value),
            Value::Truth(value) => $separated.push_bind(value),
            Value::Text(value) => $separated.push_bind(value),
            Value::Bytes(value) => $separated.push_bind(value),
        }
    };
}

/// A value of a row, or the lack of one of that type.
enum Value {
    Integer(Option<i64>),
    Truth(Option<bool>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

impl Storage {
    /// Writes all that is stored, as of one moment, into a new SQLite file. Others may read and write meanwhile.
    pub async fn copy_to_file(&self, path: &Path) -> Result<(), CopyError> {
        match self.read() {
            Backend::Sqlite(pool) => {
                let path = path.to_string_lossy().into_owned();
                sqlx::query("VACUUM INTO $1").bind(path).execute(pool).await?;
            }
            Backend::Postgres(_) => {
                let file = open_file(path).await?;
                let mut snapshot = self.snapshot().await?;
                if let Backend::Postgres(from) = snapshot.patient_connection().await? {
                    from_postgres(from, &mut *file.acquire().await?).await?;
                }
                file.close().await;
            }
        }
        Ok(())
    }

    /// Fills an empty database with the rows of a SQLite file that [`Storage::copy_to_file`] wrote, and makes it fit to
    /// serve. The file is brought up to date for that. The storage is to be closed then, and opened anew.
    pub async fn restore(&self, path: &Path) -> Result<(), CopyError> {
        if self.holds_data().await? {
            return Err(CopyError::NotEmpty);
        }
        let file = open_file(path).await?;
        let mut transaction = self.begin().await?;
        transaction.be_patient().await?;
        match transaction.patient_connection().await? {
            Backend::Sqlite(to) => to_sqlite(&mut *file.acquire().await?, to).await?,
            Backend::Postgres(to) => to_postgres(&mut *file.acquire().await?, to).await?,
        }
        prepare(&mut transaction).await?;
        transaction.commit().await?;
        file.close().await;
        Ok(())
    }

    /// Whether anything was ever stored.
    pub async fn holds_data(&self) -> Result<bool> {
        const SQL: &str = "SELECT EXISTS (SELECT 1 FROM log) OR EXISTS (SELECT 1 FROM accounts)";
        Ok(db!(self.read(), |pool| sqlx::query_scalar(SQL).fetch_one(pool).await)?)
    }
}

/// Makes a database that came out of a backup fit to serve. What happened after the backup is known to others and not
/// to it: one-time keys may have been handed out, so none of them stays, and the positions that were given out are
/// skipped, so that tokens and transactions that name them are never taken for others.
async fn prepare(transaction: &mut Transaction) -> Result<()> {
    db!(transaction.patient_connection().await?, |connection| {
        sqlx::query("DELETE FROM one_time_keys").execute(&mut *connection).await?;
        sqlx::query("INSERT INTO log_gaps (since, until) SELECT position, position + $1 FROM log_head")
            .bind(SKIPPED_POSITIONS)
            .execute(&mut *connection)
            .await?;
        sqlx::query("UPDATE log_head SET position = position + $1")
            .bind(SKIPPED_POSITIONS)
            .execute(&mut *connection)
            .await
            .map(drop)
    })?;
    Ok(())
}

/// Opens a SQLite database beside the one that is served from, with the tables of today.
async fn open_file(path: &Path) -> Result<SqlitePool, OpenError> {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true).disable_statement_logging();
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.map_err(OpenError::Connect)?;
    migrator(SQLITE).run(&pool).await.map_err(OpenError::Migrate)?;
    Ok(pool)
}

/// The tables of a SQLite file, ours only.
async fn tables(file: &mut SqliteConnection) -> Result<Vec<String>, CopyError> {
    const SQL: &str = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'
        AND name <> '_sqlx_migrations' ORDER BY name";
    Ok(sqlx::query_scalar(SQL).fetch_all(file).await?)
}

/// The columns of a table of a SQLite file, and their types.
async fn columns(file: &mut SqliteConnection, table: &str) -> Result<Vec<(String, String)>, CopyError> {
    Ok(sqlx::query_as("SELECT name, type FROM pragma_table_info($1)").bind(table).fetch_all(file).await?)
}

fn names(columns: &[(String, String)]) -> String {
    columns.iter().map(|(name, _)| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

/// Copies all rows from one connection to another. `$file` is the one of the two that is a SQLite file.
macro_rules! copy_rows {
    ($from:ident, $to:ident, $file:ident, $to_database:ty, $values:expr) => {
        for table in tables($file).await? {
            let columns = columns($file, &table).await?;
            let names = names(&columns);
            // Some tables have rows from the beginning.
            sqlx::query(AssertSqlSafe(format!("DELETE FROM {table}"))).execute(&mut *$to).await?;
            let select = AssertSqlSafe(format!("SELECT {names} FROM {table}"));
            let mut rows = sqlx::query(select).fetch(&mut *$from).try_chunks(ROWS_MAX.min(VALUES_MAX / columns.len()));
            while let Some(rows) = rows.try_next().await.map_err(|error| error.1)? {
                let rows = rows.iter().map(|row| $values(row, &table, &columns)).collect::<Result<Vec<_>, _>>()?;
                let mut insert = QueryBuilder::<$to_database>::new(format!("INSERT INTO {table} ({names}) "));
                insert.push_values(rows, |mut separated, row| {
                    for value in row {
                        bind!(separated, value);
                    }
                });
                insert.build().execute(&mut *$to).await?;
            }
        }
    };
}

async fn from_postgres(from: &mut PgConnection, file: &mut SqliteConnection) -> Result<(), CopyError> {
    sqlx::query("BEGIN").execute(&mut *file).await?;
    copy_rows!(from, file, file, Sqlite, postgres_values);
    sqlx::query("COMMIT").execute(&mut *file).await?;
    Ok(())
}

async fn to_postgres(file: &mut SqliteConnection, to: &mut PgConnection) -> Result<(), CopyError> {
    copy_rows!(file, to, file, Postgres, sqlite_values);
    sqlx::query("ANALYZE").execute(&mut *to).await?;
    Ok(())
}

async fn to_sqlite(file: &mut SqliteConnection, to: &mut SqliteConnection) -> Result<(), CopyError> {
    copy_rows!(file, to, file, Sqlite, sqlite_values);
    Ok(())
}

fn postgres_values(row: &PgRow, table: &str, _: &[(String, String)]) -> Result<Vec<Value>, CopyError> {
    let value = |(index, column): (usize, &<Postgres as sqlx::Database>::Column)| {
        Ok(match column.type_info().name() {
            "INT8" => Value::Integer(row.try_get(index)?),
            "INT4" => Value::Integer(row.try_get::<Option<i32>, _>(index)?.map(i64::from)),
            "INT2" => Value::Integer(row.try_get::<Option<i16>, _>(index)?.map(i64::from)),
            "BOOL" => Value::Truth(row.try_get(index)?),
            "TEXT" => Value::Text(row.try_get(index)?),
            "BYTEA" => Value::Bytes(row.try_get(index)?),
            kind => return Err(foreign(table, column.name(), kind)),
        })
    };
    row.columns().iter().enumerate().map(value).collect()
}

fn sqlite_values(row: &SqliteRow, table: &str, columns: &[(String, String)]) -> Result<Vec<Value>, CopyError> {
    let value = |(index, (name, kind)): (usize, &(String, String))| {
        Ok(match kind.as_str() {
            "INTEGER" | "BIGINT" | "SMALLINT" => Value::Integer(row.try_get_unchecked(index)?),
            "BOOLEAN" => Value::Truth(row.try_get_unchecked(index)?),
            "TEXT" => Value::Text(row.try_get_unchecked(index)?),
            "BLOB" => Value::Bytes(row.try_get_unchecked(index)?),
            kind => return Err(foreign(table, name, kind)),
        })
    };
    columns.iter().enumerate().map(value).collect()
}

fn foreign(table: &str, column: &str, kind: &str) -> CopyError {
    CopyError::Foreign { table: table.to_owned(), column: column.to_owned(), kind: kind.to_owned() }
}
