//! Opening, closing and copying: the only place that names the database drivers.

mod copy;
mod migrations;

use std::{
    fmt,
    path::Path,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rules::change::Position;
use ruma::OwnedServerName;
use sqlx::{
    ConnectOptions, Connection, PgConnection, SqliteConnection,
    postgres::PgConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::sync::{mpsc, oneshot};

pub use self::copy::CopyError;
use self::migrations::{NEWEST, POSTGRES, SQLITE, check_version, migrator};
use crate::{
    OpenError, Result, StorageError,
    batches::Batches,
    claims::Claims,
    commit::{self, Request},
    destinations::Destination,
    devices::TokenCache,
    dialect::{Backend, db},
    error::Failure,
    events::EventCache,
    insert::Script,
    log::Bus,
    names::NameCache,
    notifications::{RoomUnreadCache, UnreadCache, room_unread_cache},
    one_time_keys::{KeyCountCache, key_count_cache},
    postgres::{self, PostgresPool, PostgresTransaction},
    pushers::PusherHolders,
    readers::{FileReaders, Readers},
    relations::RelatedRooms,
    sticky_events::StickyRooms,
    tasks::Tasks,
    to_device::{Acknowledged, none_acknowledged},
    writer::{self, SqliteTransaction, Writer},
};

/// How many submissions wait for the committer before those who submit have to wait themselves.
const COMMIT_QUEUE: usize = 1024;
/// How many prepared statements a writing connection keeps: each set of tables that a commit writes to is one.
const WRITER_STATEMENTS: usize = 512;
/// How long to wait for another process that has locked the SQLite file: an operator's shell, a backup.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of the SQLite file is read through shared memory instead of copies, in bytes.
const MMAP_SIZE: &str = "268435456";
/// The page caches of SQLite's connections, in KiB: together some 16 MB, as most is read through shared memory.
const WRITER_CACHE: &str = "-8192";
const READER_CACHE: &str = "-2048";
/// The write-ahead log is cut down to this many bytes after a checkpoint.
const JOURNAL_SIZE_LIMIT: &str = "67108864";
/// PostgreSQL connections beside the reading ones: the committer, and bookkeeping.
const POSTGRES_WRITERS: u32 = 4;

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

/// What is done with tables of an older version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tables {
    BroughtUpToDate,
    LeftAlone,
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

/// SQLite's connections: many that read, one that writes. In memory there is only one, which does both.
pub(crate) struct SqliteConnections {
    read: Readers,
    write: Writer,
}

/// What the storage and its committer share.
pub(crate) struct Shared {
    connections: Backend<SqliteConnections, PostgresPool>,
    read_only: Arc<AtomicBool>,
    /// How many times it was read.
    pub(crate) reads: AtomicU64,
    /// How many transactions committed.
    pub(crate) commits: AtomicU64,
    /// How many rows commits inserted.
    pub(crate) inserted_rows: AtomicU64,
    pub(crate) server_name: OwnedServerName,
    pub(crate) bus: Bus,
    pub(crate) names: NameCache,
    pub(crate) events: EventCache,
    pub(crate) tokens: Arc<TokenCache>,
    pub(crate) related_rooms: RelatedRooms,
    pub(crate) sticky_rooms: StickyRooms,
    pub(crate) acknowledged_to_device: Acknowledged,
    pub(crate) unread: UnreadCache,
    pub(crate) room_unread: RoomUnreadCache,
    pub(crate) key_counts: Arc<KeyCountCache>,
    pub(crate) pusher_holders: PusherHolders,
    pub(crate) claims: Arc<Batches<Claims>>,
    pub(crate) destination_saves: Arc<Batches<Destination>>,
    pub(crate) tasks: Arc<Tasks>,
    /// After which positions and before which nothing is known of those that were given out.
    gaps: Vec<(Position, Position)>,
}

/// The storage. Cloning shares it. When the last clone is dropped, what waits is still committed.
#[derive(Clone)]
pub struct Storage {
    pub(crate) shared: Arc<Shared>,
    pub(crate) requests: mpsc::Sender<Request>,
}

impl Storage {
    /// Connects, brings the tables up to date, checks that the database is as durable as `options` ask, and starts the
    /// committer.
    pub async fn open(options: &Options) -> Result<Self, OpenError> {
        Self::open_with(options, Tables::BroughtUpToDate).await
    }

    /// Like [`Storage::open`], beside a server that is running: tables of another version are refused, not changed.
    pub async fn open_beside(options: &Options) -> Result<Self, OpenError> {
        Self::open_with(options, Tables::LeftAlone).await
    }

    async fn open_with(options: &Options, tables: Tables) -> Result<Self, OpenError> {
        let connections = match options.url.split(':').next() {
            Some("sqlite") => Backend::Sqlite(open_sqlite(options, tables).await?),
            Some("postgres" | "postgresql") => Backend::Postgres(open_postgres(options, tables).await?),
            _ => return Err(url_error(options, &"it begins with neither sqlite: nor postgres:")),
        };
        let mut shared = Shared {
            connections,
            read_only: Arc::default(),
            reads: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            inserted_rows: AtomicU64::new(0),
            server_name: options.server_name.clone(),
            bus: Bus::new(0),
            names: NameCache::new(),
            events: EventCache::default(),
            tokens: Arc::default(),
            related_rooms: RelatedRooms::default(),
            sticky_rooms: StickyRooms::default(),
            acknowledged_to_device: none_acknowledged(),
            unread: UnreadCache::default(),
            room_unread: room_unread_cache(),
            key_counts: Arc::new(key_count_cache()),
            pusher_holders: PusherHolders::default(),
            claims: Arc::default(),
            destination_saves: Arc::default(),
            tasks: Arc::default(),
            gaps: Vec::new(),
        };
        shared.bus = Bus::new(shared.stored_head().await?);
        shared.gaps = shared.stored_gaps().await?;
        shared.load_sticky_rooms().await?;
        let shared = Arc::new(shared);
        let (requests, waiting) = mpsc::channel(COMMIT_QUEUE);
        tokio::spawn(commit::run(Arc::clone(&shared), waiting));
        Ok(Self { shared, requests })
    }

    /// Commits what waits, then closes all connections. Later calls fail with [`StorageError::Closed`].
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.requests.send(Request::Close(done)).await.is_ok() {
            // An error means that the committer is gone already, which is as good.
            closed.await.unwrap_or_default();
        }
        match &self.shared.connections {
            Backend::Postgres(pool) => pool.close().await,
            Backend::Sqlite(connections) => {
                connections.read.close().await;
                connections.write.close().await;
            }
        }
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        db!(self.read(), |pool| sqlx::query("SELECT 1").execute(pool).await.map(drop))?;
        Ok(())
    }

    /// Which keeps tasks going, and knows which have panicked.
    pub fn tasks(&self) -> Arc<Tasks> {
        Arc::clone(&self.shared.tasks)
    }

    /// Whether a position was given out, if it was, after the backup that this database was restored from.
    pub fn is_lost(&self, position: Position) -> bool {
        self.shared.gaps.iter().any(|(since, until)| *since < position && position < *until)
    }

    /// The next position that was given out, or this one: the positions that a restored backup skipped are not worth
    /// looking through.
    pub fn past_gap(&self, position: Position) -> Position {
        let gap = self.shared.gaps.iter().find(|(since, until)| *since <= position && position < *until);
        gap.map_or(position, |(_, until)| *until)
    }

    /// How many times the database was read since it was opened. What is found in memory does not count.
    pub fn reads(&self) -> u64 {
        self.shared.reads.load(Ordering::Relaxed)
    }

    /// How many transactions of one commit or several were written since the database was opened.
    pub fn transactions(&self) -> u64 {
        self.shared.commits.load(Ordering::Relaxed)
    }

    /// How many rows commits inserted since the database was opened.
    pub fn inserted_rows(&self) -> u64 {
        self.shared.inserted_rows.load(Ordering::Relaxed)
    }

    /// `SQLite` or `PostgreSQL`.
    pub fn backend(&self) -> &'static str {
        match self.shared.connections {
            Backend::Sqlite(_) => "SQLite",
            Backend::Postgres(_) => "PostgreSQL",
        }
    }

    /// Connections to read with.
    pub(crate) fn read(&self) -> Backend<&Readers, &PostgresPool> {
        self.shared.read()
    }

    /// A transaction that only reads, for as long as it takes, and sees everything as of one moment. On SQLite nothing is
    /// written meanwhile.
    pub(crate) async fn snapshot(&self) -> Result<Transaction> {
        const POSTGRES: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        let inner = match &self.shared.connections {
            Backend::Sqlite(connections) => Backend::Sqlite(connections.write.begin_with("BEGIN").await?),
            Backend::Postgres(pool) => Backend::Postgres(pool.begin_with(POSTGRES).await?),
        };
        let mut snapshot = self.shared.transaction(inner);
        snapshot.be_patient().await?;
        Ok(snapshot)
    }

    /// A transaction that writes. Dropping it takes it back.
    pub(crate) async fn begin(&self) -> Result<Transaction> {
        self.shared.begin().await
    }
}

