//! The loop around single attempts: who is to be told, when, and how many at a time.
//!
//! A pusher costs a task only while it is told something. What came of the attempts of a moment is written at once.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    panic::AssertUnwindSafe,
    pin::pin,
    time::Duration,
};

use futures_util::FutureExt;
use rules::change::Position;
use ruma::OwnedUserId;
use storage::{ConcernedPusher, PusherKey, PusherQueue};
use tokio::{task::JoinSet, time::sleep};

use super::{Attempt, LOG_BATCH, Next};
use crate::{Engine, Result};

/// How many pushers are told something at the same time.
const WORKERS_MAX: usize = 256;
/// How many of these may lead to one host, so that one that is slow leaves room for the others.
const WORKERS_PER_HOST_MAX: usize = 32;
/// How many of these may be one user's, who names the gateways: many that are slow leave room for other users.
const WORKERS_PER_USER_MAX: usize = 4;
/// How long to wait after storage has failed, or a worker has panicked, which are none of the gateway's doing.
const TROUBLE_PAUSE: Duration = Duration::from_secs(5);
/// The longest sleep, so that a clock that was set back does not make us sleep for hours.
const SLEEP_MAX: Duration = Duration::from_mins(1);
/// After how much of the log it is noted up to where it was read: after a crash no more than this is looked at again.
const READ_NOTED_EVERY: Position = 1_000;

pub(super) async fn run(engine: &Engine, shutdown: impl Future<Output = ()> + Send) {
    let mut shutdown = pin!(shutdown);
    tokio::select! {
        () = &mut shutdown => {}
        () = drive(engine) => {}
    }
}

async fn drive(engine: &Engine) {
    let mut head = engine.storage().subscribe();
    let mut driver = Driver::new(engine.clone());
    while let Err(error) = driver.start().await {
        tracing::error!(%error, "cannot find out which pushers wait; trying again");
        sleep(TROUBLE_PAUSE).await;
    }
    // What came between the last stop and now.
    driver.follow().await;
    loop {
        driver.save().await;
        driver.hear();
        driver.due();
        driver.spawn();
        driver.note_read().await;
        let pause = driver.pause();
        tokio::select! {
            changed = head.changed() => match changed {
                Ok(()) => driver.follow().await,
                // The storage is gone, and with it everything there is to do.
                Err(_) => return,
            },
            () = engine.inner.push.delivery.wake.notified() => {}
            Some(ended) = driver.workers.join_next() => driver.collect(ended).await,
            () = sleep(pause) => {}
        }
    }
}

/// A worker's pusher, and how it went; nothing if that was none of the gateway's doing.
type Ended = (ConcernedPusher, Option<Attempt>);

/// What has a bound of its own for how many workers there may be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Host(String),
    User(OwnedUserId),
}

impl Lane {
    /// The lanes that a worker of a pusher takes up. A host is one however many ports are named.
    fn of(pusher: &ConcernedPusher) -> [Self; 2] {
        let host = pusher.gateway.rsplit_once(':').map_or(&*pusher.gateway, |(host, _)| host);
        [Self::Host(host.to_owned()), Self::User(pusher.key.user_id.clone())]
    }

    fn workers_max(&self) -> usize {
        match self {
            Self::Host(_) => WORKERS_PER_HOST_MAX,
            Self::User(_) => WORKERS_PER_USER_MAX,
        }
    }
}

struct Driver {
    engine: Engine,
    /// Up to where the log has been read, and up to where that has been noted.
    position: Position,
    noted: Position,
    workers: JoinSet<Ended>,
    /// The pushers that have a worker, and whether there is news for them since it began.
    active: BTreeMap<PusherKey, bool>,
    active_in: BTreeMap<Lane, usize>,
    /// What came of attempts and could not be written down yet. Their pushers count as active still.
    unsaved: Vec<Ended>,
    /// The pushers whose turn comes next, and those that wait for room in a lane: there are some only while it is full,
    /// or while one of them is among those whose turn comes next.
    ready: VecDeque<ConcernedPusher>,
    parked: BTreeMap<Lane, VecDeque<ConcernedPusher>>,
    queued: BTreeSet<PusherKey>,
    /// The pushers that wait, by when to try again.
    waiting: BTreeMap<PusherKey, (u64, String)>,
    due: BTreeSet<(u64, PusherKey)>,
    /// Those of whom storage does not know that they wait.
    troubled: BTreeSet<PusherKey>,
}

