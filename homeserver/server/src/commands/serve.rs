//! `nudge serve`.

use std::process::ExitCode;

use super::{Outcome, block_on};
use crate::{
    configuration::{self, Sources},
    logging, serve,
};

pub(crate) fn run(sources: &Sources) -> Outcome {
    let loaded = configuration::load(sources)?;
    logging::start(loaded.configuration.log_format, &loaded.configuration.log_filter);
    block_on(async {
        serve::serve(&loaded).await?;
        Ok(ExitCode::SUCCESS)
    })
}
