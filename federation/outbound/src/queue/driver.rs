//! The loop around single attempts: who is to be sent to, when, and how many at a time.
//!
//! A server costs a task only while it is being sent to. One that waits for its next attempt costs an entry in a map.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    pin::pin,
    sync::PoisonError,
    time::Duration,
};

use rules::change::Position;
use ruma::OwnedServerName;
use storage::StorageError;
use tokio::{task::JoinSet, time::sleep};

use super::{FlushOutcome, Sender, Wake};
use crate::gauge_value;

/// Log entries read at once.
const LOG_BATCH: usize = 500;
/// Transactions that a worker sends before others have their turn.
const TURN_TRANSACTIONS: usize = 20;
/// From when on a worker is slow: most likely the other server is gone, which is found out only after many seconds.
const SLOW_MS: u64 = 3_000;
/// How many workers there are at most with the slow ones, as a multiple of those that are not: where many servers go at
/// once, those that are left do not wait until all of these have been given up.
pub(super) const WITH_SLOW_FACTOR: usize = 3;
/// How long to wait after storage has failed, or a worker has panicked, which are none of the other server's doing.
const TROUBLE_PAUSE: Duration = Duration::from_secs(5);
/// The longest sleep, so that a clock that was set back does not make us sleep for hours.
const SLEEP_MAX: Duration = Duration::from_mins(1);

pub(super) async fn run(sender: &Sender, shutdown: impl Future<Output = ()> + Send) {
    let mut shutdown = pin!(shutdown);
    tokio::select! {
        () = &mut shutdown => {}
        () = drive(sender) => {}
    }
}

async fn drive(sender: &Sender) {
    let mut driver = Driver::new(sender.clone());
    let mut head = sender.inner.federation.storage().subscribe();
    while let Err(error) = driver.start().await {
        tracing::error!(%error, "cannot find out which servers are behind; trying again");
        sleep(TROUBLE_PAUSE).await;
    }
    loop {
        driver.hear();
        driver.due();
        driver.spawn();
        let pause = driver.pause();
        tokio::select! {
            changed = head.changed() => match changed {
                Ok(()) => driver.follow().await,
                // The storage is gone, and with it everything there is to do.
                Err(_) => return,
            },
            () = sender.inner.wake.notified() => {}
            Some(ended) = driver.workers.join_next() => match ended {
                Ok((server, end)) => driver.ended(server, end),
                Err(error) => tracing::error!(%error, "a worker of the sender was lost"),
            },
            () = sleep(pause) => {}
        }
    }
}

struct Driver {
    sender: Sender,
    /// Up to where the log has been read.
    position: Position,
    workers: JoinSet<(OwnedServerName, End)>,
    /// The servers that have a worker, and whether there is news for them since it began.
    active: HashMap<OwnedServerName, Active>,
    /// The servers whose turn comes next, and the same for those that were failing.
    ready: VecDeque<OwnedServerName>,
    ready_after_failure: VecDeque<OwnedServerName>,
    queued: HashSet<OwnedServerName>,
    /// The servers that wait, by when to try again.
    waiting: BTreeMap<OwnedServerName, u64>,
    due: BTreeSet<(u64, OwnedServerName)>,
}

struct Active {
    news: bool,
    after_failure: bool,
    since_ms: u64,
}

impl Active {
    fn slow_at_ms(&self) -> u64 {
        self.since_ms.saturating_add(SLOW_MS)
    }
}

/// How a worker ended.
#[derive(Clone, Copy)]
enum End {
    /// Nothing is left.
    Idle,
    /// There is more, but others want their turn.
    Turn,
    /// To be tried again at this time.
    Wait(u64),
}

impl Driver {
    fn new(sender: Sender) -> Self {
        Self {
            sender,
            position: 0,
            workers: JoinSet::new(),
            active: HashMap::new(),
            ready: VecDeque::new(),
            ready_after_failure: VecDeque::new(),
            queued: HashSet::new(),
            waiting: BTreeMap::new(),
            due: BTreeSet::new(),
        }
    }

    /// Takes up what was left when the server stopped.
    async fn start(&mut self) -> Result<(), StorageError> {
        let storage = self.sender.inner.federation.storage().clone();
        // The head comes first: what is committed meanwhile is then seen twice rather than never.
        let head = storage.head();
        let now_ms = self.sender.now_ms();
        for destination in storage.destinations().await? {
            // What was failing is in no other's way, even if it might be tried again by now.
            if let Some(retry_at_ms) = destination.retry_at_ts {
                if retry_at_ms > now_ms {
                    self.sender.inner.failing.insert(&destination.server);
                }
                self.wait(destination.server, retry_at_ms);
            }
        }
        for server in self.sender.pending().await? {
            self.wake(server, Wake::News);
        }
        self.position = head;
        Ok(())
    }

    /// Reads the log on to its end and wakes the servers that are to be sent something.
    async fn follow(&mut self) {
        loop {
            match self.follow_batch().await {
                Ok(LOG_BATCH) => {}
                Ok(_) => return,
                Err(error) => {
                    tracing::error!(%error, "cannot read the log; trying again");
                    sleep(TROUBLE_PAUSE).await;
                }
            }
        }
    }