impl Shared {
    pub(crate) fn read(&self) -> Backend<&Readers, &PostgresPool> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        match &self.connections {
            Backend::Sqlite(connections) => Backend::Sqlite(&connections.read),
            Backend::Postgres(pool) => Backend::Postgres(pool),
        }
    }

    pub(crate) async fn begin(&self) -> Result<Transaction> {
        self.begin_with("BEGIN").await
    }

    /// A transaction in which the counters of the log do not change: no other process commits until it ends.
    pub(crate) async fn begin_commit(&self) -> Result<Transaction> {
        self.begin_with("BEGIN; SELECT position FROM log_head FOR UPDATE").await
    }

    /// SQLite has but one way to begin writing, which locks the whole file.
    async fn begin_with(&self, postgres: &'static str) -> Result<Transaction> {
        if self.read_only.load(Ordering::Acquire) {
            return Err(StorageError::ReadOnly);
        }
        let inner = match &self.connections {
            Backend::Sqlite(connections) => Backend::Sqlite(connections.write.begin_with("BEGIN IMMEDIATE").await?),
            // Boxed, since it would lie in the futures of all who write.
            Backend::Postgres(pool) => Backend::Postgres(Box::pin(pool.begin_with(postgres)).await?),
        };
        Ok(self.transaction(inner))
    }

    fn transaction(&self, inner: Inner) -> Transaction {
        let (tokens, key_counts) = (Arc::clone(&self.tokens), Arc::clone(&self.key_counts));
        Transaction { inner, read_only: Arc::clone(&self.read_only), tokens, key_counts, afterwards: Vec::new() }
    }

    /// Stops acknowledging: what the disk holds is uncertain.
    pub(crate) fn stop_writing(&self) {
        self.read_only.store(true, Ordering::Release);
    }

    async fn stored_gaps(&self) -> Result<Vec<(Position, Position)>> {
        const SQL: &str = "SELECT since, until FROM log_gaps";
        Ok(db!(self.read(), |pool| sqlx::query_as(SQL).fetch_all(pool).await)?)
    }

    async fn stored_head(&self) -> Result<Position> {
        Ok(db!(self.read(), |pool| sqlx::query_scalar("SELECT position FROM log_head").fetch_one(pool).await)?)
    }
}