impl Driver {
    fn new(engine: Engine) -> Self {
        Self {
            engine,
            position: 0,
            noted: 0,
            workers: JoinSet::new(),
            active: BTreeMap::new(),
            active_in: BTreeMap::new(),
            unsaved: Vec::new(),
            ready: VecDeque::new(),
            parked: BTreeMap::new(),
            queued: BTreeSet::new(),
            waiting: BTreeMap::new(),
            due: BTreeSet::new(),
            troubled: BTreeSet::new(),
        }
    }

    /// Takes up what was left when the server stopped.
    async fn start(&mut self) -> Result<()> {
        let storage = self.engine.storage().clone();
        self.position = storage.pushers_read().await?;
        self.noted = self.position;
        for pusher in storage.waiting_pushers().await? {
            let until_ms = pusher.retry_at_ts.unwrap_or(0);
            self.wait(pusher.key, pusher.gateway, until_ms);
        }
        Ok(())
    }

    /// Reads the log on to its end and queues the pushers that may be told something.
    async fn follow(&mut self) {
        let storage = self.engine.storage().clone();
        while self.position < storage.head() {
            self.position = storage.past_gap(self.position);
            let until = storage.head().min(self.position + LOG_BATCH);
            match storage.concerned_pushers(self.position, until).await {
                Ok(pushers) => {
                    for pusher in pushers {
                        self.wake(pusher);
                    }
                    self.position = until;
                }
                Err(error) => {
                    tracing::error!(%error, "cannot read the log for pushers; trying again");
                    sleep(TROUBLE_PAUSE).await;
                }
            }
        }
    }

    /// Takes over the pushers that were set: they are tried at once.
    fn hear(&mut self) {
        let woken = std::mem::take(&mut *self.engine.inner.push.delivery.woken());
        for pusher in woken.into_values() {
            if let Some((until_ms, _)) = self.waiting.remove(&pusher.key) {
                self.due.remove(&(until_ms, pusher.key.clone()));
            }
            self.wake(pusher);
        }
    }

    fn wake(&mut self, pusher: ConcernedPusher) {
        if let Some(news) = self.active.get_mut(&pusher.key) {
            *news = true;
        } else if !self.waiting.contains_key(&pusher.key) && self.queued.insert(pusher.key.clone()) {
            self.ready.push_back(pusher);
        }
    }

    fn wait(&mut self, key: PusherKey, gateway: String, until_ms: u64) {
        self.due.insert((until_ms, key.clone()));
        self.waiting.insert(key, (until_ms, gateway));
    }

    /// Queues the pushers whose time has come.
    fn due(&mut self) {
        let now_ms = self.engine.world().clock.now_ms();
        while self.due.first().is_some_and(|(at_ms, _)| *at_ms <= now_ms) {
            let Some((_, key)) = self.due.pop_first() else { return };
            if let Some((_, gateway)) = self.waiting.remove(&key) {
                self.wake(ConcernedPusher { key, gateway, retry_at_ts: None });
            }
        }
    }

    /// Starts workers as far as there is room. While something could not be written down none: what they tell could not
    /// be either, and would be told again without end.
    fn spawn(&mut self) {
        while self.unsaved.is_empty() && self.active.len() < WORKERS_MAX {
            let Some(pusher) = self.ready.pop_front() else { break };
            let lanes = Lane::of(&pusher);
            if let Some(full) = lanes.iter().find(|lane| !self.has_room(lane)) {
                self.parked.entry(full.clone()).or_default().push_back(pusher);
                // It leaves its turn in the other lane to the next there.
                for lane in &lanes {
                    self.unpark(lane);
                }
                continue;
            }
            for lane in lanes {
                *self.active_in.entry(lane).or_default() += 1;
            }
            self.queued.remove(&pusher.key);
            self.active.insert(pusher.key.clone(), false);
            self.workers.spawn(work(self.engine.clone(), pusher));
        }
        let count = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        metrics::gauge!("push_active").set(count(self.active.len()));
        metrics::gauge!("push_queued").set(count(self.queued.len()));
        metrics::gauge!("push_waiting").set(count(self.waiting.len()));
    }

