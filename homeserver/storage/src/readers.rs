//! The connections that read from SQLite.
//!
//! The library's own pool asks each connection that comes back whether it still lives: a task and two changes of threads
//! after each read, which for the small reads of this server is as much as the read itself. A file does not hang up, so
//! here whatever ended well is simply used again, and whatever did not is closed.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures_util::{
    FutureExt, StreamExt, TryFutureExt, TryStreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use sqlx::{
    ConnectOptions, Connection, Either, Execute, Executor, SqlStr, Sqlite, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteQueryResult, SqliteRow, SqliteStatement, SqliteTypeInfo},
};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::writer::Writer;

/// What reads: queries run on a reference to it.
pub(crate) enum Readers {
    /// Of a file: connections of their own.
    File(Box<FileReaders>),
    /// Of a database in memory: the one connection that there is, which writes as well.
    Memory(Writer),
}

/// Up to a number of connections to a file, opened when they are needed.
pub(crate) struct FileReaders {
    options: SqliteConnectOptions,
    connections_max: u32,
    places: Semaphore,
    /// The one that was used last is used first: its caches are warm.
    idle: Mutex<Vec<SqliteConnection>>,
}

/// A connection in use. It is closed unless it is given back: after an error, or when the reading was given up, it may
/// be in any state.
struct Lent<'a> {
    connection: SqliteConnection,
    readers: &'a FileReaders,
    _place: SemaphorePermit<'a>,
}

impl Readers {
    /// Waits for what is being read, then closes all connections.
    pub(crate) async fn close(&self) {
        match self {
            Self::File(readers) => readers.close().await,
            Self::Memory(writer) => writer.close().await,
        }
    }

    async fn run<T>(&self, statement: impl AsyncFnOnce(&mut SqliteConnection) -> sqlx::Result<T>) -> sqlx::Result<T> {
        match self {
            Self::File(readers) => {
                let mut lent = readers.lend().await?;
                let outcome = statement(&mut lent.connection).await?;
                lent.give_back();
                Ok(outcome)
            }
            Self::Memory(writer) => writer.run(statement).await,
        }
    }
}

impl FileReaders {
    pub(crate) fn new(options: SqliteConnectOptions, connections_max: u32) -> Self {
        let places = Semaphore::new(connections_max as usize);
        Self { options, connections_max, places, idle: Mutex::default() }
    }

    async fn lend(&self) -> sqlx::Result<Lent<'_>> {
        let place = self.places.acquire().await.map_err(|_closed| sqlx::Error::PoolClosed)?;
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        Ok(Lent { connection, readers: self, _place: place })
    }

    async fn close(&self) {
        // An error means that it was closed before.
        let all = self.places.acquire_many(self.connections_max).await;
        self.places.close();
        drop(all);
        let idle = std::mem::take(&mut *self.idle());
        for connection in idle {
            if let Err(error) = connection.close().await {
                tracing::debug!(%error, "a reading connection was not closed in order");
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<SqliteConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lent<'_> {
    fn give_back(self) {
        self.readers.idle().push(self.connection);
    }
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Readers")
    }
}

impl<'c> Executor<'c> for &'c Readers {
    type Database = Sqlite;

    /// All rows at once: a connection is held only as long as SQLite needs it.
    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, sqlx::Result<Either<SqliteQueryResult, SqliteRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Sqlite>,
    {
        let steps = async move {
            let steps: Vec<_> = self
                .run(async |connection: &mut SqliteConnection| connection.fetch_many(query).try_collect().await)
                .await?;
            Ok(stream::iter(steps).map(Ok))
        };
        steps.try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<SqliteRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Sqlite>,
    {
        async move { self.run(async |connection: &mut SqliteConnection| connection.fetch_optional(query).await).await }
            .boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [SqliteTypeInfo],
    ) -> BoxFuture<'e, sqlx::Result<SqliteStatement>>
    where
        'c: 'e,
    {
        async move {
            self.run(async |connection: &mut SqliteConnection| connection.prepare_with(sql, parameters).await).await
        }
        .boxed()
    }
}