/// A transaction of the one or the other.
type Inner = Backend<SqliteTransaction, PostgresTransaction>;

/// What is done once a transaction is over.
type Afterwards = Box<dyn FnOnce() + Send>;

/// A transaction.
pub(crate) struct Transaction {
    inner: Inner,
    read_only: Arc<AtomicBool>,
    tokens: Arc<TokenCache>,
    key_counts: Arc<KeyCountCache>,
    afterwards: Vec<Afterwards>,
}

impl Transaction {
    /// The connection to run a statement on.
    pub(crate) fn connection(&mut self) -> Backend<writer::InTransaction<'_>, postgres::InTransaction<'_>> {
        match &mut self.inner {
            Backend::Sqlite(transaction) => Backend::Sqlite(transaction.connection()),
            Backend::Postgres(transaction) => Backend::Postgres(transaction.connection()),
        }
    }

    /// The connection to run many statements on, without deadlines.
    pub(crate) async fn patient_connection(&mut self) -> Result<Backend<&mut SqliteConnection, &mut PgConnection>> {
        Ok(match &mut self.inner {
            Backend::Sqlite(transaction) => Backend::Sqlite(transaction.begun_connection().await?),
            Backend::Postgres(transaction) => Backend::Postgres(transaction.patient_connection()),
        })
    }

