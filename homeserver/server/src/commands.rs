//! What can be asked of `nudge` on the command line.

pub(crate) mod backup;
pub(crate) mod config;
pub(crate) mod fsck;
pub(crate) mod media;
pub(crate) mod registration_token;
pub(crate) mod room;
pub(crate) mod serve;
pub(crate) mod user;

use std::{error::Error, process::ExitCode};

use crate::{
    configuration::{self, Loaded, LogFormat, Sources},
    logging,
};

/// How a command ended; errors are shown to the operator.
pub(crate) type Outcome = Result<ExitCode, Box<dyn Error>>;

/// Loads the configuration for a command that does its work and ends, and runs it. Only warnings are logged.
fn with_configuration<F>(sources: &Sources, work: impl FnOnce(Loaded) -> F) -> Outcome
where
    F: Future<Output = Outcome>,
{
    let loaded = configuration::load(sources)?;
    logging::start(LogFormat::Human, &configuration::Filter("warn".to_owned()));
    block_on(work(loaded))
}

/// Runs to the end on all cores.
fn block_on<F: Future<Output = Outcome>>(work: F) -> Outcome {
    // TLS needs to know its cryptography; a second call in one process changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}
