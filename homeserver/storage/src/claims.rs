//! Handing out one-time keys. Claims that wait are done together: with one at a time each costs a flush of the disk, with
//! a hundred still about one in all.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Semaphore, oneshot};

use crate::{
    ClaimedKey, KeyClaim, Result, Storage, StorageError, device_keys::json, devices::lock_device, dialect::is_storable,
    one_time_keys::take_key,
};

/// How many requests one transaction answers at most: beyond that the flush is a small part of its cost.
const BATCH_MAX: usize = 128;
/// How many keys one transaction hands out at most: while it does, nobody else writes.
const CLAIMS_MAX: usize = 500;
/// How many requests wait at most; others wait for a place among them.
const WAITING_MAX: usize = 10_000;

/// The requests that wait.
pub(crate) struct ClaimQueue {
    queue: Mutex<Queue>,
    places: Semaphore,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Whether somebody is at work who looks at what waits before going.
    is_served: bool,
}

struct Waiting {
    claims: Vec<KeyClaim>,
    answer: oneshot::Sender<Result<Vec<ClaimedKey>>>,
}

impl Default for ClaimQueue {
    fn default() -> Self {
        Self { queue: Mutex::default(), places: Semaphore::new(WAITING_MAX) }
    }
}

impl ClaimQueue {
    /// Says whether somebody must be sent to work.
    fn add(&self, waiting: Waiting) -> bool {
        let mut queue = self.lock();
        queue.waiting.push_back(waiting);
        !std::mem::replace(&mut queue.is_served, true)
    }

    /// The next ones, without those that nobody waits for any more; none when the work is done.
    fn next(&self) -> Vec<Waiting> {
        let mut queue = self.lock();
        queue.waiting.retain(|waiting| !waiting.answer.is_closed());
        let mut claims = 0;
        let fits = |waiting: &&Waiting| {
            claims += waiting.claims.len();
            claims <= CLAIMS_MAX
        };
        // Each alone fits.
        let count = queue.waiting.iter().take(BATCH_MAX).take_while(fits).count();
        queue.is_served = count > 0;
        queue.waiting.drain(..count).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who is at work. Should the work end in the midst, the next claim finds that nobody is.
struct Serving {
    storage: Storage,
    is_done: bool,
}

impl Drop for Serving {
    fn drop(&mut self) {
        // When the work is done, somebody else may be at work by now.
        if !self.is_done {
            self.storage.shared.claims.lock().is_served = false;
        }
    }
}

impl Storage {
    /// Hands out a key for each claim, as far as there are any: each one-time key once ever, in the order in which
    /// they were uploaded; when none is left, the fallback key. Who stops waiting for the answer may have claimed keys
    /// nevertheless, and so may who gets an error for one of many claims.
    pub async fn claim_one_time_keys(&self, claims: &[KeyClaim]) -> Result<Vec<ClaimedKey>> {
        let mut claimed = Vec::new();
        for part in claims.chunks(CLAIMS_MAX) {
            claimed.extend(self.claim_some(part).await?);
        }
        Ok(claimed)
    }

    async fn claim_some(&self, claims: &[KeyClaim]) -> Result<Vec<ClaimedKey>> {
        let _place = self.shared.claims.places.acquire().await.map_err(|_| StorageError::Closed)?;
        let (answer, claimed) = oneshot::channel();
        if self.shared.claims.add(Waiting { claims: claims.to_vec(), answer }) {
            // A task of its own: it answers others as well, and must not end with who waits for this one.
            tokio::spawn(serve(Serving { storage: self.clone(), is_done: false }));
        }
        claimed.await.map_err(|_| StorageError::Closed)?
    }

    async fn claim_together(&self, requests: &[&[KeyClaim]]) -> Result<Vec<Vec<ClaimedKey>>> {
        let mut claims: Vec<(&KeyClaim, usize)> = Vec::new();
        for (number, request) in requests.iter().enumerate() {
            claims.extend(request.iter().map(|claim| (claim, number)));
        }
        // In one order, so that of two processes none waits for the other in a circle.
        claims.sort_unstable();
        let mut claimed = vec![Vec::new(); requests.len()];
        let mut transaction = self.begin().await?;
        for (claim, number) in claims.into_iter().filter(|(claim, _)| is_storable(claim.device_id.as_str())) {
            if !lock_device(&mut transaction, claim.user_id.as_str(), claim.device_id.as_str(), None).await? {
                continue;
            }
            if let Some((key_id, key)) = take_key(&mut transaction, claim).await? {
                let key = json(key, "one_time_keys", &key_id)?;
                claimed[number].push(ClaimedKey { claim: claim.clone(), key_id, key });
            }
        }
        transaction.commit().await?;
        Ok(claimed)
    }
}

/// Answers what waits, until nothing does.
async fn serve(mut serving: Serving) {
    loop {
        let batch = serving.storage.shared.claims.next();
        if batch.is_empty() {
            serving.is_done = true;
            return;
        }
        let requests: Vec<&[KeyClaim]> = batch.iter().map(|waiting| &*waiting.claims).collect();
        let outcomes = claim_all(&serving.storage, &requests).await;
        for (waiting, outcome) in batch.into_iter().zip(outcomes) {
            // Nobody may wait any more.
            waiting.answer.send(outcome).unwrap_or_default();
        }
    }
}

/// Together; where that fails one by one, so that what one of them runs into is not the others' loss.
async fn claim_all(storage: &Storage, requests: &[&[KeyClaim]]) -> Vec<Result<Vec<ClaimedKey>>> {
    let error = match storage.claim_together(requests).await {
        Ok(claimed) => return claimed.into_iter().map(Ok).collect(),
        Err(error) => error,
    };
    if requests.len() == 1 {
        return vec![Err(error)];
    }
    let mut outcomes = Vec::with_capacity(requests.len());
    for request in requests {
        let claimed = storage.claim_together(&[*request]).await;
        outcomes.push(claimed.map(|mut claimed| claimed.pop().unwrap_or_default()));
    }
    outcomes
}
