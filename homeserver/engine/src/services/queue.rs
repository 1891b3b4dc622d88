//! The queue of a service: a cursor into the log, and one transaction at a time, kept on disk word for word until the
//! service has taken it.
//!
//! Nobody calls this to have an event sent. However long a service is away, what it costs is one transaction on disk;
//! the rest stays in the log. Each service has a task of its own, so that one that is slow holds up no other.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use appservices::Service;
use rules::change::Position;
use ruma::{OwnedDeviceId, OwnedEventId, OwnedUserId};
use storage::{LogEntry, LogKind, ServiceQueue, ServiceTransaction, StorageError};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{interest::Interest, transaction::Contents};
use crate::{Engine, EngineError, Result};

/// How many log entries one transaction reaches over at most.
const BATCH_ENTRIES: usize = 100;
/// How much one transaction may hold, but for its last part, in bytes: some services take no more than 10 MB.
const TRANSACTION_BYTES_MAX: usize = 2 * 1024 * 1024;
/// How far the log is read without anything for the service until that is noted on disk.
const UNNOTED_MAX: Position = 1_000;
/// How long to wait after the first failure; doubles with each further one.
const BACKOFF_BASE: Duration = Duration::from_secs(1);
/// The longest wait: a bridge that comes back is not to wait for long, and one that is gone costs little.
const BACKOFF_MAX: Duration = Duration::from_mins(5);
/// After the first failures, the operator hears of each so many only.
const FAILURES_LOGGED: u32 = 3;
const FAILURES_BETWEEN_LOGS: u32 = 20;
/// How long to wait after storage has failed, which is not the service's doing.
const TROUBLE_PAUSE: Duration = Duration::from_secs(5);
/// How many events are remembered as sent, for those that the log names twice.
const SENT_REMEMBERED: usize = 200;
/// The length of transaction ids: nobody ever sees one twice.
const TRANSACTION_ID_LENGTH: usize = 18;

impl Engine {
    /// Delivers to all services until `shutdown` is done. What is in flight then is sent again after the restart, under
    /// the same transaction id.
    pub async fn deliver_to_services(&self, shutdown: impl Future<Output = ()> + Send) {
        let mut workers = JoinSet::new();
        for service in self.services().all().iter().filter(|service| service.registration().url.is_some()) {
            workers.spawn(work(self.clone(), Arc::clone(service)));
        }
        // Workers end when the storage does. Dropping the set stops them.
        shutdown.await;
    }
}

/// Delivers to one service, whatever happens in between.
async fn work(engine: Engine, service: Arc<Service>) {
    loop {
        let tasks = engine.storage().tasks();
        match tasks.attempt("services", async { Worker::new(engine.clone(), &service).run().await }).await {
            Some(Ok(()) | Err(EngineError::Storage(StorageError::Closed))) => return,
            Some(Err(error)) => {
                tracing::error!(service.id = service.id(), %error, "the queue of a service cannot be read or written");
            }
            None => {
                tracing::error!(service.id = service.id(), "sending to a service has panicked");
            }
        }
        sleep(TROUBLE_PAUSE).await;
    }
}

/// What came of one step.
enum Step {
    /// Something was delivered, or passed over.
    On,
    /// There is nothing to send.
    Idle,
    /// The service did not take what it was sent.
    Refused,
}

/// The task of one service.
pub(super) struct Worker {
    pub(super) engine: Engine,
    pub(super) service: Arc<Service>,
    pub(super) interest: Interest,
    /// Up to which change of who is typing the service has heard.
    pub(super) typing_heard: u64,
    /// Up to which change of a presence.
    pub(super) presences_heard: u64,
    queue: ServiceQueue,
    noted: Position,
    failures: u32,
    sent: VecDeque<OwnedEventId>,
}

impl Worker {
    fn new(engine: Engine, service: &Arc<Service>) -> Self {
        Self {
            interest: Interest::new(Arc::clone(service)),
            typing_heard: engine.inner.rooms.typing.count(),
            presences_heard: engine.inner.services.presences_since(0).0,
            queue: ServiceQueue { service: service.id().to_owned(), position: 0, in_flight: None },
            service: Arc::clone(service),
            engine,
            noted: 0,
            failures: 0,
            sent: VecDeque::new(),
        }
    }

