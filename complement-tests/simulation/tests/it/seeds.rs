//! Many universes, each with all that is checked in it.

use std::collections::BTreeMap;

use simulation::{Options, Report, run_all};

/// How many seeds run unless `NUDGE_SIMULATION_SEEDS` says otherwise.
const SEEDS: u64 = 200;
/// As many as the machines have cores that this is run on.
const THREADS: usize = 2;

/// What happens in so many universes at least once, or they do not test what they are meant to.
const MUST_HAPPEN: [&str; 29] = [
    "CreateRoom",
    "Invite",
    "Join",
    "Leave",
    "Kick",
    "Ban",
    "Unban",
    "PowerLevels",
    "Topic",
    "Name",
    "JoinRules",
    "HistoryVisibility",
    "ServerAcl",
    "DisplayName",
    "Send",
    "SendAgain",
    "Redact",
    "Receipt",
    "Typing",
    "Page",
    "Restart",
    "Rotate",
    "Cut",
    "Complete",
    "states that became complete",
    "pairs of servers that agree on a room",
    "acknowledged events that had to arrive",
    "acknowledged events that had to be handed over",
    "receipts that had to arrive",
];

#[test]
fn r_23_all_seeds_hold() {
    let seeds = std::env::var("NUDGE_SIMULATION_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS);
    let mut failed: Vec<Report> = Vec::new();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    run_all(0..seeds, Options::default(), THREADS, |report| {
        for (what, count) in &report.counts {
            *counts.entry(what.clone()).or_default() += count;
        }
        if !report.findings.is_empty() {
            failed.push(report);
        }
    });
    if let Some(first) = failed.iter().min_by_key(|report| report.seed) {
        println!("{}", first.trace.join("\n"));
        for report in &failed {
            println!("seed {}: {}", report.seed, report.findings.join("\n    "));
        }
        let numbers: Vec<u64> = failed.iter().map(|report| report.seed).collect();
        panic!("seeds {numbers:?} failed; `simulation --seed {}` replays the one above", first.seed);
    }
    for what in MUST_HAPPEN.iter().filter(|_| seeds >= SEEDS) {
        assert!(counts.contains_key(*what), "{what} never happened: {counts:#?}");
    }
}
