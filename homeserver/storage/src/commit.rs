//! The one way in which what others must hear about becomes true.
//!
//! A committer takes whatever waits, without waiting for more, and writes it in one transaction: with one submitter this
//! costs one flush of the disk per submission, with a hundred still about one in all. Within the transaction each
//! submission succeeds or fails on its own: it is checked before anything of it is written.

mod apply;
mod batch;
mod complete_state;
mod facts;
mod historic_state;
mod keys;
mod write;

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use rules::change::{Change, Position};
use ruma::{OwnedEventId, OwnedRoomId};
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::keys::forget_device;
use crate::{
    Result, Storage, StorageError,
    commit::{
        batch::{Batch, Fate},
        facts::{Head, load_head},
    },
    database::{Shared, Transaction},
    error::Failure,
    log::Published,
};

/// How many submissions one transaction holds at most: beyond that the flush is a small part of its cost.
const BATCH_MAX: usize = 128;
/// How often a transaction is tried that another process got in the way of.
const ATTEMPTS_MAX: u32 = 6;
/// How long to wait before the second attempt; doubles with each.
const RETRY_AFTER: Duration = Duration::from_millis(5);
/// How long to wait before it is looked again what became of a commit that nobody knows the end of.
const SETTLE_PAUSE: Duration = Duration::from_secs(1);

/// Which state of a room a submission was decided against.
#[derive(Clone, Debug)]
pub struct RoomGuard {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Its revision then; 0 when the room must not exist yet.
    pub revision: i64,
    /// The event that the room was to end with then, if that was still to be committed: it may have failed, and another
    /// have made the revision.
    pub follows: Option<OwnedEventId>,
}

/// Changes that become true together or not at all.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The room that was decided about, if the decision depended on one.
    pub room: Option<RoomGuard>,
    /// What is to become true, in this order.
    pub changes: Vec<Change>,
}

/// What a commit came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The position of the last change that got one; the head of the log when none did.
    pub position: Position,
    /// The new revision of the guarded room.
    pub revision: Option<i64>,
    /// The live events and their positions, in the order of the submission.
    pub positions: Vec<(OwnedEventId, Position)>,
}

/// Why nothing of a submission became true.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// Somebody else changed the room: load it again and decide again.
    #[error("the room was changed meanwhile")]
    Conflict,
    /// The transaction id was used meanwhile; this event is what it led to.
    #[error("the transaction id was used meanwhile, for {0}")]
    AlreadyDone(OwnedEventId),
    /// The changes could not be written.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What became of one submission.
type Outcome = Result<Committed, CommitError>;

/// What is done with an outcome before anybody hears of it: with a success before the log tells, so that what a reader of
/// the log finds in memory is never older than what it reads, and with a failure before whoever asked hears. It must be
/// quick; all commits wait for it.
pub type BeforeNews = Box<dyn FnOnce(Result<&Committed, &CommitError>) + Send>;

/// What the committer is asked for.
pub(crate) enum Request {
    /// To commit, and to say what came of it.
    Commit(Box<Submission>, Option<BeforeNews>, oneshot::Sender<Outcome>),
    /// To commit what waits, and then to take nothing more.
    Close(oneshot::Sender<()>),
}

/// A place among what is to be committed, which is done in the order in which the places are used.
pub struct Place<'a>(mpsc::Permit<'a, Request>);

impl Place<'_> {
    /// Makes the changes of a submission true, all or none. It is under way once this returns, whether or not anybody
    /// waits for the outcome.
    pub fn commit(
        self,
        submission: Submission,
        before_news: Option<BeforeNews>,
    ) -> impl Future<Output = Result<Committed, CommitError>> + Send + use<> {
        let (answer, outcome) = oneshot::channel();
        self.0.send(Request::Commit(Box::new(submission), before_news, answer));
        async move { outcome.await.map_err(|_| StorageError::Closed)? }
    }
}

impl Storage {
    /// Makes the changes of a submission true, all or none, and returns once they are as durable as the options say.
    /// Who stops waiting for the answer does not stop the commit.
    pub async fn commit(&self, submission: Submission) -> Result<Committed, CommitError> {
        self.place().await?.commit(submission, None).await
    }

    /// Like [`Storage::commit`]. When it succeeds, `before_news` is called before the log tells anybody: see
    /// [`BeforeNews`].
    pub async fn commit_and(
        &self,
        submission: Submission,
        before_news: impl FnOnce(&Committed) + Send + 'static,
    ) -> Result<Committed, CommitError> {
        let before_news = |outcome: Result<&Committed, &CommitError>| {
            if let Ok(committed) = outcome {
                before_news(committed);
            }
        };
        self.place().await?.commit(submission, Some(Box::new(before_news))).await
    }

