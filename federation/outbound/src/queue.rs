//! Delivering transactions: one queue per server, which is nothing but a cursor into the log.
//!
//! Nobody calls this to have an event sent. A server's queue is what the log holds for it after its cursor, so that a
//! crash delays a delivery and never loses one. Only what is worth nothing later (typing) lives in memory.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#transactions>

mod driver;
mod ephemeral;
mod failing;
mod flush;
mod isolation;
mod transaction;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use ruma::{OwnedServerName, ServerName};
use serde_json::value::RawValue;
use storage::StorageError;
use tokio::sync::Notify;

use self::{ephemeral::Ephemeral, failing::Failing, isolation::Isolation};
use crate::Federation;

/// How patient the sender is.
#[derive(Clone, Copy, Debug)]
pub struct SenderOptions {
    /// How long to wait after the first failure; doubles with each further one.
    pub backoff_base_ms: u64,
    /// The longest wait.
    pub backoff_max_ms: u64,
    /// How many destinations are sent to at the same time, not counting as many again, and again, that take long. A quarter
    /// of them may be ones that were failing.
    pub workers_max: usize,
    /// Whether other servers are told the names of our users' devices.
    pub device_names: bool,
}

impl Default for SenderOptions {
    fn default() -> Self {
        // A restart of the other server is over within seconds; one that is gone costs a connection attempt an hour.
        Self { backoff_base_ms: 2_000, backoff_max_ms: 3_600_000, workers_max: 256, device_names: false }
    }
}

/// However few connections there may be: fewer workers would hardly get anywhere.
const WORKERS_MIN: usize = 8;

impl SenderOptions {
    /// The same, with so few workers that they and the slow ones leave some of so many connections to other calls.
    #[must_use]
    pub fn within(self, connections_max: usize) -> Self {
        let most = connections_max / (driver::WITH_SLOW_FACTOR + 1);
        Self { workers_max: self.workers_max.min(most.max(WORKERS_MIN)), ..self }
    }
}

/// An ephemeral message as it stands in a transaction.
#[derive(Clone, Debug)]
pub struct EduJson {
    /// Such as `m.typing`.
    pub edu_type: String,
    /// The content.
    pub content: Box<RawValue>,
}

/// What became of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushOutcome {
    /// A transaction was delivered.
    Sent {
        /// Whether something is left to be sent.
        more: bool,
    },
    /// There is nothing to send.
    Idle,
    /// It is too early to try again.
    BackingOff {
        /// When to try again, in milliseconds since the epoch.
        until_ms: u64,
    },
    /// The attempt failed. The next one says whether it is too early; after a refusal of what was sent it is not, and
    /// sends less.
    Failed,
}

/// Delivers what the log has for other servers. Cloning shares it.
#[derive(Clone)]
pub struct Sender {
    inner: Arc<Inner>,
}

struct Inner {
    federation: Federation,
    options: SenderOptions,
    /// One per server that is being sent to or whose queue is being searched for what it refuses.
    lanes: Mutex<HashMap<OwnedServerName, Arc<Lane>>>,
    failing: Failing,
    ephemeral: Ephemeral,
    woken: Mutex<BTreeMap<OwnedServerName, Wake>>,
    wake: Notify,
}

/// What there is about a server while it is being sent to.
#[derive(Default)]
struct Lane {
    /// Held during an attempt, so that one transaction at a time is on its way.
    attempt: tokio::sync::Mutex<Isolation>,
    /// Whether the server has made a request since the attempt began.
    contacted: AtomicBool,
}

/// Why a server is to be sent to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wake {
    /// There is something new; not before its time, if it is failing.
    News,
    /// It has come back.
    Contact,
}