    /// Takes as long as it takes from here on.
    pub(crate) async fn be_patient(&mut self) -> Result<()> {
        match &mut self.inner {
            Backend::Sqlite(_) => Ok(()),
            Backend::Postgres(transaction) => Ok(transaction.be_patient().await?),
        }
    }

    /// Runs the last statements before the commit; to SQLite they go together with it.
    pub(crate) async fn run_last(&mut self, script: Script) -> Result<()> {
        match &mut self.inner {
            Backend::Sqlite(transaction) => transaction.leave_to_commit(script),
            Backend::Postgres(_) => script.run(self).await?,
        }
        Ok(())
    }

    /// Has something done once it may be true: a cache must not keep what it changes. That is done even if whoever
    /// commits stops waiting in the midst of it.
    pub(crate) fn afterwards(&mut self, forget: impl FnOnce() + Send + 'static) {
        self.afterwards.push(Box::new(forget));
    }

    /// It changes what access tokens stand for, given by their hashes.
    pub(crate) fn revokes(&mut self, tokens: Vec<Vec<u8>>) {
        let cache = Arc::clone(&self.tokens);
        self.afterwards(move || cache.forget(&tokens));
    }

    /// It changes what keys a device has to hand out.
    pub(crate) fn changes_key_counts(&mut self, user_id: &str, device_id: &str) {
        let (cache, device) = (Arc::clone(&self.key_counts), (user_id.to_owned(), device_id.to_owned()));
        self.afterwards(move || cache.forget([&device]));
    }

    /// Makes it true. After a failure of the disk nothing is written any more.
    pub(crate) async fn commit(mut self) -> Result<()> {
        let afterwards = std::mem::take(&mut self.afterwards);
        if afterwards.is_empty() {
            return self.commit_inner().await;
        }
        let committing = tokio::spawn(async move {
            let outcome = self.commit_inner().await;
            for forget in afterwards {
                forget();
            }
            outcome
        });
        committing.await.map_err(|_| StorageError::Closed)?
    }

    async fn commit_inner(self) -> Result<()> {
        let outcome = db!(self.inner, |transaction| transaction.commit().await).map_err(StorageError::from);
        if outcome.as_ref().is_err_and(|error| error.failure() == Failure::Disk) {
            self.read_only.store(true, Ordering::Release);
        }
        outcome
    }
}

async fn open_sqlite(options: &Options, tables: Tables) -> Result<SqliteConnections, OpenError> {
    let in_memory = options.url.contains(":memory:");
    let parsed = SqliteConnectOptions::from_str(&options.url).map_err(|error| url_error(options, &error))?;
    let (synchronous, expected) = match options.durability {
        Durability::Full => (SqliteSynchronous::Full, 2),
        Durability::Relaxed => (SqliteSynchronous::Normal, 1),
    };
    let common = parsed.disable_statement_logging().busy_timeout(BUSY_TIMEOUT).pragma("temp_store", "MEMORY");
    let writer = common
        .clone()
        .create_if_missing(true)
        .journal_mode(if in_memory { SqliteJournalMode::Memory } else { SqliteJournalMode::Wal })
        .synchronous(synchronous)
        .statement_cache_capacity(WRITER_STATEMENTS)
        .pragma("cache_size", WRITER_CACHE)
        .pragma("mmap_size", MMAP_SIZE)
        .pragma("journal_size_limit", JOURNAL_SIZE_LIMIT)
        // What is redacted is to be gone from the file as well.
        .pragma("secure_delete", "FAST");
    if !in_memory {
        refuse_remnants(writer.get_filename())?;
    }
    let mut connection = writer.connect().await.map_err(OpenError::Connect)?;
    // The tables are made on one connection before any other is opened.
    match tables {
        Tables::BroughtUpToDate => migrator(SQLITE).run(&mut connection).await.map_err(OpenError::Migrate)?,
        Tables::LeftAlone => {
            check_version(sqlx::query_scalar(NEWEST).fetch_one(&mut connection).await, SQLITE)?;
        }
    }
    check_sqlite(&mut connection, expected).await?;
    let write = Writer::new(connection, (!in_memory).then(|| writer.create_if_missing(false)));
    if in_memory {
        return Ok(SqliteConnections { read: Readers::Memory(write.clone()), write });
    }
    let reader = common.read_only(true).pragma("cache_size", READER_CACHE).pragma("mmap_size", MMAP_SIZE);
    let read = Readers::File(Box::new(FileReaders::new(reader, options.read_connections.max(1))));
    Ok(SqliteConnections { read, write })
}

