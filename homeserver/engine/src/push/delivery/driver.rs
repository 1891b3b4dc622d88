//! The loop around single attempts: who is to be told, when, and how many at a time.
//!
//! A pusher costs a task only while it is told something. What came of the attempts of a moment is written at once.

mod lanes;
mod under_way;
mod waiting;

use std::{collections::BTreeMap, time::Duration};

use rules::change::Position;
use storage::{ConcernedPusher, PusherKey, PusherQueue};
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, sleep, timeout_at},
};

use self::{lanes::Lanes, under_way::UnderWay, waiting::Waiting};
use super::{Attempt, LOG_BATCH, Next};
use crate::{Engine, Result};

/// How long to wait after storage has failed, or a worker has panicked, which are none of the gateway's doing.
const TROUBLE_PAUSE: Duration = Duration::from_secs(5);
/// The longest sleep, so that a clock that was set back does not make us sleep for hours.
const SLEEP_MAX: Duration = Duration::from_mins(1);
/// After how much of the log it is noted up to where it was read: after a crash no more than this is looked at again, and
/// what came since the earliest that is still under way.
const READ_NOTED_EVERY: Position = 1_000;
/// For how long a stop waits for calls that are under way. Most gateways answer in less. What they were told otherwise is
/// told again after the start, with the same event id.
const STOP_MAX: Duration = Duration::from_millis(800);

pub(super) async fn run(engine: &Engine, shutdown: impl Future<Output = ()> + Send) {
    let mut driver = Driver::new(engine.clone());
    tokio::select! {
        () = shutdown => {}
        () = driver.drive() => {}
    }
    driver.stop().await;
}

/// A worker's pusher, and how it went; nothing if that was none of the gateway's doing.
type Ended = (ConcernedPusher, Option<Attempt>);

/// What came for a pusher while it has a worker.
#[derive(Clone, Copy, Default)]
struct News {
    /// From where on the log has something more for it.
    since: Option<Position>,
    /// Whether it was set again.
    is_set: bool,
}

struct Driver {
    engine: Engine,
    /// Up to where the log has been read, and up to where that has been noted.
    position: Position,
    noted: Position,
    workers: JoinSet<Ended>,
    /// The pushers that have a worker.
    active: BTreeMap<PusherKey, News>,
    /// What came of attempts and could not be written down yet. Their pushers count as active still.
    unsaved: Vec<Ended>,
    lanes: Lanes,
    waiting: Waiting,
    under_way: UnderWay,
}

impl Driver {
    fn new(engine: Engine) -> Self {
        Self {
            engine,
            position: 0,
            noted: 0,
            workers: JoinSet::new(),
            active: BTreeMap::new(),
            unsaved: Vec::new(),
            lanes: Lanes::default(),
            waiting: Waiting::default(),
            under_way: UnderWay::default(),
        }
    }

    /// Follows the log. It may be dropped wherever it waits.
    async fn drive(&mut self) {
        let mut head = self.engine.storage().subscribe();
        while let Err(error) = self.start().await {
            tracing::error!(%error, "cannot find out which pushers wait; trying again");
            sleep(TROUBLE_PAUSE).await;
        }
        // What came between the last stop and now.
        self.follow().await;
        let engine = self.engine.clone();
        loop {
            self.save().await;
            self.hear();
            self.due();
            self.spawn();
            self.note_read().await;
            let pause = self.pause();
            tokio::select! {
                changed = head.changed() => match changed {
                    Ok(()) => self.follow().await,
                    // The storage is gone, and with it everything there is to do.
                    Err(_) => return,
                },
                () = engine.inner.push.delivery.wake.notified() => {}
                Some(ended) = self.workers.join_next() => self.collect(ended).await,
                () = sleep(pause) => {}
            }
        }
    }

    /// Writes down what comes of calls that are under way, for a while; the others are given up.
    async fn stop(&mut self) {
        let until = Instant::now() + STOP_MAX;
        while let Ok(Some(ended)) = timeout_at(until, self.workers.join_next()).await {
            self.gather(ended);
        }
        let given_up = self.workers.len();
        self.workers.shutdown().await;
        self.save().await;
        if given_up > 0 {
            tracing::info!(given_up, "not waiting for push gateways; what they did not take is told after the start");
        }
    }

    /// Takes up what was left when the server stopped.
    async fn start(&mut self) -> Result<()> {
        let storage = self.engine.storage().clone();
        self.position = storage.pushers_read().await?;
        self.noted = self.position;
        for pusher in storage.waiting_pushers().await? {
            let until_ms = pusher.retry_at_ts.unwrap_or(0);
            self.waiting.put(pusher, until_ms);
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
                        self.wake(pusher, Some(self.position));
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
            if let Some(news) = self.active.get_mut(&pusher.key) {
                news.is_set = true;
                continue;
            }
            self.waiting.take(&pusher.key);
            self.wake(pusher, None);
        }
    }

