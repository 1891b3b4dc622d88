//! Puts load on homeservers and says what it cost: Nudge on SQLite and on PostgreSQL, and any other server beside them, by
//! the same scenarios in the same run.
//!
//! `run.sh` builds what is needed and runs it with Synapse; docs/performance.md is written from what it prints.

mod figures;
mod peers;
mod scenarios;
mod target;

use clap::Parser;

use crate::{
    figures::Report,
    scenarios::{LONG_SCENARIOS, SCENARIOS, Scale, Scenario},
    target::Target,
};

/// Puts load on homeservers and prints a table of what it cost.
#[derive(Parser)]
struct Arguments {
    /// The scenarios to run; if none is named, all but those that take long.
    #[arg(value_parser = scenario)]
    scenarios: Vec<&'static Scenario>,
    /// How often each is run. A difference counts where the ranges of the rounds do not overlap.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Divides the number of messages, rooms and requests, for a quick look. Figures of such a run are for nobody else.
    #[arg(long, default_value_t = 1)]
    scale_down: u32,
    /// How many members a large room of other servers has: 2,000 when it is joined, 50,000 when messages are sent to it.
    #[arg(long)]
    members: Option<usize>,
    /// How many events are in a room with a long history: 1,000,000.
    #[arg(long)]
    events: Option<usize>,
    /// Where another homeserver answers that lets anybody register, to be measured in the same run.
    #[arg(long, env = "LOAD_BESIDE_URL", requires = "beside_pid")]
    beside_url: Option<String>,
    /// The process of that server.
    #[arg(long, env = "LOAD_BESIDE_PID")]
    beside_pid: Option<u32>,
    /// What to call it.
    #[arg(long, env = "LOAD_BESIDE_NAME", default_value = "other")]
    beside_name: String,
}

/// The scenario of that name.
fn scenario(name: &str) -> Result<&'static Scenario, String> {
    let all = || SCENARIOS.iter().chain(LONG_SCENARIOS);
    let names = || all().map(|scenario| scenario.name).collect::<Vec<_>>().join(", ");
    all().find(|scenario| scenario.name == name).ok_or_else(|| format!("there are {}", names()))
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    // An error means that there is one already.
    rustls::crypto::ring::default_provider().install_default().ok();
    let mut targets = vec![Target::nudge_on_sqlite().await];
    targets.extend(Target::nudge_on_postgres().await);
    if let (Some(url), Some(pid)) = (arguments.beside_url, arguments.beside_pid) {
        targets.push(Target::running(arguments.beside_name, url, pid));
    }
    let mut report = Report::new(targets.iter().map(|target| target.name.clone()).collect());
    let scale = Scale { down: arguments.scale_down, members: arguments.members, events: arguments.events };
    let scenarios = if arguments.scenarios.is_empty() { SCENARIOS.iter().collect() } else { arguments.scenarios };
    for round in 1..=arguments.rounds {
        for scenario in &scenarios {
            for (column, target) in targets.iter().enumerate() {
                eprintln!("round {round}: {} on {}", scenario.name, target.name);
                let figures = (scenario.run)(target, scale).await;
                report.add(column, scenario.title, figures);
            }
        }
    }
    print!("{report}");
    for target in &targets {
        println!("{}: {} MB resident after all rounds", target.name, target.memory_kib() / 1024);
    }
    for target in targets {
        target.stop().await;
    }
}
