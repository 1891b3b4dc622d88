//! Making what was said lately quick to search, and the names of who joined rooms.
//!
//! Texts can be searched for from the commit on that stores them; this only keeps searching from becoming slow. So it
//! is no harm when it is late, or never done because the process stops.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use storage::{Storage, StorageError};

use crate::{Engine, Inner};

/// How often it is looked whether rooms have enough new texts. In between they are searched one by one.
const INTERVAL: Duration = Duration::from_mins(1);
/// How long to wait between two goes when there is more to do, so that commits are not held up.
const BREATHER: Duration = Duration::from_millis(50);

impl Engine {
    /// Starts the task. It does not keep the engine alive, and ends with it.
    pub(crate) fn start_sealing(&self) {
        let (engine, stopping) = (Arc::downgrade(&self.inner), self.inner.sync.stopping());
        let tasks = self.storage().tasks();
        tokio::spawn(async move { tasks.supervise("sealing", || seal(engine.clone(), stopping.clone())).await });
    }
}

async fn seal(engine: Weak<Inner>, mut stopping: tokio::sync::watch::Receiver<bool>) {
    let mut head = None;
    loop {
        let Some(inner) = engine.upgrade() else { return };
        let storage = inner.storage.clone();
        drop(inner);
        let mut pause = INTERVAL;
        if head != Some(storage.head()) {
            match pass(&storage).await {
                Ok(0) => head = Some(storage.head()),
                Ok(_) => pause = BREATHER,
                Err(StorageError::Closed) => return,
                Err(error) => tracing::warn!(%error, "texts cannot be indexed; searches take longer"),
            }
        }
        drop(storage);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
    }
}

/// Returns how much was done; when it is more than nothing, there may be more to do.
async fn pass(storage: &Storage) -> Result<usize, StorageError> {
    Ok(storage.seal_search_texts().await? + storage.index_members().await?)
}