    async fn follow_batch(&mut self) -> Result<usize, StorageError> {
        let storage = self.sender.inner.federation.storage().clone();
        let entries = storage.log_since(self.position, LOG_BATCH).await?;
        for entry in &entries {
            let servers = match (entry.outbound, &entry.room_id) {
                (false, _) => Vec::new(),
                (true, Some(room_id)) => storage.recipients_at(room_id, entry.position).await?,
                (true, None) => storage.recipients_without_room_at(entry.position).await?,
            };
            for server in servers {
                self.wake(server, Wake::News);
            }
            self.position = entry.position;
        }
        Ok(entries.len())
    }

    /// Takes over who was woken from outside.
    fn hear(&mut self) {
        let woken = std::mem::take(&mut *self.sender.inner.woken.lock().unwrap_or_else(PoisonError::into_inner));
        for (server, reason) in woken {
            self.wake(server, reason);
        }
    }

    fn wake(&mut self, server: OwnedServerName, reason: Wake) {
        if self.sender.is_ourselves(&server) {
            return;
        }
        if let Some(active) = self.active.get_mut(&server) {
            active.news = true;
        } else if let Some(retry_at_ms) = self.waiting.get(&server).copied() {
            if reason == Wake::Contact {
                self.waiting.remove(&server);
                self.due.remove(&(retry_at_ms, server.clone()));
                self.queue(server, true);
            }
        } else {
            self.queue(server, false);
        }
    }

    fn queue(&mut self, server: OwnedServerName, after_failure: bool) {
        if self.queued.insert(server.clone()) {
            let ready = if after_failure { &mut self.ready_after_failure } else { &mut self.ready };
            ready.push_back(server);
        }
    }

    fn wait(&mut self, server: OwnedServerName, until_ms: u64) {
        self.due.insert((until_ms, server.clone()));
        self.waiting.insert(server, until_ms);
    }

    /// Queues the servers whose time has come.
    fn due(&mut self) {
        let now_ms = self.sender.now_ms();
        while self.due.first().is_some_and(|(at_ms, _)| *at_ms <= now_ms) {
            if let Some((_, server)) = self.due.pop_first() {
                self.waiting.remove(&server);
                self.queue(server, true);
            }
        }
    }

    /// Starts workers as far as there is room.
    fn spawn(&mut self) {
        let most = self.sender.inner.options.workers_max.max(1);
        let most_after_failure = (most / 4).max(1);
        let now_ms = self.sender.now_ms();
        let mut after_failure = self.active.values().filter(|active| active.after_failure).count();
        let mut quick = self.active.values().filter(|active| active.slow_at_ms() > now_ms).count();
        while quick < most && self.active.len() < most.saturating_mul(WITH_SLOW_FACTOR) {
            let next = if after_failure < most_after_failure { self.ready_after_failure.pop_front() } else { None };
            let is_after_failure = next.is_some();
            let Some(server) = next.or_else(|| self.ready.pop_front()) else { break };
            after_failure += usize::from(is_after_failure);
            quick += 1;
            self.queued.remove(&server);
            let active = Active { news: false, after_failure: is_after_failure, since_ms: now_ms };
            self.active.insert(server.clone(), active);
            self.workers.spawn(work(self.sender.clone(), server));
        }
        metrics::gauge!("federation_queue_active").set(gauge_value(self.active.len() as u64));
    }

    fn ended(&mut self, server: OwnedServerName, end: End) {
        let news = self.active.remove(&server).is_some_and(|active| active.news);
        match end {
            End::Idle if !news => {}
            End::Idle | End::Turn => self.queue(server, false),
            End::Wait(until_ms) => self.wait(server, until_ms),
        }
    }

    /// How long nothing is due.
    fn pause(&self) -> Duration {
        let now_ms = self.sender.now_ms();
        let until = |(at_ms, _): &(u64, OwnedServerName)| Duration::from_millis(at_ms.saturating_sub(now_ms));
        let due = self.due.first().map_or(SLEEP_MAX, until);
        // Those whose turn it is get it when others turn out to be slow.
        let slow_at_ms = self.active.values().map(Active::slow_at_ms).filter(|at_ms| *at_ms > now_ms).min();
        let turn = slow_at_ms.filter(|_| !self.ready.is_empty()).map(|at_ms| Duration::from_millis(at_ms - now_ms));
        due.min(turn.unwrap_or(SLEEP_MAX)).min(SLEEP_MAX)
    }
}

async fn work(sender: Sender, server: OwnedServerName) -> (OwnedServerName, End) {
    let tasks = sender.inner.federation.storage().tasks();
    let end = tasks.attempt("sender", turn(&sender, &server)).await;
    let trouble = || End::Wait(sender.now_ms().saturating_add(TROUBLE_PAUSE.as_millis() as u64));
    let end = match end {
        Some(Ok(end)) => end,
        Some(Err(error)) => {
            tracing::error!(%server, %error, "the queue of a server cannot be read or written");
            trouble()
        }
        None => {
            tracing::error!(%server, "sending to a server has panicked");
            trouble()
        }
    };
    (server, end)
}

/// Sends one transaction after the other.
async fn turn(sender: &Sender, server: &OwnedServerName) -> Result<End, StorageError> {
    for _ in 0..TURN_TRANSACTIONS {
        match sender.flush(server).await? {
            FlushOutcome::Idle | FlushOutcome::Sent { more: false } => return Ok(End::Idle),
            FlushOutcome::BackingOff { until_ms } => return Ok(End::Wait(until_ms)),
            // After a failure, the next attempt says how long to wait, if at all.
            FlushOutcome::Sent { more: true } | FlushOutcome::Failed => {}
        }
    }
    Ok(End::Turn)
}