/// A write-ahead log without its database means that the file was moved or deleted: an empty one in its place would
/// look like a server that has lost everything.
fn refuse_remnants(path: &Path) -> Result<(), OpenError> {
    if path.exists() {
        return Ok(());
    }
    for suffix in ["-wal", "-shm", "-journal"] {
        let mut remnant = path.as_os_str().to_owned();
        remnant.push(suffix);
        if Path::new(&remnant).exists() {
            let (path, remnant) = (path.display().to_string(), remnant.to_string_lossy().into_owned());
            return Err(OpenError::MissingDatabase { path, remnant });
        }
    }
    Ok(())
}

async fn check_sqlite(connection: &mut SqliteConnection, expected: i64) -> Result<(), OpenError> {
    let value = sqlx::query_scalar("PRAGMA synchronous").fetch_one(connection).await;
    let value: i64 = value.map_err(OpenError::Connect)?;
    if value == expected {
        return Ok(());
    }
    let expected = if expected == 2 { "2 (FULL)" } else { "1 (NORMAL)" };
    Err(OpenError::Durability { setting: "PRAGMA synchronous", value: value.to_string(), expected })
}

async fn open_postgres(options: &Options, tables: Tables) -> Result<PostgresPool, OpenError> {
    let parsed = PgConnectOptions::from_str(&options.url).map_err(|error| url_error(options, &error))?;
    let connect =
        parsed.disable_statement_logging().application_name("nudge").statement_cache_capacity(WRITER_STATEMENTS);
    let durability = match options.durability {
        Durability::Full => "SET synchronous_commit TO on",
        Durability::Relaxed => "SET synchronous_commit TO off",
    };
    let pool = PostgresPool::new(connect, durability, options.read_connections.max(1) + POSTGRES_WRITERS);
    match tables {
        Tables::BroughtUpToDate => {
            // Large tables take long to change.
            let mut patient = pool.connect().await.map_err(OpenError::Connect)?;
            migrator(POSTGRES).run(&mut patient).await.map_err(OpenError::Migrate)?;
            patient.close().await.map_err(OpenError::Connect)?;
        }
        Tables::LeftAlone => {
            check_version(sqlx::query_scalar(NEWEST).fetch_one(&pool).await, POSTGRES)?;
        }
    }
    if options.durability == Durability::Full {
        check_postgres(&pool).await?;
    }
    Ok(pool)
}

async fn check_postgres(pool: &PostgresPool) -> Result<(), OpenError> {
    for (setting, show) in [("fsync", "SHOW fsync"), ("synchronous_commit", "SHOW synchronous_commit")] {
        let value: String = sqlx::query_scalar(show).fetch_one(pool).await.map_err(OpenError::Connect)?;
        if value != "on" {
            return Err(OpenError::Durability { setting, value, expected: "on" });
        }
    }
    Ok(())
}

/// What is wrong with the URL; the password in it is nobody's business.
fn url_error(options: &Options, reason: &dyn fmt::Display) -> OpenError {
    let url = match (options.url.find("//"), options.url.rfind('@')) {
        (Some(start), Some(end)) if start + 2 < end => {
            format!("{}...{}", &options.url[..start + 2], &options.url[end..])
        }
        _ => options.url.clone(),
    };
    OpenError::Url { url, reason: reason.to_string() }
}
