//! `nudge-aibots`.

use std::path::PathBuf;
use std::process::ExitCode;

use aibots::{Configuration, registration, system};
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
        Command::Run => runtime.block_on(async {
            let running = aibots::start(configuration, world).await?;
            interrupted().await?;
            running.stop().await;
            Ok::<(), Box<dyn std::error::Error>>(())
        })?,
    }
    Ok(())
}

#[cfg(unix)]
async fn interrupted() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        outcome = tokio::signal::ctrl_c() => outcome,
        _ = terminated.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn interrupted() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}
