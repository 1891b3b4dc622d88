//! The task that has the engine forget what nobody will ask for again.

use std::time::Duration;

use engine::Engine;

use crate::stopping::Stopping;

/// After the start, when all clients come back, there is enough to do.
const FIRST_AFTER: Duration = Duration::from_mins(10);
/// How often. What is forgotten is weeks old, so that some hours do not matter; rounds stay short.
const INTERVAL: Duration = Duration::from_hours(1);

/// Keeps house until the server stops.
pub(crate) async fn keep_house(engine: Engine, stopping: Stopping) {
    let mut pause = FIRST_AFTER;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stopping.asked() => return,
        }
        pause = INTERVAL;
        match engine.keep_house().await {
            Ok(forgotten) => tracing::debug!(forgotten, "kept house"),
            Err(error) => tracing::warn!(%error, "what is old could not be forgotten; trying again later"),
        }
    }
}
