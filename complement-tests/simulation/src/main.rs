//! Runs the simulation: many seeds one after the other, or one seed with all that happens in it.

use std::{collections::BTreeMap, process::ExitCode};

use clap::Parser;
use simulation::{Options, Report, run, run_all};
use tracing_subscriber::EnvFilter;

/// Many servers in one process, one seeded network between them, seeded users who use them.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many things happen in each before the network heals.
    #[arg(long, default_value_t = Options::default().steps)]
    steps: usize,
    /// How many run at the same time.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Run each seed twice, and tell those of which the second run is not like the first.
    #[arg(long)]
    twice: bool,
    /// Run this seed only, and tell all that happens. With `RUST_LOG` set, what the servers log goes to standard error.
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.seed.is_some() {
        tracing_subscriber::fmt().with_env_filter(EnvFilter::from_default_env()).with_writer(std::io::stderr).init();
    }
    let options = Options { steps: arguments.steps };
    let failed = match arguments.seed {
        Some(seed) => one(seed, options),
        None if arguments.twice => differing(&arguments, options),
        None => many(&arguments, options),
    };
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(seed: u64, options: Options) -> u64 {
    let report = run(seed, options);
    for line in &report.trace {
        println!("{line}");
    }
    println!("digest {}", report.digest);
    tell(&report);
    u64::from(!report.findings.is_empty())
}

fn many(arguments: &Arguments, options: Options) -> u64 {
    let mut failed = 0;
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let seeds = arguments.from..arguments.from + arguments.seeds;
    run_all(seeds, options, arguments.threads, |report| {
        failed += u64::from(!report.findings.is_empty());
        for (what, count) in &report.counts {
            *counts.entry(what.clone()).or_default() += count;
        }
        tell(&report);
    });
    println!("{} seeds, of which {failed} failed", arguments.seeds);
    for (what, count) in counts {
        println!("{count:>8} {what}");
    }
    failed
}

fn differing(arguments: &Arguments, options: Options) -> u64 {
    let mut differing = 0;
    let seeds = arguments.from..arguments.from + arguments.seeds;
    run_all(seeds, options, arguments.threads, |first| {
        let second = run(first.seed, options);
        if let Some(difference) = first.difference(&second) {
            println!("seed {} differs: {difference}", first.seed);
            differing += 1;
        }
    });
    println!("{} seeds, of which {differing} differed", arguments.seeds);
    differing
}

fn tell(report: &Report) {
    for finding in &report.findings {
        println!("seed {}: {finding}", report.seed);
    }
}