    async fn run(mut self) -> Result<()> {
        let mut log = self.engine.storage().subscribe();
        let mut ephemeral = self.engine.inner.services.ephemeral.subscribe();
        self.load().await?;
        loop {
            log.mark_unchanged();
            ephemeral.mark_unchanged();
            match self.step().await? {
                Step::Refused => self.wait_after_failure().await,
                Step::Idle if !self.wait_for_news(&mut log, &mut ephemeral).await => return Ok(()),
                Step::On | Step::Idle => {}
            }
        }
    }

    async fn load(&mut self) -> Result<()> {
        let known = self.engine.storage().service_queue(self.service.id()).await?;
        self.queue.position = self.engine.storage().head();
        if let Some(queue) = known {
            self.queue = queue;
        }
        self.noted = self.queue.position;
        self.interest.forget();
        Ok(())
    }

    /// Waits until there may be something to send; `false` when there will not be.
    async fn wait_for_news(&self, log: &mut watch::Receiver<Position>, ephemeral: &mut watch::Receiver<()>) -> bool {
        let hears_ephemeral = self.service.registration().receives_ephemeral;
        tokio::select! {
            changed = log.changed() => changed.is_ok(),
            changed = ephemeral.changed(), if hears_ephemeral => changed.is_ok(),
        }
    }

    /// Waits longer after each failure, but no longer than until the service is heard of.
    async fn wait_after_failure(&self) {
        let doubled =
            BACKOFF_BASE.saturating_mul(1_u32.checked_shl(self.failures.saturating_sub(1)).unwrap_or(u32::MAX));
        let wait = doubled.min(BACKOFF_MAX);
        let jitter_ms = self.engine.world().random_below(wait.as_millis() as u64 / 4);
        sleep(BACKOFF_BASE).await;
        let Some(contact) = self.engine.inner.services.contacts.get(self.service.id()) else { return };
        let rest = wait.saturating_sub(BACKOFF_BASE) + Duration::from_millis(jitter_ms);
        // Whether it was heard of or the time is over: the next attempt says.
        let _ = timeout(rest, contact.is_back.notified()).await;
    }

    async fn step(&mut self) -> Result<Step> {
        if self.queue.in_flight.is_none() {
            let (contents, until, to_devices) = self.gather().await?;
            let has_durable = !contents.is_empty();
            let contents = self.with_passing(contents, until).await?;
            if contents.is_empty() {
                return self.pass_over(until).await;
            }
            let transaction = ServiceTransaction {
                transaction_id: self.engine.world().random_string(TRANSACTION_ID_LENGTH),
                until,
                body: contents.body()?,
                to_devices,
            };
            if !has_durable {
                return Ok(self.send_passing(&transaction).await);
            }
            self.queue.in_flight = Some(transaction);
            self.engine.storage().save_service_queue(&self.queue).await?;
        }
        self.deliver().await
    }

    /// What there is for the service in the log, up to where, and which devices it is for.
    async fn gather(&mut self) -> Result<(Contents, Position, Vec<(OwnedUserId, OwnedDeviceId, Position)>)> {
        let entries = self.engine.storage().log_since(self.queue.position, BATCH_ENTRIES).await?;
        self.interest.begin();
        let mut contents = Contents::default();
        let mut until = self.queue.position;
        let mut to_devices = Vec::new();
        for entry in &entries {
            if contents.bytes > TRANSACTION_BYTES_MAX {
                break;
            }
            self.add(entry, &mut contents, &mut to_devices).await?;
            until = entry.position;
        }
        if self.service.registration().receives_encryption && !contents.is_empty() {
            self.add_rooms_shared(&entries, (self.queue.position, until), &mut contents).await?;
            self.add_key_counts(&entries, &mut contents, &to_devices).await?;
        }
        Ok((contents, until, to_devices))
    }

    async fn add(
        &mut self,
        entry: &LogEntry,
        contents: &mut Contents,
        to_devices: &mut Vec<(OwnedUserId, OwnedDeviceId, Position)>,
    ) -> Result<()> {
        let encryption = self.service.registration().receives_encryption;
        match entry.kind {
            LogKind::Event => self.add_event(entry, contents).await,
            LogKind::Membership => self.add_membership(entry, contents).await,
            LogKind::Receipt if self.service.registration().receives_ephemeral => {
                self.add_receipt(entry, contents).await
            }
            LogKind::ToDevice if encryption => self.add_to_device(entry, contents, to_devices).await,
            LogKind::DeviceList if encryption => self.add_device_list(entry, contents).await,
            _ => Ok(()),
        }
    }

