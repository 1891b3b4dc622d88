//! `nudge fsck`.

use std::process::ExitCode;

use super::{Outcome, with_configuration};
use crate::{
    configuration::{Configuration, Sources},
    media, wiring,
};

pub(crate) fn run(sources: &Sources) -> Outcome {
    with_configuration(sources, async |loaded| {
        let database = loaded.configuration.database();
        if let Some(missing) = database.sqlite_file().filter(|file| !file.exists()) {
            return Err(format!("there is no database at {}", missing.display()).into());
        }
        check(&loaded.configuration).await
    })
}

/// Checks what is stored, and says what is found.
pub(crate) async fn check(configuration: &Configuration) -> Outcome {
    let database = configuration.database();
    let storage = wiring::open_storage(configuration).await?;
    let violations = storage.fsck().await?;
    let store = wiring::open_store(configuration)?;
    let violations = violations.iter().map(ToString::to_string);
    let violations: Vec<String> = violations.chain(media::missing_files(&storage, &*store).await?).collect();
    storage.close().await;
    if violations.is_empty() {
        println!("{database} is consistent");
        return Ok(ExitCode::SUCCESS);
    }
    for violation in &violations {
        println!("{violation}");
    }
    println!("{database} violates its invariants in {} places", violations.len());
    Ok(ExitCode::FAILURE)
}
