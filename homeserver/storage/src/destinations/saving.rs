//! Noting how far servers have got. What waits is noted together: a message in a room with thousands of servers has each
//! of them noted twice, which would cost a flush of the disk each time, and everybody else who writes would wait for it.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use super::{Destination, edus};
use crate::{
    Result, Storage, StorageError,
    database::Transaction,
    dialect::{db, storable, without_nul},
};

/// How many are noted in one transaction: beyond that the flush is a small part of its cost, and nobody else writes
/// meanwhile.
const BATCH_MAX: usize = 64;

/// What is to be noted. As many wait as there are servers being sent to at the same time.
#[derive(Default)]
pub(crate) struct SaveQueue(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Whether somebody is at work who looks at what waits before going.
    is_served: bool,
}

struct Waiting {
    destination: Destination,
    answer: oneshot::Sender<Result<()>>,
}

impl SaveQueue {
    /// Says whether somebody must be sent to work.
    fn add(&self, waiting: Waiting) -> bool {
        let mut queue = self.lock();
        queue.waiting.push_back(waiting);
        !std::mem::replace(&mut queue.is_served, true)
    }

    /// The next ones; none when the work is done.
    fn next(&self) -> Vec<Waiting> {
        let mut queue = self.lock();
        let count = queue.waiting.len().min(BATCH_MAX);
        queue.is_served = count > 0;
        queue.waiting.drain(..count).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who is at work. Should the work end in the midst, the next one who has something to note finds that nobody is.
struct Serving {
    storage: Storage,
    is_done: bool,
}

impl Drop for Serving {
    fn drop(&mut self) {
        // When the work is done, somebody else may be at work by now.
        if !self.is_done {
            self.storage.shared.destination_saves.lock().is_served = false;
        }
    }
}

impl Storage {
    /// Replaces the row of a server. It may be replaced even if whoever asks for it stops waiting.
    pub async fn save_destination(&self, destination: &Destination) -> Result<()> {
        storable(destination.server.as_str(), "a server name")?;
        let (answer, saved) = oneshot::channel();
        if self.shared.destination_saves.add(Waiting { destination: destination.clone(), answer }) {
            // A task of its own: it answers others as well, and must not end with who waits for this one.
            tokio::spawn(serve(Serving { storage: self.clone(), is_done: false }));
        }
        saved.await.map_err(|_| StorageError::Closed)?
    }

    async fn save_together(&self, destinations: &[&Destination]) -> Result<()> {
        let mut transaction = self.begin().await?;
        for destination in destinations {
            save(&mut transaction, destination).await?;
        }
        transaction.commit().await
    }
}

async fn save(transaction: &mut Transaction, destination: &Destination) -> Result<()> {
    const SQL: &str = "INSERT INTO destinations (server, cursor, in_flight_transaction, in_flight_until,
            failing_since_ts, retry_at_ts, failures) VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (server) DO UPDATE SET cursor = excluded.cursor,
            in_flight_transaction = excluded.in_flight_transaction, in_flight_until = excluded.in_flight_until,
            failing_since_ts = excluded.failing_since_ts, retry_at_ts = excluded.retry_at_ts,
            failures = excluded.failures";
    let name = destination.server.as_str();
    let (in_flight, in_flight_until) = destination.in_flight.clone().unzip();
    db!(transaction.connection(), |connection| {
        let query = sqlx::query(SQL).bind(name).bind(destination.cursor);
        let query = query.bind(in_flight.as_deref().map(without_nul)).bind(in_flight_until);
        let query = query.bind(destination.failing_since_ts.map(|ts| ts as i64));
        let query = query.bind(destination.retry_at_ts.map(|ts| ts as i64)).bind(i64::from(destination.failures));
        query.execute(connection).await.map(drop)
    })?;
    edus::forget_delivered(transaction, name, destination.cursor).await
}

/// Notes what waits, until nothing does.
async fn serve(mut serving: Serving) {
    loop {
        let mut batch = serving.storage.shared.destination_saves.next();
        if batch.is_empty() {
            serving.is_done = true;
            return;
        }
        // In one order, so that of two processes none waits for the other in a circle. What is noted of the same server
        // later stays later.
        batch.sort_by(|one, other| one.destination.server.cmp(&other.destination.server));
        let destinations: Vec<&Destination> = batch.iter().map(|waiting| &waiting.destination).collect();
        let outcomes = save_all(&serving.storage, &destinations).await;
        for (waiting, outcome) in batch.into_iter().zip(outcomes) {
            // Nobody may wait any more.
            waiting.answer.send(outcome).unwrap_or_default();
        }
    }
}

/// Together; where that fails one by one, so that what one of them runs into is not the others' loss.
async fn save_all(storage: &Storage, destinations: &[&Destination]) -> Vec<Result<()>> {
    let error = match storage.save_together(destinations).await {
        Ok(()) => return destinations.iter().map(|_| Ok(())).collect(),
        Err(error) => error,
    };
    if destinations.len() == 1 {
        return vec![Err(error)];
    }
    let mut outcomes = Vec::with_capacity(destinations.len());
    for destination in destinations {
        outcomes.push(storage.save_together(&[*destination]).await);
    }
    outcomes
}
