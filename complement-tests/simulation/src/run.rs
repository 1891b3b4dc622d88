//! Running universes.

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicU64, Ordering},
    sync::{
        Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::sync::oneshot;

use crate::{Failure, check::check, trace::Trace, universe::Universe};

/// How long a universe may take by the clock on the wall, which nothing in it can see. None takes a hundredth of it:
/// what does not end by then waits for itself.
const LIFE_MAX: Duration = Duration::from_mins(15);

/// How universes are run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many things happen before the network heals.
    pub steps: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { steps: 80 }
    }
}

/// What came of one universe.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// What must not be, and is.
    pub findings: Vec<String>,
    /// All that happened.
    pub trace: Vec<String>,
    /// A digest of what happened, the same in each replay.
    pub digest: String,
    /// How often what happened.
    pub counts: BTreeMap<String, u64>,
}

impl Report {
    /// What is not the same in another run, if anything.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let line = self.trace.iter().zip(&other.trace).find(|(one, other)| one != other);
        if let Some((one, other)) = line {
            return Some(format!("{one:?} became {other:?}"));
        }
        let same = self.trace.len() == other.trace.len()
            && self.digest == other.digest
            && self.counts == other.counts
            && self.findings == other.findings;
        (!same).then(|| "the same lines led to other numbers".to_owned())
    }
}

/// Runs the universe of a seed.
pub fn run(seed: u64, options: Options) -> Report {
    let trace = Trace::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.expect("the operating system gives us what a runtime needs");
    let (end, ended) = mpsc::channel::<()>();
    let (give_up, no_patience_left) = oneshot::channel();
    // Timers stand still, so that a slow machine sees what a fast one sees. They would be turned forward whenever all
    // tasks wait, for a database too, were it not for a blocking task that runs as long as the universe.
    runtime.spawn_blocking(move || {
        if ended.recv_timeout(LIFE_MAX) == Err(RecvTimeoutError::Timeout) {
            give_up.send(()).ok();
        }
    });
    let life = AssertUnwindSafe(live(seed, options, trace.clone())).catch_unwind();
    let findings = runtime.block_on(async {
        tokio::select! {
            outcome = life => match outcome {
                Ok(Ok(findings)) => findings,
                Ok(Err(failure)) => vec![failure.to_string()],
                Err(panic) => vec![format!("panic: {}", panic_text(&*panic))],
            },
            Ok(()) = no_patience_left => vec![format!("not at its end after {LIFE_MAX:?}: something waits for itself")],
        }
    });
    drop(end);
    runtime.shutdown_background();
    Report { seed, findings, digest: trace.digest(), counts: trace.counts(), trace: trace.lines() }
}

/// Runs many universes on a number of threads, and hands each report to `hear`.
pub fn run_all(seeds: std::ops::Range<u64>, options: Options, threads: usize, hear: impl FnMut(Report) + Send) {
    let next = AtomicU64::new(seeds.start);
    let hear = Mutex::new(hear);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let report = run(seed, options);
                    (hear.lock().unwrap_or_else(PoisonError::into_inner))(report);
                }
            });
        }
    });
}

async fn live(seed: u64, options: Options, trace: Trace) -> Result<Vec<String>, Failure> {
    let mut universe = Universe::new(seed, trace).await?;
    universe.found().await?;
    universe.network.set_weather(universe.character.weather);
    for _ in 0..options.steps {
        universe.step().await?;
    }
    universe.settle().await?;
    check(&mut universe).await
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("of an unknown kind")
}