    /// Waits until there is room among what is to be committed.
    pub async fn place(&self) -> Result<Place<'_>> {
        Ok(Place(self.requests.reserve().await.map_err(|_| StorageError::Closed)?))
    }
}

/// The committer: runs until the storage is closed, or its last clone is dropped and nothing waits any more.
pub(crate) async fn run(shared: Arc<Shared>, mut waiting: mpsc::Receiver<Request>) {
    let mut committer = Committer { shared, unsettled: None, fell_over: false };
    let mut requests = Vec::with_capacity(BATCH_MAX);
    let mut closing = Vec::new();
    loop {
        tokio::select! {
            biased;
            count = waiting.recv_many(&mut requests, BATCH_MAX) => if count == 0 { break },
            () = committer.settle_later(), if committer.is_astray() => {}
        }
        metrics::gauge!("storage_commit_queue_length").set(approximate(waiting.len() as u64));
        let (mut submissions, mut before_news, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        for request in requests.drain(..) {
            match request {
                Request::Commit(submission, before, answer) => {
                    submissions.push(*submission);
                    before_news.push(before);
                    answers.push(answer);
                }
                Request::Close(done) => {
                    waiting.close();
                    closing.push(done);
                }
            }
        }
        publish_sizes(&committer.shared);
        let outcomes = committer.commit_or_fall_over(&submissions, &mut before_news).await;
        tell_of_failures(&outcomes, before_news);
        for (answer, outcome) in answers.into_iter().zip(outcomes) {
            // Who asked may have gone away; what was committed stays committed.
            drop(answer.send(outcome));
        }
        // Only now: clients do badly that hear of their own message before they hear that it was sent.
        committer.shared.bus.wake();
    }
    for done in closing {
        done.send(()).ok();
    }
}

/// Who commits hears of each failure before anybody can act upon one of them.
fn tell_of_failures(outcomes: &[Outcome], before_news: Vec<Option<BeforeNews>>) {
    for (outcome, before_news) in outcomes.iter().zip(before_news) {
        if let (Err(error), Some(before_news)) = (outcome, before_news) {
            before_news(Err(error));
        }
    }
}

fn publish_sizes(shared: &Shared) {
    metrics::gauge!("storage_cached_events_bytes").set(approximate(shared.events.weight()));
    metrics::gauge!("storage_cached_access_tokens").set(approximate(shared.tokens.count()));
    metrics::gauge!("storage_cached_names").set(approximate(shared.names.count()));
    metrics::counter!("storage_reads_total").absolute(shared.reads.load(Ordering::Relaxed));
}

#[expect(clippy::cast_precision_loss, reason = "metrics are read by people")]
fn approximate(count: u64) -> f64 {
    count as f64
}

struct Committer {
    shared: Arc<Shared>,
    /// What nobody knows the end of: the connection broke while it was committed, and no other could be had to find out.
    unsettled: Option<Box<Batch>>,
    /// Whether the last commit has panicked: what it wrote may be true, and nobody was told.
    fell_over: bool,
}

/// What came of one attempt.
enum Attempt {
    Done(Vec<Outcome>),
    /// Nothing became true.
    Failed(StorageError),
    /// The connection broke during the commit itself.
    Unsettled(Box<Batch>, Vec<Outcome>, StorageError),
}

impl Committer {
    /// A commit that panics is nobody's but its own submitters' loss.
    async fn commit_or_fall_over(
        &mut self,
        submissions: &[Submission],
        before_news: &mut [Option<BeforeNews>],
    ) -> Vec<Outcome> {
        let committing = AssertUnwindSafe(self.commit_all(submissions, before_news)).catch_unwind();
        committing.await.unwrap_or_else(|_| {
            self.shared.tasks.note_panic("committer");
            self.fell_over = true;
            vec![Err(CommitError::Storage(StorageError::Panicked)); submissions.len()]
        })
    }

    /// Commits what waits together; if the database refuses that, one by one, so that each stands for itself.
    async fn commit_all(&mut self, submissions: &[Submission], before_news: &mut [Option<BeforeNews>]) -> Vec<Outcome> {
        if submissions.is_empty() {
            return Vec::new();
        }
        let error = match self.commit_together(submissions, before_news).await {
            Ok(outcomes) => return outcomes,
            Err(error) => error,
        };
        if submissions.len() == 1 || error.failure() != Failure::Refused || matches!(error, StorageError::ReadOnly) {
            return vec![Err(CommitError::Storage(error)); submissions.len()];
        }
        let mut outcomes = Vec::with_capacity(submissions.len());
        for (submission, before_news) in submissions.iter().zip(before_news) {
            let (submission, before_news) = (std::slice::from_ref(submission), std::slice::from_mut(before_news));
            let outcome = self.commit_together(submission, before_news).await;
            outcomes.push(outcome.map_or_else(|error| Err(error.into()), |mut outcomes| outcomes.remove(0)));
        }
        outcomes
    }

    /// Commits in one transaction, which is tried again when another process got in its way.
    async fn commit_together(
        &mut self,
        submissions: &[Submission],
        before_news: &mut [Option<BeforeNews>],
    ) -> Result<Vec<Outcome>> {
        let mut attempt = 1;
        loop {
            let started = Instant::now();
            let error = match self.attempt_together(submissions, before_news).await {
                Attempt::Done(outcomes) => {
                    metrics::histogram!("storage_commit_batch_size").record(approximate(submissions.len() as u64));
                    metrics::histogram!("storage_commit_seconds").record(started.elapsed());
                    return Ok(outcomes);
                }
                Attempt::Failed(error) => error,
                Attempt::Unsettled(batch, outcomes, error) => match self.fate(&batch).await {
                    Ok(Fate::Committed) => {
                        batch.succeed(&self.shared, &outcomes, before_news);
                        return Ok(outcomes);
                    }
                    Ok(Fate::TakenBack) => error,
                    unknown => {
                        tracing::error!(%error, could_ask = unknown.is_ok(), "nobody knows whether a commit happened");
                        self.unsettled = Some(batch);
                        return Err(error);
                    }
                },
            };
            let again = match error.failure() {
                Failure::Collision | Failure::Disconnected => true,
                Failure::Disk => {
                    self.shared.stop_writing();
                    false
                }
                Failure::Refused | Failure::Shortage => false,
            };
            if !again || attempt == ATTEMPTS_MAX {
                tracing::error!(%error, attempt, submissions = submissions.len(), "commit failed");
                return Err(error);
            }
            tokio::time::sleep(RETRY_AFTER * 2_u32.pow(attempt - 1)).await;
            attempt += 1;
        }
    }

    async fn attempt_together(
        &mut self,
        submissions: &[Submission],
        before_news: &mut [Option<BeforeNews>],
    ) -> Attempt {
        let (transaction, batch, outcomes) = match self.write_together(submissions).await {
            Ok((Some(transaction), batch, outcomes)) => (transaction, batch, outcomes),
            Ok((None, _, outcomes)) => return Attempt::Done(outcomes),
            Err(error) => return Attempt::Failed(error),
        };
        match transaction.commit().await {
            Ok(()) => {
                batch.succeed(&self.shared, &outcomes, before_news);
                Attempt::Done(outcomes)
            }
            Err(error) if error.failure() == Failure::Disconnected => {
                Attempt::Unsettled(Box::new(batch), outcomes, error)
            }
            Err(error) => Attempt::Failed(error),
        }
    }

    /// Decides on all and writes it; what is to be committed then, if there is anything.
    async fn write_together(
        &mut self,
        submissions: &[Submission],
    ) -> Result<(Option<Transaction>, Batch, Vec<Outcome>)> {
        let mut transaction = self.shared.begin_commit().await?;
        let mut batch = Batch::load(&self.shared, &mut transaction, submissions).await?;
        self.settle(batch.found);
        let outcomes: Vec<Outcome> = submissions.iter().map(|submission| batch.decide(submission)).collect();
        if outcomes.iter().all(Result::is_err) {
            return Ok((None, batch, outcomes));
        }
        batch.write(&mut transaction).await?;
        Ok((Some(transaction), batch, outcomes))
    }

    /// What became of a commit whose end nobody told us. Waits until the transaction is over, if it still goes on.
    async fn fate(&self, batch: &Batch) -> Result<Fate> {
        Ok(batch.fate(load_head(&mut self.shared.begin_commit().await?).await?))
    }

    /// Whether something may have become true that nobody was told.
    fn is_astray(&self) -> bool {
        self.unsettled.is_some() || self.fell_over
    }

    /// Takes in what may have become true without anybody being told. `head` is as it is now that all that is over.
    fn settle(&mut self, head: Head) {
        if let Some(unsettled) = self.unsettled.take() {
            unsettled.settle(&self.shared, head);
        }
        if std::mem::take(&mut self.fell_over) {
            self.shared.events.forget_all();
            self.shared.related_rooms.forget_all();
            self.shared.bus.publish(Published::default(), head.position);
        }
    }

    /// Finds out after a while what became of what is unsettled: what it holds may be true, and nobody was told.
    async fn settle_later(&mut self) {
        tokio::time::sleep(SETTLE_PAUSE).await;
        let head = async { load_head(&mut self.shared.begin_commit().await?).await }.await;
        match head {
            Ok(head) => self.settle(head),
            Err(error) => tracing::debug!(%error, "it cannot be found out yet whether a commit happened"),
        }
    }
}
