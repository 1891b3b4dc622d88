//! Tasks that go on for as long as the server does, and what is known of their health.

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::FutureExt;

/// A task that fell over is picked up again, but not in a tight loop.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// For how long it is told that a task fell over: long enough for whoever looks every few minutes.
const TOLD_FOR: Duration = Duration::from_mins(10);

/// Picks up tasks that panic, and remembers which did.
#[derive(Debug, Default)]
pub struct Tasks(Mutex<BTreeMap<&'static str, Instant>>);

impl Tasks {
    /// Does what a task does until it ends by itself: when it panics, it begins anew.
    pub async fn supervise<F: Future>(&self, name: &'static str, mut task: impl FnMut() -> F) -> F::Output {
        loop {
            if let Some(done) = self.attempt(name, async { task().await }).await {
                return done;
            }
            tokio::time::sleep(RESTART_PAUSE).await;
        }
    }

    /// Does a piece of a task's work, which somebody will begin anew: `None` when it panics, which is noted.
    pub async fn attempt<T>(&self, name: &'static str, work: impl Future<Output = T>) -> Option<T> {
        let done = AssertUnwindSafe(work).catch_unwind().await;
        if done.is_err() {
            self.note_panic(name);
        }
        done.ok()
    }

    /// A task has panicked. The panic itself was logged where it happened.
    pub fn note_panic(&self, name: &'static str) {
        metrics::counter!("task_panics_total", "task" => name).increment(1);
        tracing::error!(task = name, "a task has panicked; it begins anew");
        self.panics().insert(name, Instant::now());
    }

    /// The tasks that have panicked lately.
    pub fn panicked_lately(&self) -> Vec<&'static str> {
        let mut panics = self.panics();
        panics.retain(|_, at| at.elapsed() < TOLD_FOR);
        panics.keys().copied().collect()
    }

    fn panics(&self) -> MutexGuard<'_, BTreeMap<&'static str, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::Tasks;

    #[tokio::test]
    async fn r_36_a_task_that_panics_begins_anew_and_that_is_told() {
        let (tasks, mut attempts) = (Tasks::default(), 0);
        let done = tasks.supervise("test", || {
            attempts += 1;
            let attempt = attempts;
            async move {
                assert!(attempt > 1, "the first attempt panics");
                attempt
            }
        });
        assert_eq!(done.await, 2);
        assert_eq!(tasks.panicked_lately(), ["test"]);
    }
}
