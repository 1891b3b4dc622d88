//! Work that takes as long as a room is large, and waits for nothing: done on threads of its own, so that those who are served
//! by the same thread are not kept waiting.

use std::{
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Semaphore;
use tracing::Span;

use crate::Engine;

/// Up to how many events, or entries of a state, are gone through on the spot, as it is not worth the way to another thread.
const INLINE_MAX: usize = 500;

/// Reading an event, or holding it against what authorises it, takes as long as going through so many.
pub(crate) const JUDGING: usize = 10;

/// The threads for it.
pub(crate) struct Apart {
    places: Arc<Semaphore>,
    done: AtomicU64,
}

impl Default for Apart {
    /// As many as there are cores: more would not be done earlier, and leave less to those who serve.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { places: Arc::new(Semaphore::new(cores)), done: AtomicU64::new(0) }
    }
}

impl Apart {
    async fn work<T: Send + 'static>(&self, size: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
        if size <= INLINE_MAX {
            return work();
        }
        let place = Arc::clone(&self.places).acquire_owned().await.expect("the semaphore is never closed");
        let span = Span::current();
        let working = tokio::task::spawn_blocking(move || {
            // What is begun cannot be stopped, so that its place is taken until it is done, whoever has given up.
            let _place = place;
            span.in_scope(work)
        });
        let done = working.await;
        self.done.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("engine_apart_total").increment(1);
        match done.map_err(tokio::task::JoinError::try_into_panic) {
            Ok(done) => done,
            Err(Ok(panic)) => resume_unwind(panic),
            // The runtime is shutting down, and whoever waits for this with it.
            Err(Err(_)) => std::future::pending().await,
        }
    }
}

impl Engine {
    /// Does what goes through so many events, or entries of a state: on the spot where they are few, else on a thread of its
    /// own, to its end even when nobody waits for it any more. When it panics, so does who waits.
    ///
    /// It must not wait for anything itself, locks least of all: whoever holds one may be waiting for its place.
    pub async fn apart<T: Send + 'static>(&self, size: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.inner.apart.work(size, work).await
    }

    /// How much was done on threads of its own since the server started.
    pub fn done_apart(&self) -> u64 {
        self.inner.apart.done.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::AssertUnwindSafe,
        sync::mpsc,
        thread::{self, ThreadId},
        time::Duration,
    };

    use futures_util::FutureExt;

    use super::*;

    const LARGE: usize = INLINE_MAX + 1;
    /// Nobody may wait longer for what must happen.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn here() -> ThreadId {
        thread::current().id()
    }

    #[tokio::test]
    async fn only_what_is_large_is_done_elsewhere() {
        let apart = Apart::default();
        assert_eq!(apart.work(INLINE_MAX, here).await, here());
        assert_eq!(apart.done.load(Ordering::Relaxed), 0);
        assert_ne!(apart.work(LARGE, here).await, here());
        assert_eq!(apart.done.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn others_are_served_meanwhile() {
        let (tick, ticks) = mpsc::channel();
        // By the thread that waits for the work, which in turn waits for them.
        tokio::spawn(async move { (0..3).for_each(|number| tick.send(number).unwrap()) });
        let apart = Apart::default();
        let seen =
            apart.work(LARGE, move || std::iter::from_fn(|| ticks.recv_timeout(PATIENCE).ok()).collect::<Vec<_>>());
        assert_eq!(seen.await, [0, 1, 2]);
    }

    #[tokio::test]
    async fn who_gives_up_leaves_the_place_taken_until_it_is_done() {
        let apart = Apart { places: Arc::new(Semaphore::new(1)), ..Apart::default() };
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (end, may_end) = mpsc::channel::<()>();
        let work = apart.work(LARGE, move || {
            begun.send(()).unwrap();
            may_end.recv_timeout(PATIENCE).unwrap_err()
        });
        tokio::select! {
            _ = work => panic!("it cannot end yet"),
            begun = has_begun => begun.unwrap(),
        }
        assert_eq!(apart.places.available_permits(), 0);
        assert!(apart.work(LARGE, || ()).now_or_never().is_none(), "there is one place");
        drop(end);
        apart.work(LARGE, || ()).await;
    }

    #[tokio::test]
    async fn a_panic_is_that_of_who_waits() {
        let apart = Apart::default();
        let fallen = AssertUnwindSafe(apart.work(LARGE, || panic!("on purpose"))).catch_unwind().await;
        assert_eq!(fallen.unwrap_err().downcast_ref(), Some(&"on purpose"));
        assert_eq!(apart.work(LARGE, || 1).await, 1, "its place is free again");
    }
}