    /// Writes down what came of this worker and of all others that have ended meanwhile, then lets their pushers go on.
    async fn collect(&mut self, first: std::result::Result<Ended, tokio::task::JoinError>) {
        let mut next = Some(first);
        while let Some(outcome) = next {
            match outcome {
                Ok(outcome) => self.unsaved.push(outcome),
                Err(error) => tracing::error!(%error, "a worker that tells pushers was lost"),
            }
            next = self.workers.try_join_next();
        }
        self.save().await;
    }

    /// Writes down what came of attempts. What cannot be written is kept, and tried again before anybody is told more.
    async fn save(&mut self) {
        let queues: Vec<PusherQueue> =
            self.unsaved.iter().filter_map(|(_, attempt)| attempt.as_ref()?.queue.clone()).collect();
        if !queues.is_empty()
            && let Err(error) = self.engine.storage().save_pusher_queues(&queues).await
        {
            tracing::error!(%error, "cannot note how far pushers have got; telling nobody until that works");
            return;
        }
        for (pusher, attempt) in std::mem::take(&mut self.unsaved) {
            self.ended(pusher, attempt.map(|attempt| attempt.next));
        }
    }

    fn ended(&mut self, pusher: ConcernedPusher, next: Option<Next>) {
        let news = self.active.remove(&pusher.key).unwrap_or(false);
        self.make_room(&Lane::of(&pusher));
        self.troubled.remove(&pusher.key);
        match next {
            Some(Next::Idle) if !news => {}
            Some(Next::Idle | Next::More) => self.wake(pusher),
            Some(Next::Wait(until_ms)) => self.wait(pusher.key, pusher.gateway, until_ms),
            None => {
                let pause_ms = u64::try_from(TROUBLE_PAUSE.as_millis()).unwrap_or(u64::MAX);
                let until_ms = self.engine.world().clock.now_ms().saturating_add(pause_ms);
                self.troubled.insert(pusher.key.clone());
                self.wait(pusher.key, pusher.gateway, until_ms);
            }
        }
    }

    fn has_room(&self, lane: &Lane) -> bool {
        self.active_in.get(lane).is_none_or(|count| *count < lane.workers_max())
    }

    /// One worker less in these lanes.
    fn make_room(&mut self, lanes: &[Lane]) {
        for lane in lanes {
            if let Some(count) = self.active_in.get_mut(lane) {
                *count -= 1;
                if *count == 0 {
                    self.active_in.remove(lane);
                }
            }
            self.unpark(lane);
        }
    }

    /// The next of those who wait for a lane comes first, if there is room.
    fn unpark(&mut self, lane: &Lane) {
        if !self.has_room(lane) {
            return;
        }
        let Some(parked) = self.parked.get_mut(lane) else { return };
        let next = parked.pop_front();
        if parked.is_empty() {
            self.parked.remove(lane);
        }
        if let Some(pusher) = next {
            self.ready.push_front(pusher);
        }
    }

    /// Notes up to where the log was read, when all that follows from it is delivered or written down.
    async fn note_read(&mut self) {
        let is_settled = self.active.is_empty() && self.queued.is_empty() && self.troubled.is_empty();
        if !is_settled || self.position < self.noted + READ_NOTED_EVERY {
            return;
        }
        match self.engine.storage().save_pushers_read(self.position).await {
            Ok(()) => self.noted = self.position,
            Err(error) => tracing::warn!(%error, "cannot note up to where the log was read for pushers"),
        }
    }

    /// How long nothing is due.
    fn pause(&self) -> Duration {
        let now_ms = self.engine.world().clock.now_ms();
        let until = |(at_ms, _): &(u64, PusherKey)| Duration::from_millis(at_ms.saturating_sub(now_ms));
        let longest = if self.unsaved.is_empty() { SLEEP_MAX } else { TROUBLE_PAUSE };
        self.due.first().map_or(longest, until).min(longest)
    }
}

async fn work(engine: Engine, pusher: ConcernedPusher) -> Ended {
    match AssertUnwindSafe(engine.attempt(&pusher.key)).catch_unwind().await {
        Ok(Ok(attempt)) => (pusher, Some(attempt)),
        Ok(Err(error)) => {
            tracing::error!(user.id = %pusher.key.user_id, %error, "what is due to a pusher cannot be read");
            (pusher, None)
        }
        Err(_) => {
            tracing::error!(user.id = %pusher.key.user_id, "telling a pusher has panicked");
            (pusher, None)
        }
    }
}
