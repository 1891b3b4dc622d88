//! Working off what was received. For each room there are two workers at most, so that nothing in one room waits for
//! another: one decides about events as they come, which is quick, and one answers, which takes as long as it takes.

mod ask;
mod command;
mod decide;
mod membership;
mod reply;
mod say;
mod show;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::devices::DeviceFailure;
use crate::matrix::CallError;
use crate::service::Service;

/// At most so many workers. Those of further rooms wait, in their store.
const WORKERS_MAX: usize = 512;

/// How long a room is left alone after something went wrong that may pass, for the first time.
const PAUSE_AFTER_TROUBLE: Duration = Duration::from_secs(3);

/// And at most.
const PAUSE_MAX: Duration = Duration::from_mins(1);

/// How often one thing is tried: what still fails then would fail for ever, and hold up its room.
const ATTEMPTS_MAX: u32 = 6;

/// The same while the homeserver is away, which says nothing about the thing: with the two minutes that each call is
/// tried, about an hour.
const ATTEMPTS_AWAY_MAX: u32 = 20;

/// How long events that cannot be read yet are left alone, unless a key comes.
const PAUSE_FOR_KEYS: Duration = Duration::from_secs(1);

/// Why work is not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkError {
    /// The store fails.
    #[error("the store fails: {0}")]
    Store(#[from] sqlx::Error),
    /// The homeserver does not do what it is asked.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A device does not do it.
    #[error(transparent)]
    Device(#[from] DeviceFailure),
    /// It must not be said.
    #[error("withheld: {0}")]
    Withheld(&'static str),
}

impl WorkError {
    /// Whether it will be the same however often it is tried: the room, or what is known of it, says no.
    fn is_final(&self) -> bool {
        match self {
            Self::Withheld(_) => true,
            Self::Call(error) => error.is_refusal() || *error == CallError::TooLarge,
            Self::Device(error) => error.is_final(),
            Self::Store(_) => false,
        }
    }

    /// How often something is tried that fails like this.
    fn attempts_max(&self) -> u32 {
        match self {
            Self::Call(CallError::Away(_))
            | Self::Device(DeviceFailure::Call(CallError::Away(_)) | DeviceFailure::NotReady) => ATTEMPTS_AWAY_MAX,
            _ => ATTEMPTS_MAX,
        }
    }
}

/// Work that is done later, because of an error that may pass.
#[derive(Debug)]
struct PutOff {
    error: WorkError,
    /// How often it was tried.
    attempts: u32,
}

impl<E: Into<WorkError>> From<E> for PutOff {
    fn from(error: E) -> Self {
        Self { error: error.into(), attempts: 1 }
    }
}

impl PutOff {
    /// How long the room is left alone: twice as long after each attempt.
    fn pause(&self) -> Duration {
        PAUSE_AFTER_TROUBLE.saturating_mul(1 << self.attempts.saturating_sub(1).min(16)).min(PAUSE_MAX)
    }
}

/// What a worker does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Duty {
    Decide,
    Answer,
}

/// Gives each room its workers, for as long as it is run.
pub(crate) async fn run(service: Arc<Service>) {
    let mut busy = BTreeSet::new();
    let mut workers = JoinSet::new();
    loop {
        match waiting(&service).await {
            Ok(waiting) => {
                for (duty, room_id) in waiting {
                    if busy.len() < WORKERS_MAX && busy.insert((duty, room_id.clone())) {
                        workers.spawn(work(service.clone(), duty, room_id));
                    }
                }
            }
            Err(error) => {
                tracing::error!(%error, "cannot see what is to be done");
                tokio::time::sleep(PAUSE_AFTER_TROUBLE).await;
                // Nobody may be there to wake us.
                continue;
            }
        }
        metrics::gauge!("aibots_workers").set(u32::try_from(busy.len()).unwrap_or(u32::MAX));
        tokio::select! {
            () = service.work.notified() => {}
            Some(done) = workers.join_next() => match done {
                Ok(done) => {
                    busy.remove(&done);
                }
                Err(error) => {
                    // Whose worker it was is not known any more; all begin anew, from the store.
                    tracing::error!(%error, "a worker has failed");
                    workers.shutdown().await;
                    busy.clear();
                }
            },
        }
    }
}

async fn waiting(service: &Service) -> Result<Vec<(Duty, String)>, sqlx::Error> {
    let events = service.store.rooms_with_events().await?;
    let jobs = service.store.rooms_with_jobs().await?;
    let events = events.into_iter().map(|room_id| (Duty::Decide, room_id));
    Ok(events.chain(jobs.into_iter().map(|room_id| (Duty::Answer, room_id))).collect())
}

async fn work(service: Arc<Service>, duty: Duty, room_id: String) -> (Duty, String) {
    let outcome = match duty {
        Duty::Decide => decide::events_of(&service, &room_id).await,
        Duty::Answer => reply::all_in(&service, &room_id).await.map(|()| true),
    };
    match outcome {
        Ok(true) => {}
        Ok(false) => {
            tokio::time::timeout(PAUSE_FOR_KEYS, service.keys.notified()).await.unwrap_or_default();
        }
        Err(error) => {
            let (pause, error) = (error.pause(), error.error);
            tracing::warn!(%error, room.id = room_id, "work in a room is put off");
            tokio::time::sleep(pause).await;
        }
    }
    (duty, room_id)
}
