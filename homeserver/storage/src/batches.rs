//! Doing together what is asked for at the same time. One transaction for each costs a flush of the disk each time, and
//! everybody else who writes waits for it; what waits for the same moment shares one.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Semaphore, oneshot};

use crate::{Result, Storage, StorageError};

/// How many requests wait at most; others wait for a place among them.
const WAITING_MAX: usize = 10_000;

/// A request that can share a transaction with others of its kind.
pub(crate) trait Batched: Sized + Send + Sync + 'static {
    type Answer: Send + 'static;

    /// The weight that one transaction takes at most: beyond that the flush is a small part of its cost, and nobody else
    /// writes meanwhile.
    const BATCH_MAX: usize;

    /// At most [`Self::BATCH_MAX`].
    fn weight(&self) -> usize;

    /// Does all of them in one transaction, or none. One answer for each, in their order.
    fn do_together(storage: &Storage, requests: &[&Self]) -> impl Future<Output = Result<Vec<Self::Answer>>> + Send;
}

/// The requests of one kind that wait.
pub(crate) struct Batches<R: Batched> {
    queue: Mutex<Queue<R>>,
    places: Semaphore,
}

struct Queue<R: Batched> {
    waiting: VecDeque<Waiting<R>>,
    /// Whether somebody is at work who looks at what waits before going.
    is_served: bool,
}

struct Waiting<R: Batched> {
    request: R,
    answer: oneshot::Sender<Result<R::Answer>>,
}

impl<R: Batched> Default for Batches<R> {
    fn default() -> Self {
        let queue = Queue { waiting: VecDeque::new(), is_served: false };
        Self { queue: Mutex::new(queue), places: Semaphore::new(WAITING_MAX) }
    }
}

impl<R: Batched> Batches<R> {
    /// Does this request with those that wait beside it. It may be done even if whoever asks stops waiting.
    pub(crate) async fn ask(self: &Arc<Self>, storage: &Storage, request: R) -> Result<R::Answer> {
        let _place = self.places.acquire().await.map_err(|_| StorageError::Closed)?;
        let (answer, answered) = oneshot::channel();
        if self.add(Waiting { request, answer }) {
            // A task of its own: it answers others as well, and must not end with who waits for this one.
            tokio::spawn(serve(storage.clone(), Serving { batches: Arc::clone(self), is_done: false }));
        }
        answered.await.map_err(|_| StorageError::Closed)?
    }

    /// Says whether somebody must be sent to work.
    fn add(&self, waiting: Waiting<R>) -> bool {
        let mut queue = self.lock();
        queue.waiting.push_back(waiting);
        !std::mem::replace(&mut queue.is_served, true)
    }

    /// The next ones, without those that nobody waits for any more; none when the work is done.
    fn next(&self) -> Vec<Waiting<R>> {
        let mut queue = self.lock();
        queue.waiting.retain(|waiting| !waiting.answer.is_closed());
        let mut weight = 0;
        let fits = |waiting: &&Waiting<R>| {
            weight += waiting.request.weight();
            weight <= R::BATCH_MAX
        };
        // Each alone fits.
        let count = queue.waiting.iter().take_while(fits).count();
        queue.is_served = count > 0;
        queue.waiting.drain(..count).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Queue<R>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who is at work. Should the work end in the midst, the next one who asks finds that nobody is.
struct Serving<R: Batched> {
    batches: Arc<Batches<R>>,
    is_done: bool,
}

impl<R: Batched> Drop for Serving<R> {
    fn drop(&mut self) {
        // When the work is done, somebody else may be at work by now.
        if !self.is_done {
            self.batches.lock().is_served = false;
        }
    }
}

/// Answers what waits, until nothing does.
async fn serve<R: Batched>(storage: Storage, mut serving: Serving<R>) {
    loop {
        let batch = serving.batches.next();
        if batch.is_empty() {
            serving.is_done = true;
            return;
        }
        let requests: Vec<&R> = batch.iter().map(|waiting| &waiting.request).collect();
        let outcomes = do_all(&storage, &requests).await;
        for (waiting, outcome) in batch.into_iter().zip(outcomes) {
            // Nobody may wait any more.
            waiting.answer.send(outcome).unwrap_or_default();
        }
    }
}

/// Together; where that fails one by one, so that what one of them runs into is not the others' loss.
async fn do_all<R: Batched>(storage: &Storage, requests: &[&R]) -> Vec<Result<R::Answer>> {
    let error = match R::do_together(storage, requests).await {
        Ok(answers) => return answers.into_iter().map(Ok).collect(),
        Err(error) => error,
    };
    if requests.len() == 1 {
        return vec![Err(error)];
    }
    let mut outcomes = Vec::with_capacity(requests.len());
    for request in requests {
        match R::do_together(storage, &[*request]).await {
            Ok(answers) => outcomes.extend(answers.into_iter().map(Ok)),
            Err(error) => outcomes.push(Err(error)),
        }
    }
    outcomes
}
