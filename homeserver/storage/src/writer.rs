//! The connection that writes to SQLite.
//!
//! It lives in a thread of its own, and going there and back costs more than most statements do. So a transaction begins
//! together with its first statement, and what is left to the end goes together with the commit.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::{
    FutureExt, StreamExt, TryFutureExt, TryStreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Either, Execute, Executor, SqlSafeStr, SqlStr, Sqlite, SqliteConnection,
    sqlite::{SqliteArguments, SqliteConnectOptions, SqliteQueryResult, SqliteRow, SqliteStatement, SqliteTypeInfo},
};
use tokio::{
    runtime::Handle,
    sync::{Mutex, OwnedMutexGuard},
    time::timeout,
};

use crate::insert::{Script, Step, bound};

/// How long to wait for the connection: `fsck` may hold it for longer.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);
/// SQLite's code for a statement that makes no sense where it stands: of a `ROLLBACK`, that there is no transaction.
const SQLITE_ERROR: &str = "1";

/// The one connection that writes. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Writer {
    /// How to open another one; a database in memory is gone with its own.
    anew: Option<Arc<SqliteConnectOptions>>,
    place: Arc<Mutex<Place>>,
}

/// Where the connection is while nobody uses it.
enum Place {
    Open(SqliteConnection),
    /// It could not take back a transaction; another one takes its place.
    Lost,
    Closed,
}

/// The connection in use.
type Lent = OwnedMutexGuard<Place>;

impl Writer {
    /// `anew` says how to open another such connection, if that can be done.
    pub(crate) fn new(connection: SqliteConnection, anew: Option<SqliteConnectOptions>) -> Self {
        Self { anew: anew.map(Arc::new), place: Arc::new(Mutex::new(Place::Open(connection))) }
    }

    /// A transaction that will begin with this statement. Waits for others to end.
    pub(crate) async fn begin_with(&self, begin: &'static str) -> sqlx::Result<SqliteTransaction> {
        let lent = Some(self.lend().await?);
        Ok(SqliteTransaction { lent, begin: Some(begin), is_sound: true, last: Script::default() })
    }

    /// Runs something on the connection, outside of a transaction.
    pub(crate) async fn run<T>(
        &self,
        statement: impl AsyncFnOnce(&mut SqliteConnection) -> sqlx::Result<T>,
    ) -> sqlx::Result<T> {
        statement(self.lend().await?.connection()?).await
    }

    /// Closes the connection in order.
    pub(crate) async fn close(&self) {
        let place = std::mem::replace(&mut *self.place.lock().await, Place::Closed);
        let Place::Open(mut connection) = place else { return };
        if let Err(error) = sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await {
            tracing::debug!(%error, "no checkpoint at the end");
        }
        if let Err(error) = connection.close().await {
            tracing::debug!(%error, "the writing connection was not closed in order");
        }
    }

    async fn lend(&self) -> sqlx::Result<Lent> {
        let lent = timeout(ACQUIRE_TIMEOUT, Arc::clone(&self.place).lock_owned()).await;
        let mut lent = lent.map_err(|_late| sqlx::Error::PoolTimedOut)?;
        if let (Place::Lost, Some(anew)) = (&*lent, &self.anew) {
            *lent = Place::Open(anew.connect().await?);
        }
        lent.connection()?;
        Ok(lent)
    }
}

impl Place {
    fn connection(&mut self) -> sqlx::Result<&mut SqliteConnection> {
        match self {
            Self::Open(connection) => Ok(connection),
            Self::Lost | Self::Closed => Err(sqlx::Error::PoolClosed),
        }
    }

    /// Takes back what was not committed. SQLite may have done so by itself, as it does where the disk is full.
    async fn roll_back(&mut self) {
        let Self::Open(connection) = self else { return };
        let Err(error) = sqlx::raw_sql("ROLLBACK").execute(connection).await else { return };
        let code = error.as_database_error().and_then(|error| error.code().map(|code| code == SQLITE_ERROR));
        if code != Some(true) {
            tracing::warn!(%error, "the connection that writes cannot take back a transaction; opening another");
            *self = Self::Lost;
        }
    }
}

