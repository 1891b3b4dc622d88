//! The tasks that have the engine forget what nobody will ask for again, and judge again what could not be judged.

use std::{sync::Arc, time::Duration};

use engine::Engine;
use storage::Tasks;

use crate::stopping::Stopping;

/// After the start, when all clients come back, there is enough to do.
const FIRST_AFTER: Duration = Duration::from_mins(10);
/// How often. What is forgotten is weeks old, so that some hours do not matter; rounds stay short.
const INTERVAL: Duration = Duration::from_hours(1);

/// How often it is looked for events that waited for what they build upon. They have pauses of their own, of a minute and
/// more.
const SET_ASIDE_INTERVAL: Duration = Duration::from_mins(1);

/// Judges again what waited for what it builds upon, and ends what was muted for a while, until the server stops.
pub(crate) async fn judge_set_aside(tasks: Arc<Tasks>, engine: Engine, stopping: Stopping) {
    tasks.supervise("set_aside", || judge(&engine, &stopping)).await;
}

async fn judge(engine: &Engine, stopping: &Stopping) {
    if let Err(error) = engine.take_up_mutes().await {
        tracing::warn!(%error, "it could not be found out which rooms are to be muted for a while");
    }
    loop {
        tokio::select! {
            () = tokio::time::sleep(SET_ASIDE_INTERVAL) => {}
            () = stopping.asked() => return,
        }
        if let Err(error) = engine.end_mutes().await {
            tracing::warn!(%error, "rooms that were muted for a while could not be unmuted; trying again later");
        }
        if let Err(error) = engine.judge_set_aside().await {
            tracing::warn!(%error, "events that were set aside could not be judged; trying again later");
        }
    }
}

/// Keeps house until the server stops.
pub(crate) async fn keep_house(tasks: Arc<Tasks>, engine: Engine, stopping: Stopping) {
    tasks.supervise("housekeeping", || keep(&engine, &stopping)).await;
}

async fn keep(engine: &Engine, stopping: &Stopping) {
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
