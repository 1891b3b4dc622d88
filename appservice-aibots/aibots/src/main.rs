//! `nudge-aibots`.

use std::path::PathBuf;
use std::process::ExitCode;

use aibots::{Configuration, MetricsPage, Running, registration, system};
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(name = "nudge-aibots", version, about = "AI bots as an application service, beside any Matrix homeserver")]
struct Arguments {
    /// The configuration.
    #[arg(long, short, global = true, env = "NUDGE_AIBOTS_CONFIG", default_value = "aibots.toml")]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes the registration for the homeserver.
    Registration,
    /// Checks the configuration, and whether the homeserver and this service reach each other.
    Check,
    /// Runs the bots until it is interrupted.
    Run,
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_env("NUDGE_AIBOTS_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nudge-aibots: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let configuration = Configuration::read(&arguments.config)?;
    let world = system::world();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match arguments.command {
        Command::Registration => {
            let path = registration::write(&configuration, &world)?;
            println!("{}", path.display());
            println!(
                "Name this file in the configuration of the homeserver (Synapse: `app_service_config_files`), then run the bots."
            );
        }
        Command::Check => println!("{}", runtime.block_on(aibots::check(configuration, world))?),
        Command::Run => runtime.block_on(run_bots(arguments, configuration))?,
    }
    Ok(())
}

/// Runs the bots until it is told to stop, with the configuration as it was read last.
async fn run_bots(arguments: &Arguments, mut configuration: Configuration) -> Result<(), Box<dyn std::error::Error>> {
    let _metrics = match configuration.service.metrics_listen {
        Some(address) => Some(MetricsPage::open(address).await?),
        None => None,
    };
    let mut signals = Signals::new()?;
    let mut running = aibots::start(configuration.clone(), system::world()).await?;
    while signals.next().await? == Told::ReadAgain {
        match Configuration::read(&arguments.config) {
            Ok(new) => (running, configuration) = begin_anew(running, configuration, new).await?,
            Err(error) => tracing::error!(%error, "the configuration is not taken; the bots go on as they were"),
        }
    }
    running.stop().await;
    Ok(())
}

/// Goes over to a new configuration. What bots are in the middle of goes on with it.
async fn begin_anew(
    running: Running,
    old: Configuration,
    new: Configuration,
) -> Result<(Running, Configuration), aibots::StartError> {
    running.stop().await;
    match aibots::start(new.clone(), system::world()).await {
        Ok(running) => {
            tracing::info!("the configuration was read again");
            Ok((running, new))
        }
        Err(error) => {
            tracing::error!(%error, "the bots cannot start with the new configuration; they go on with the old one");
            Ok((aibots::start(old.clone(), system::world()).await?, old))
        }
    }
}

/// What the operator tells the program by a signal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    /// SIGHUP: to read its configuration again.
    #[cfg_attr(not(unix), expect(dead_code, reason = "there is no such signal"))]
    ReadAgain,
    /// SIGTERM or SIGINT: to end.
    Stop,
}

#[cfg(unix)]
struct Signals {
    terminated: tokio::signal::unix::Signal,
    hung_up: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminated: signal(SignalKind::terminate())?, hung_up: signal(SignalKind::hangup())? })
    }

    async fn next(&mut self) -> std::io::Result<Told> {
        tokio::select! {
            outcome = tokio::signal::ctrl_c() => outcome.map(|()| Told::Stop),
            _ = self.terminated.recv() => Ok(Told::Stop),
            _ = self.hung_up.recv() => Ok(Told::ReadAgain),
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> std::io::Result<Told> {
        tokio::signal::ctrl_c().await.map(|()| Told::Stop)
    }
}
