//! Running universes.

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicU64, Ordering},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::FutureExt as _;

use crate::{Failure, check::check, trace::Trace, universe::Universe};

/// How long one step may take by the clock on the wall. Nothing in a universe waits for anything outside of it, so what
/// takes as long as this waits for itself.
const STEP_MAX: Duration = Duration::from_mins(1);
/// The same for the end, in which much happens.
const SETTLE_MAX: Duration = Duration::from_mins(5);

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
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("the operating system gives us what a runtime needs");
    let life = AssertUnwindSafe(live(seed, options, trace.clone())).catch_unwind();
    let findings = match runtime.block_on(life) {
        Ok(Ok(findings)) => findings,
        Ok(Err(failure)) => vec![failure.to_string()],
        Err(panic) => vec![format!("panic: {}", panic_text(&*panic))],
    };
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
    timely(STEP_MAX, universe.found()).await?;
    universe.network.set_weather(universe.character.weather);
    for _ in 0..options.steps {
        timely(STEP_MAX, universe.step()).await?;
    }
    timely(SETTLE_MAX, universe.settle()).await?;
    timely(SETTLE_MAX, check(&mut universe)).await
}

async fn timely<T>(limit: Duration, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let late = || Failure::new(format!("nothing came of it within {limit:?}: something waits for itself"));
    tokio::time::timeout(limit, work).await.map_err(|_| late())?
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("of an unknown kind")
}
