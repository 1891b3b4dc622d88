//! The connections to PostgreSQL.
//!
//! The library's own pool waits for an answer for as long as the system believes in the connection, which is hours where
//! the other end has gone without a word, and asks each connection that comes back whether it still lives. Here nothing is
//! waited for beyond a deadline, what ended well is used again as it is, and what did not is closed.

use std::{
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt, StreamExt, TryFutureExt, TryStreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use sqlx::{
    ConnectOptions, Connection, Either, Execute, Executor, PgConnection, Postgres, SqlStr,
    postgres::{PgArguments, PgConnectOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::error::Failure;

/// How long to wait for a place and a connection before a request fails: the database is down, or far too busy.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait before connecting again to a database that refuses; doubles with each refusal.
const CONNECT_PAUSE: Duration = Duration::from_millis(50);
/// A connection that was idle for so long is asked whether it still lives before it is used.
const TRUSTED_IDLE: Duration = Duration::from_secs(2);
/// How long it may take to say so.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection is replaced after so long: the other end keeps what it has learned about tables, and forgets nothing.
const AGE_MAX: Duration = Duration::from_mins(30);
/// How long an answer to a statement is waited for. The database itself is told to give up a little earlier, and to give up
/// on us when we begin something and then say no more: others wait for what we have locked.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(25);
const TIMEOUTS: &str = "SET statement_timeout TO '20s'; SET idle_in_transaction_session_timeout TO '60s'";
const FOREVER: &str = "SET statement_timeout TO 0; SET idle_in_transaction_session_timeout TO 0";
const NO_TIMEOUTS: &str = "SET LOCAL statement_timeout TO 0; SET LOCAL idle_in_transaction_session_timeout TO 0";
/// Copies and checks of the whole database may take long.
const PATIENCE: Duration = Duration::from_hours(24);
/// How long a stop waits for what is under way.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Up to a number of connections, opened when they are needed. Cloning shares them.
#[derive(Clone)]
pub(crate) struct PostgresPool(Arc<Inner>);

struct Inner {
    options: PgConnectOptions,
    /// What a new connection is told first.
    settings: String,
    connections_max: u32,
    places: Arc<Semaphore>,
    /// The one that was used last is used first: its caches are warm.
    idle: Mutex<Vec<Kept>>,
}

/// A connection, with what is known of it.
struct Kept {
    connection: PgConnection,
    opened: Instant,
    used: Instant,
}

/// A connection in use. It is closed unless it is given back: when the reading was given up, it may be in any state.
struct Lent {
    kept: Kept,
    pool: Arc<Inner>,
    _place: OwnedSemaphorePermit,
}

impl PostgresPool {
    /// Opens nothing yet. `settings` is what a new connection is told first.
    pub(crate) fn new(options: PgConnectOptions, settings: &str, connections_max: u32) -> Self {
        let places = Arc::new(Semaphore::new(connections_max as usize));
        let settings = format!("{settings}; {TIMEOUTS}");
        Self(Arc::new(Inner { options, settings, connections_max, places, idle: Mutex::default() }))
    }

    /// A connection of its own, without deadlines for its statements.
    pub(crate) async fn connect(&self) -> sqlx::Result<PgConnection> {
        let mut connection = self.0.open(Instant::now() + ACQUIRE_TIMEOUT).await?.connection;
        sqlx::raw_sql(FOREVER).execute(&mut connection).await?;
        Ok(connection)
    }

    /// Waits a while for what is under way, then closes all connections.
    pub(crate) async fn close(&self) {
        // An error means that it was closed before.
        let all = timeout(CLOSE_TIMEOUT, self.0.places.acquire_many(self.0.connections_max)).await;
        self.0.places.close();
        drop(all);
        let idle = std::mem::take(&mut *self.0.idle());
        for kept in idle {
            if !matches!(timeout(CLOSE_TIMEOUT, kept.connection.close()).await, Ok(Ok(()))) {
                tracing::debug!("a connection was not closed in order");
            }
        }
    }

    /// A transaction, begun by this statement; on another connection where one had ended while nobody used it.
    pub(crate) async fn begin_with(&self, begin: &'static str) -> sqlx::Result<PostgresTransaction> {
        match self.begin_once(begin).await {
            Err(error) if had_ended(&error) => {
                self.0.forget_idle();
                self.begin_once(begin).await
            }
            outcome => outcome,
        }
    }

    async fn begin_once(&self, begin: &'static str) -> sqlx::Result<PostgresTransaction> {
        let lent = self.0.lend().await?;
        let mut transaction = PostgresTransaction { lent: Some(lent), patience: STATEMENT_TIMEOUT, is_sound: true };
        sqlx::raw_sql(begin).execute(transaction.connection()).await?;
        Ok(transaction)
    }

    /// Reads, and once more on another connection where one had ended while nobody used it.
    async fn read<'q, T>(
        &self,
        mut query: impl Execute<'q, Postgres>,
        reading: impl AsyncFn(&mut PgConnection, Question) -> sqlx::Result<T>,
    ) -> sqlx::Result<T> {
        let arguments = query.take_arguments().map_err(sqlx::Error::Encode)?;
        let question = (query.sql(), arguments);
        match self.read_once(question.clone(), &reading).await {
            Err(error) if had_ended(&error) => self.read_once(question, &reading).await,
            outcome => outcome,
        }
    }

    async fn read_once<T>(
        &self,
        question: Question,
        reading: &impl AsyncFn(&mut PgConnection, Question) -> sqlx::Result<T>,
    ) -> sqlx::Result<T> {
        let mut lent = self.0.lend().await?;
        let outcome = in_time(STATEMENT_TIMEOUT, reading(&mut lent.kept.connection, question)).await;
        lent.settle(&outcome);
        outcome
    }
}

impl Inner {
    async fn lend(self: &Arc<Self>) -> sqlx::Result<Lent> {
        let deadline = Instant::now() + ACQUIRE_TIMEOUT;
        let place = timeout(ACQUIRE_TIMEOUT, Arc::clone(&self.places).acquire_owned()).await;
        let place = place.map_err(|_late| sqlx::Error::PoolTimedOut)?.map_err(|_closed| sqlx::Error::PoolClosed)?;
        let kept = match self.idle_and_alive().await {
            Some(kept) => kept,
            None => self.open(deadline).await.map_err(unavailable)?,
        };
        Ok(Lent { kept, pool: Arc::clone(self), _place: place })
    }

    async fn idle_and_alive(&self) -> Option<Kept> {
        let mut kept = self.idle().pop()?;
        if kept.used.elapsed() < TRUSTED_IDLE {
            return Some(kept);
        }
        if matches!(timeout(PING_TIMEOUT, kept.connection.ping()).await, Ok(Ok(()))) {
            return Some(kept);
        }
        self.forget_idle();
        None
    }

    /// Connects, again and again until the deadline where the database is not ready: it may be starting anew.
    async fn open(&self, deadline: Instant) -> sqlx::Result<Kept> {
        let mut pause = CONNECT_PAUSE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let connecting = timeout(left, self.open_once()).await.map_err(|_late| sqlx::Error::PoolTimedOut)?;
            match connecting {
                Ok(connection) => {
                    let now = Instant::now();
                    return Ok(Kept { connection, opened: now, used: now });
                }
                Err(error)
                    if matches!(Failure::of(&error), Failure::Disconnected | Failure::Shortage) && pause < left =>
                {
                    tracing::debug!(%error, "the database refuses a connection; trying again");
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    async fn open_once(&self) -> sqlx::Result<PgConnection> {
        let mut connection = self.options.connect().await?;
        sqlx::raw_sql(sqlx::AssertSqlSafe(self.settings.clone())).execute(&mut connection).await?;
        Ok(connection)
    }

    /// When one has died, so have the others, most likely.
    fn forget_idle(&self) {
        let dead = std::mem::take(&mut *self.idle());
        drop(dead);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A database that could not be reached for so long is not asked again at once.
fn unavailable(error: sqlx::Error) -> sqlx::Error {
    if Failure::of(&error) == Failure::Refused {
        return error;
    }
    tracing::warn!(%error, "no connection to the database can be had");
    sqlx::Error::PoolTimedOut
}

impl Lent {
    fn give_back(self) {
        let Self { mut kept, pool, _place } = self;
        if kept.opened.elapsed() < AGE_MAX {
            kept.used = Instant::now();
            pool.idle().push(kept);
        }
    }

    /// Keeps the connection only if it can be used again.
    fn settle<T>(self, outcome: &sqlx::Result<T>) {
        match outcome {
            Ok(_) => self.give_back(),
            Err(error) if is_sound_after(error) => self.give_back(),
            Err(_) => self.pool.forget_idle(),
        }
    }
}

/// Whether a connection turned out to be none any more. One that does not answer in time is not meant.
fn had_ended(error: &sqlx::Error) -> bool {
    let is_late = matches!(error, sqlx::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut);
    Failure::of(error) == Failure::Disconnected && !is_late
}

/// Whether a connection can go on after an error: the database has said no, and nothing else happened.
fn is_sound_after(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(_)) && Failure::of(error) != Failure::Disconnected
}

async fn in_time<T>(patience: Duration, running: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    let late = || sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "the database does not answer in time"));
    timeout(patience, running).await.unwrap_or_else(|_| Err(late()))
}

/// A transaction. Dropping it takes it back.
pub(crate) struct PostgresTransaction {
    /// Present until the end.
    lent: Option<Lent>,
    patience: Duration,
    /// Whether the last statement has come to its end.
    is_sound: bool,
}

impl PostgresTransaction {
    /// What the next statement is run on.
    pub(crate) fn connection(&mut self) -> InTransaction<'_> {
        InTransaction(self)
    }

    /// The connection, for statements without deadlines.
    pub(crate) fn patient_connection(&mut self) -> &mut PgConnection {
        &mut self.lent.as_mut().expect("a transaction has its connection until its end").kept.connection
    }

    /// Waits for as long as it takes from here on.
    pub(crate) async fn be_patient(&mut self) -> sqlx::Result<()> {
        self.patience = PATIENCE;
        sqlx::raw_sql(NO_TIMEOUTS).execute(self.connection()).await.map(drop)
    }

    pub(crate) async fn commit(mut self) -> sqlx::Result<()> {
        let outcome = sqlx::raw_sql("COMMIT").execute(self.connection()).await;
        if let Some(lent) = self.lent.take() {
            lent.settle(&outcome);
        }
        outcome.map(drop)
    }

    async fn run<T>(&mut self, statement: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>) -> sqlx::Result<T> {
        let patience = self.patience;
        self.is_sound = false;
        let outcome = in_time(patience, statement(self.patient_connection())).await;
        self.is_sound = outcome.as_ref().map_or_else(is_sound_after, |_| true);
        outcome
    }
}

impl Drop for PostgresTransaction {
    fn drop(&mut self) {
        let Some(mut lent) = self.lent.take() else { return };
        // Where it ended in the midst, closing the connection takes it back as well.
        let (true, Ok(runtime)) = (self.is_sound, Handle::try_current()) else { return };
        runtime.spawn(async move {
            let rollback = sqlx::raw_sql("ROLLBACK").execute(&mut lent.kept.connection);
            let outcome = in_time(STATEMENT_TIMEOUT, rollback).await;
            lent.settle(&outcome);
        });
    }
}

/// A transaction, to run one statement on.
pub(crate) struct InTransaction<'a>(&'a mut PostgresTransaction);

impl fmt::Debug for InTransaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InTransaction")
    }
}