    /// Queues a pusher that is to be tried, because of what the log has after `since`, or because its time has come.
    fn wake(&mut self, pusher: ConcernedPusher, since: Option<Position>) {
        if let Some(news) = self.active.get_mut(&pusher.key) {
            news.since = news.since.or(since);
        } else if !self.waiting.contains(&pusher.key) {
            if let Some(since) = since {
                self.under_way.begin(&pusher.key, since);
            }
            self.lanes.queue(pusher);
        }
    }

    /// Queues the pushers whose time has come.
    fn due(&mut self) {
        let now_ms = self.engine.world().clock.now_ms();
        while let Some(pusher) = self.waiting.pop_due(now_ms) {
            self.wake(pusher, None);
        }
    }

    /// Starts workers as far as there is room. While something could not be written down none: what they tell could not
    /// be either, and would be told again without end.
    fn spawn(&mut self) {
        while self.unsaved.is_empty()
            && let Some(pusher) = self.lanes.enter()
        {
            self.active.insert(pusher.key.clone(), News::default());
            self.workers.spawn(work(self.engine.clone(), pusher));
        }
        let count = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        metrics::gauge!("push_active").set(count(self.lanes.active()));
        metrics::gauge!("push_queued").set(count(self.lanes.queued()));
        metrics::gauge!("push_waiting").set(count(self.waiting.len()));
    }

    /// Writes down what came of this worker and of all others that have ended meanwhile, then lets their pushers go on.
    async fn collect(&mut self, first: Result<Ended, JoinError>) {
        let mut next = Some(first);
        while let Some(outcome) = next {
            self.gather(outcome);
            next = self.workers.try_join_next();
        }
        self.save().await;
    }

    fn gather(&mut self, outcome: Result<Ended, JoinError>) {
        match outcome {
            Ok(outcome) => self.unsaved.push(outcome),
            Err(error) => tracing::error!(%error, "a worker that tells pushers was lost"),
        }
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
        let news = self.active.remove(&pusher.key).unwrap_or_default();
        self.lanes.leave(&pusher);
        // What it came to is written down: that it goes on, too, as something that waits for its time. Only after a
        // failure of our own storage knows nothing.
        if next.is_some() {
            self.under_way.end(&pusher.key);
        }
        match next {
            Some(Next::More) => self.wake(pusher, news.since),
            Some(Next::Idle) if news.is_set || news.since.is_some() => self.wake(pusher, news.since),
            Some(Next::Idle) => {}
            // A pusher that was set again waits for nothing that was found out about it before. What else comes is told
            // when its time has come.
            Some(Next::Wait(_)) if news.is_set => self.wake(pusher, news.since),
            Some(Next::Wait(until_ms)) => self.waiting.put(pusher, until_ms),
            None => {
                let pause_ms = u64::try_from(TROUBLE_PAUSE.as_millis()).unwrap_or(u64::MAX);
                let until_ms = self.engine.world().clock.now_ms().saturating_add(pause_ms);
                self.waiting.put(pusher, until_ms);
            }
        }
    }

    /// Notes up to where the log was read, as far as what follows from it is delivered or written down.
    async fn note_read(&mut self) {
        let read = self.under_way.lowest().unwrap_or(self.position).min(self.position);
        if read < self.noted + READ_NOTED_EVERY {
            return;
        }
        match self.engine.storage().save_pushers_read(read).await {
            Ok(()) => self.noted = read,
            Err(error) => tracing::warn!(%error, "cannot note up to where the log was read for pushers"),
        }
    }

    /// How long nothing is due.
    fn pause(&self) -> Duration {
        let now_ms = self.engine.world().clock.now_ms();
        let until = |at_ms: u64| Duration::from_millis(at_ms.saturating_sub(now_ms));
        let longest = if self.unsaved.is_empty() { SLEEP_MAX } else { TROUBLE_PAUSE };
        self.waiting.next_ms().map_or(longest, until).min(longest)
    }
}

async fn work(engine: Engine, pusher: ConcernedPusher) -> Ended {
    match engine.storage().tasks().attempt("pushers", engine.attempt(&pusher.key)).await {
        Some(Ok(attempt)) => (pusher, Some(attempt)),
        Some(Err(error)) => {
            tracing::error!(user.id = %pusher.key.user_id, %error, "what is due to a pusher cannot be read");
            (pusher, None)
        }
        None => {
            tracing::error!(user.id = %pusher.key.user_id, "telling a pusher has panicked");
            (pusher, None)
        }
    }
}