/// A transaction. Dropping it takes it back.
pub(crate) struct SqliteTransaction {
    /// Present until the end.
    lent: Option<Lent>,
    /// What begins it, until something has.
    begin: Option<&'static str>,
    /// Whether every statement has come to its end, and well. After one that has not, SQLite may have taken back all.
    is_sound: bool,
    /// What is run with the commit.
    last: Script,
}

impl SqliteTransaction {
    /// What the next statement is run on.
    pub(crate) fn connection(&mut self) -> InTransaction<'_> {
        InTransaction(self)
    }

    /// The connection, once the transaction has begun.
    pub(crate) async fn begun_connection(&mut self) -> sqlx::Result<&mut SqliteConnection> {
        if let Some(begin) = self.begin.take() {
            let begin = sqlx::raw_sql(begin);
            self.run(begin, async |connection: &mut SqliteConnection, begin| connection.execute(begin).await).await?;
        }
        self.lent.as_mut().filter(|_| self.is_sound).ok_or_else(failed_before)?.connection()
    }

    /// Leaves statements to be run with the commit, and nothing after them.
    pub(crate) fn leave_to_commit(&mut self, last: Script) {
        self.last = last;
    }

    pub(crate) async fn commit(mut self) -> sqlx::Result<()> {
        for Step { text, arguments, statements } in std::mem::take(&mut self.last).for_sqlite(Some("COMMIT")) {
            let ended: Vec<_> = self.connection().fetch_many(bound!(text, arguments)).try_collect().await?;
            // Where the connection's thread crashes there is no error, and no end of what it did not come to.
            if ended.len() < statements {
                return Err(sqlx::Error::WorkerCrashed);
            }
        }
        // Only what has ended is not taken back.
        self.lent = None;
        Ok(())
    }

    /// Runs a statement, and before it what begins the transaction unless it has begun.
    async fn run<'q, T>(
        &mut self,
        mut statement: impl Execute<'q, Sqlite>,
        running: impl AsyncFnOnce(&mut SqliteConnection, Bound) -> sqlx::Result<T>,
    ) -> sqlx::Result<T> {
        debug_assert!(self.last.is_empty(), "nothing is run after what was left to the commit");
        let arguments = statement.take_arguments().map_err(sqlx::Error::Encode)?;
        let sql = match self.begin.take() {
            Some(begin) => AssertSqlSafe(format!("{begin}; {}", statement.sql().as_str())).into_sql_str(),
            None => statement.sql(),
        };
        let lent = self.lent.as_mut().filter(|_| std::mem::replace(&mut self.is_sound, false));
        let connection = lent.ok_or_else(failed_before)?.connection()?;
        let outcome = running(connection, (sql, arguments)).await;
        self.is_sound = outcome.is_ok();
        outcome
    }
}

fn failed_before() -> sqlx::Error {
    sqlx::Error::Protocol("a statement of the transaction has failed before".to_owned())
}

impl Drop for SqliteTransaction {
    fn drop(&mut self) {
        let (Some(mut lent), None) = (self.lent.take(), self.begin) else { return };
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move { lent.roll_back().await })),
            // Closing the connection takes it back as well.
            Err(_) => *lent = Place::Lost,
        }
    }
}

/// A transaction, to run one statement on.
pub(crate) struct InTransaction<'a>(&'a mut SqliteTransaction);

/// A text and what is bound to it.
type Bound = (SqlStr, Option<SqliteArguments>);
type Steps = Vec<Either<SqliteQueryResult, SqliteRow>>;

impl fmt::Debug for InTransaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InTransaction")
    }
}