impl Sender {
    /// Starts nothing; see [`Sender::run`].
    pub fn new(federation: Federation, options: SenderOptions) -> Self {
        let inner = Inner {
            federation,
            options,
            lanes: Mutex::default(),
            failing: Failing::default(),
            ephemeral: Ephemeral::default(),
            woken: Mutex::default(),
            wake: Notify::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Follows the log and delivers until `shutdown` is done. What is in flight then is sent again after the restart,
    /// under the same transaction id.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        driver::run(&self, shutdown).await;
    }

    /// Makes exactly one attempt to send one transaction to a server.
    pub async fn flush(&self, destination: &ServerName) -> Result<FlushOutcome, StorageError> {
        let lane = Arc::clone(self.lanes().entry(destination.to_owned()).or_default());
        let outcome = self.attempt_in(destination, &lane).await;
        self.release(destination, &lane);
        outcome
    }

    async fn attempt_in(&self, destination: &ServerName, lane: &Lane) -> Result<FlushOutcome, StorageError> {
        let mut isolation = lane.attempt.lock().await;
        lane.contacted.store(false, Ordering::Relaxed);
        let outcome = self.attempt(destination, &mut isolation).await?;
        // It has come back while it was still being taken for dead.
        if outcome == FlushOutcome::Failed && lane.contacted.load(Ordering::Relaxed) {
            self.inner.failing.remove(destination);
            self.forget_backoff(destination).await?;
        }
        Ok(outcome)
    }

    /// The servers that something is waiting for.
    pub async fn pending(&self) -> Result<Vec<OwnedServerName>, StorageError> {
        let behind = self.inner.federation.storage().destinations_behind().await?;
        let all: BTreeSet<_> = behind.into_iter().chain(self.inner.ephemeral.destinations()).collect();
        Ok(all.into_iter().filter(|server| !self.is_ourselves(server)).collect())
    }

    /// Hears that a server has made an authenticated request: if we were waiting to try it again, now is the time.
    pub async fn contact(&self, server: &ServerName) {
        let is_failing = self.inner.failing.contains(server);
        let lane = {
            let mut lanes = self.lanes();
            match lanes.get(server) {
                Some(lane) => Arc::clone(lane),
                None if is_failing => Arc::clone(lanes.entry(server.to_owned()).or_default()),
                None => return,
            }
        };
        // An attempt that is under way looks at this when it has failed.
        lane.contacted.store(true, Ordering::Relaxed);
        if is_failing && let Ok(_attempt) = lane.attempt.try_lock() {
            self.inner.failing.remove(server);
            if let Err(error) = self.forget_backoff(server).await {
                tracing::error!(%server, %error, "cannot note that a server has come back");
            }
            self.wake(server.to_owned(), Wake::Contact);
        }
        self.release(server, &lane);
    }

    /// Whether we wait to try a server again.
    pub fn is_failing(&self, server: &ServerName) -> bool {
        self.inner.failing.contains(server)
    }

    /// Sends something that is worth nothing later, at most once. A later one with the same key replaces it.
    pub fn queue_ephemeral(&self, servers: Vec<OwnedServerName>, key: String, edu: EduJson) {
        let (key, edu) = (Arc::from(key), Arc::new(edu));
        for server in servers {
            if !self.is_ourselves(&server) && !self.inner.failing.contains(&server) {
                self.inner.ephemeral.put(&server, Arc::clone(&key), Arc::clone(&edu));
                self.wake(server, Wake::News);
            }
        }
    }

    async fn forget_backoff(&self, server: &ServerName) -> Result<(), StorageError> {
        let storage = self.inner.federation.storage();
        let mut destination = storage.destination(server).await?;
        if destination.retry_at_ts.take().is_some() {
            storage.save_destination(&destination).await?;
        }
        Ok(())
    }

    fn wake(&self, server: OwnedServerName, reason: Wake) {
        let mut woken = self.inner.woken.lock().unwrap_or_else(PoisonError::into_inner);
        let known = woken.entry(server).or_insert(reason);
        *known = (*known).max(reason);
        drop(woken);
        self.inner.wake.notify_one();
    }

    fn is_ourselves(&self, server: &ServerName) -> bool {
        *server == *self.inner.federation.server_name()
    }

    fn lanes(&self) -> std::sync::MutexGuard<'_, HashMap<OwnedServerName, Arc<Lane>>> {
        self.inner.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops a lane that nobody else holds and that holds nothing to be remembered.
    fn release(&self, destination: &ServerName, lane: &Arc<Lane>) {
        let mut lanes = self.lanes();
        // One is in the map, and one is ours. Others are taken only while the map is locked.
        let unused = Arc::strong_count(lane) == 2 && lane.attempt.try_lock().is_ok_and(|isolation| isolation.is_over());
        if unused {
            lanes.remove(destination);
        }
    }
}