impl fmt::Debug for PostgresPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgresPool")
    }
}

type Steps = Vec<Either<PgQueryResult, PgRow>>;

/// A text and what is bound to it.
type Question = (SqlStr, Option<PgArguments>);

impl<'c> Executor<'c> for InTransaction<'c> {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, sqlx::Result<Either<PgQueryResult, PgRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let steps = async move {
            let running = async |connection: &mut PgConnection| connection.fetch_many(query).try_collect().await;
            let steps: Steps = self.0.run(running).await?;
            Ok(stream::iter(steps).map(Ok))
        };
        steps.try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<PgRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        async move { self.0.run(async |connection: &mut PgConnection| connection.fetch_optional(query).await).await }
            .boxed()
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [PgTypeInfo]) -> BoxFuture<'e, sqlx::Result<PgStatement>>
    where
        'c: 'e,
    {
        async move {
            self.0.run(async |connection: &mut PgConnection| connection.prepare_with(sql, parameters).await).await
        }
        .boxed()
    }
}

impl<'c> Executor<'c> for &'c PostgresPool {
    type Database = Postgres;

    /// All rows at once: a connection is held only as long as the database needs it.
    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, sqlx::Result<Either<PgQueryResult, PgRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let steps = async move {
            let reading =
                async |connection: &mut PgConnection, question| connection.fetch_many(question).try_collect().await;
            let steps: Steps = self.read(query, reading).await?;
            Ok(stream::iter(steps).map(Ok))
        };
        steps.try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<PgRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let reading = async |connection: &mut PgConnection, question| connection.fetch_optional(question).await;
        async move { self.read(query, reading).await }.boxed()
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [PgTypeInfo]) -> BoxFuture<'e, sqlx::Result<PgStatement>>
    where
        'c: 'e,
    {
        let statement = async move {
            let mut lent = self.0.lend().await?;
            let outcome = in_time(STATEMENT_TIMEOUT, lent.kept.connection.prepare_with(sql, parameters)).await;
            lent.settle(&outcome);
            outcome
        };
        statement.boxed()
    }
}