impl<'c> Executor<'c> for InTransaction<'c> {
    type Database = Sqlite;

    /// All rows at once, so that it is known how the statement ended.
    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, sqlx::Result<Either<SqliteQueryResult, SqliteRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Sqlite>,
    {
        let steps = async move {
            let begins = self.0.begin.is_some();
            let running =
                async |connection: &mut SqliteConnection, query| connection.fetch_many(query).try_collect().await;
            let steps: Steps = self.0.run(query, running).await?;
            // SQLite says of the beginning that it changed as many rows as whatever changed some last.
            Ok(stream::iter(steps.into_iter().skip(usize::from(begins))).map(Ok))
        };
        steps.try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<SqliteRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Sqlite>,
    {
        let running = async |connection: &mut SqliteConnection, query| connection.fetch_optional(query).await;
        async move { self.0.run(query, running).await }.boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [SqliteTypeInfo],
    ) -> BoxFuture<'e, sqlx::Result<SqliteStatement>>
    where
        'c: 'e,
    {
        async move { self.0.begun_connection().await?.prepare_with(sql, parameters).await }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{ConnectOptions as _, SqliteConnection, sqlite::SqliteConnectOptions};

    use super::{SqliteTransaction, Writer};
    use crate::insert::{Insert, Script, row};

    static NUMBERS: Insert = Insert::new("numbers (number)", "");

    async fn writer() -> Writer {
        let mut connection = SqliteConnectOptions::new().in_memory(true).connect().await.unwrap();
        sqlx::raw_sql("CREATE TABLE numbers (number UNIQUE); INSERT INTO numbers VALUES (0)")
            .execute(&mut connection)
            .await
            .unwrap();
        Writer::new(connection, None)
    }

    async fn begin(writer: &Writer) -> SqliteTransaction {
        writer.begin_with("BEGIN IMMEDIATE").await.unwrap()
    }

    async fn run(transaction: &mut SqliteTransaction, statement: &'static str) -> sqlx::Result<u64> {
        sqlx::query(statement).execute(transaction.connection()).await.map(|outcome| outcome.rows_affected())
    }

    async fn numbers(writer: &Writer) -> Vec<i64> {
        const SQL: &str = "SELECT number FROM numbers ORDER BY number";
        writer
            .run(async |connection: &mut SqliteConnection| sqlx::query_scalar(SQL).fetch_all(connection).await)
            .await
            .unwrap()
    }

    fn script(inserted: &[i64]) -> Script {
        let mut script = Script::default();
        script.insert(&NUMBERS, inserted.iter().map(|number| row![*number]));
        script
    }

    #[tokio::test]
    async fn what_begins_and_what_ends_a_transaction_goes_with_its_statements() {
        let writer = writer().await;
        let mut transaction = begin(&writer).await;
        assert_eq!(run(&mut transaction, "INSERT INTO numbers VALUES (1), (2)").await.unwrap(), 2);
        assert_eq!(run(&mut transaction, "UPDATE numbers SET number = 3 WHERE number = 2").await.unwrap(), 1);
        transaction.leave_to_commit(script(&[4]));
        transaction.commit().await.unwrap();
        assert_eq!(numbers(&writer).await, [0, 1, 3, 4]);
        begin(&writer).await.commit().await.unwrap();

        drop(begin(&writer).await);
        let mut dropped = begin(&writer).await;
        assert_eq!(run(&mut dropped, "DELETE FROM numbers WHERE number = 9").await.unwrap(), 0, "not those of before");
        run(&mut dropped, "DELETE FROM numbers").await.unwrap();
        drop(dropped);
        assert_eq!(numbers(&writer).await, [0, 1, 3, 4]);
    }

    #[tokio::test]
    async fn after_a_statement_that_failed_nothing_is_written() {
        let writer = writer().await;
        let mut transaction = begin(&writer).await;
        run(&mut transaction, "INSERT INTO numbers VALUES (1)").await.unwrap();
        run(&mut transaction, "INSERT INTO numbers VALUES (0)").await.unwrap_err();
        run(&mut transaction, "INSERT INTO numbers VALUES (2)").await.unwrap_err();
        transaction.begun_connection().await.unwrap_err();
        transaction.commit().await.unwrap_err();
        assert_eq!(numbers(&writer).await, [0]);

        let mut transaction = writer.begin_with("BEGIN WRONGLY").await.unwrap();
        run(&mut transaction, "INSERT INTO numbers VALUES (1)").await.unwrap_err();
        run(&mut transaction, "INSERT INTO numbers VALUES (2)").await.unwrap_err();
        drop(transaction);

        let mut transaction = begin(&writer).await;
        run(&mut transaction, "INSERT INTO numbers VALUES (1)").await.unwrap();
        transaction.leave_to_commit(script(&[2, 0]));
        transaction.commit().await.unwrap_err();
        assert_eq!(numbers(&writer).await, [0]);
        begin(&writer).await.commit().await.unwrap();
    }
}
