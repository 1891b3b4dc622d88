//! Puts load on homeservers and says what it cost: Nudge on SQLite and on PostgreSQL, and any other server beside them, by
//! the same scenarios in the same run.
//!
//! `run.sh` builds what is needed and runs it with Synapse; docs/performance.md is written from what it prints.

mod figures;
mod scenarios;
mod target;

use clap::Parser;

use crate::{
    figures::Report,
    scenarios::{SCENARIOS, Scale},
    target::Target,
};

/// Puts load on homeservers and prints a table of what it cost.
#[derive(Parser)]
struct Arguments {
    /// The scenarios to run; all if none is named.
    scenarios: Vec<String>,
    /// How often each is run. A difference counts where the ranges of the rounds do not overlap.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Divides the number of messages, rooms and requests, for a quick look. Figures of such a run are for nobody else.
    #[arg(long, default_value_t = 1)]
    scale_down: u32,
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

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    if let Some(unknown) = arguments.scenarios.iter().find(|name| SCENARIOS.iter().all(|known| known.name != **name)) {
        let names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        eprintln!("load: no scenario {unknown:?}; there are {}", names.join(", "));
        std::process::exit(2);
    }
    // An error means that there is one already.
    rustls::crypto::ring::default_provider().install_default().ok();
    let mut targets = vec![Target::nudge_on_sqlite().await];
    targets.extend(Target::nudge_on_postgres().await);
    if let (Some(url), Some(pid)) = (arguments.beside_url, arguments.beside_pid) {
        targets.push(Target::running(arguments.beside_name, url, pid));
    }
    let mut report = Report::new(targets.iter().map(|target| target.name.clone()).collect());
    let is_wanted =
        |name: &str| arguments.scenarios.is_empty() || arguments.scenarios.iter().any(|wanted| wanted == name);
    for round in 1..=arguments.rounds {
        for scenario in SCENARIOS.iter().filter(|scenario| is_wanted(scenario.name)) {
            for (column, target) in targets.iter().enumerate() {
                eprintln!("round {round}: {} on {}", scenario.name, target.name);
                let figures = (scenario.run)(target, Scale(arguments.scale_down)).await;
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