    async fn add_event(&mut self, entry: &LogEntry, contents: &mut Contents) -> Result<()> {
        let (Some(room_id), Some(event_id)) = (&entry.room_id, &entry.event_id) else { return Ok(()) };
        let is_heard = self.interest.in_user(entry.user_id.as_deref())
            || self.interest.in_room(&self.engine, room_id, entry.position).await?;
        if is_heard { self.send_event(event_id, None, contents).await } else { Ok(()) }
    }

    /// A user of the service was invited, joined, left: the service hears of that also where it hears nothing else. Of
    /// rooms that we are not in, there is no other entry in the log.
    async fn add_membership(&mut self, entry: &LogEntry, contents: &mut Contents) -> Result<()> {
        let (Some(room_id), Some(user_id), Some(event_id)) = (&entry.room_id, &entry.user_id, &entry.event_id) else {
            return Ok(());
        };
        if !self.service.covers_user(user_id) {
            return Ok(());
        }
        self.interest.note_membership(room_id, user_id, entry.membership.as_ref());
        if self.sent.contains(event_id) {
            return Ok(());
        }
        let record = self.engine.storage().membership(user_id, room_id).await?;
        let record = record.filter(|record| record.event_id == *event_id);
        self.send_event(event_id, record.and_then(|record| record.stripped_state), contents).await
    }

    async fn send_event(
        &mut self,
        event_id: &OwnedEventId,
        stripped_state: Option<Box<serde_json::value::RawValue>>,
        contents: &mut Contents,
    ) -> Result<()> {
        let Some(event) = self.engine.stored_event(event_id).await? else { return Ok(()) };
        contents.add_event(self.engine.service_event(&event, stripped_state).await?.into_json());
        if self.sent.len() == SENT_REMEMBERED {
            self.sent.pop_front();
        }
        self.sent.push_back(event_id.clone());
        Ok(())
    }

    /// There was nothing for the service up to a position.
    async fn pass_over(&mut self, until: Position) -> Result<Step> {
        if until == self.queue.position {
            return Ok(Step::Idle);
        }
        self.queue.position = until;
        if until - self.noted >= UNNOTED_MAX {
            self.engine.storage().save_service_queue(&self.queue).await?;
            self.noted = until;
        }
        Ok(Step::On)
    }

    /// Sends what is worth nothing later, at most once.
    async fn send_passing(&mut self, transaction: &ServiceTransaction) -> Step {
        let outcome = self.service.transaction(&transaction.transaction_id, transaction.body.clone()).await;
        self.queue.position = transaction.until;
        self.note_outcome(outcome)
    }

    /// Sends what is in flight, and notes on disk that it was taken.
    async fn deliver(&mut self) -> Result<Step> {
        let Some(transaction) = self.queue.in_flight.clone() else { return Ok(Step::On) };
        let ServiceTransaction { transaction_id, until, body, to_devices } = transaction;
        let outcome = self.service.transaction(&transaction_id, body).await;
        let step = self.note_outcome(outcome);
        if matches!(step, Step::On) {
            for (user_id, device_id, until) in &to_devices {
                self.engine.storage().acknowledge_to_device(user_id, device_id, *until).await?;
            }
            self.queue.in_flight = None;
            self.queue.position = until;
            self.engine.storage().save_service_queue(&self.queue).await?;
            self.noted = until;
        }
        Ok(step)
    }

    fn note_outcome(&mut self, outcome: Result<(), appservices::CallError>) -> Step {
        let is_failing = outcome.is_err();
        if let Some(contact) = self.engine.inner.services.contacts.get(self.service.id()) {
            contact.is_failing.store(is_failing, Ordering::Relaxed);
        }
        let id = self.service.id().to_owned();
        let result = if is_failing { "failed" } else { "delivered" };
        metrics::counter!("service_transactions_total", "service" => id, "result" => result).increment(1);
        match outcome {
            Ok(()) => {
                self.failures = 0;
                Step::On
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                if self.failures <= FAILURES_LOGGED || self.failures.is_multiple_of(FAILURES_BETWEEN_LOGS) {
                    let (id, failures) = (self.service.id(), self.failures);
                    tracing::warn!(service.id = id, failures, %error, "an application service does not take what it is sent; trying again");
                }
                Step::Refused
            }
        }
    }
}
