//! `nudge config`.

use std::process::ExitCode;

use super::Outcome;
use crate::{
    configuration::{self, Sources},
    wiring,
};

pub(crate) fn example() -> ExitCode {
    print!("{}", configuration::example());
    ExitCode::SUCCESS
}

pub(crate) fn reference() -> ExitCode {
    print!("{}", configuration::reference_page());
    ExitCode::SUCCESS
}

pub(crate) fn check(sources: &Sources) -> Outcome {
    let loaded = configuration::load(sources)?;
    let _ = rustls::crypto::ring::default_provider().install_default();
    wiring::certificate(&loaded.configuration)?;
    let from = loaded.file.as_ref().map_or("the defaults for development".into(), |path| path.display().to_string());
    println!("The configuration can be used: {from}");
    for notice in &loaded.notices {
        println!("Note: {notice}");
    }
    Ok(ExitCode::SUCCESS)
}
