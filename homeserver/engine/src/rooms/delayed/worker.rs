//! Sends events when their time has come, and drops those that somebody else's have overtaken.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use rules::change::Position;
use storage::{LogKind, StorageError};
use tokio::{sync::watch, time::Instant};

use crate::{Engine, EngineError, Inner, Result};

/// How many events are sent before it is looked again which are due.
const BATCH_EVENTS: usize = 50;
/// How many log entries are read at once.
const BATCH_ENTRIES: usize = 500;
/// How long to wait before trying again what failed by our fault.
const RETRY_DELAY: Duration = Duration::from_secs(5);
/// The longest sleep: the clock on the wall may have been set.
const SLEEP_MAX: Duration = Duration::from_mins(1);

impl Engine {
    /// Starts the task. It does not keep the engine alive, and ends with it.
    pub(crate) fn start_delayed(&self) {
        let (tasks, engine, head) = (self.storage().tasks(), Arc::downgrade(&self.inner), self.storage().head());
        tokio::spawn(async move { tasks.supervise("delayed_events", || work(engine.clone(), head)).await });
    }

    /// Sends the events whose time has come. Returns how many those were.
    pub async fn send_due_delayed_events(&self) -> Result<usize> {
        let mut sent = 0;
        loop {
            let due = self.storage().due_delayed_events(self.world().clock.now_ms(), BATCH_EVENTS).await?;
            for event in &due {
                match self.send_delayed(event).await {
                    Err(error @ (EngineError::Busy | EngineError::Storage(_))) => return Err(error),
                    Err(error) => tracing::info!(room.id = %event.room_id, %error, "an event that waited is not sent"),
                    Ok(()) => {}
                }
            }
            sent += due.len();
            if due.len() < BATCH_EVENTS {
                return Ok(sent);
            }
        }
    }

    /// Drops what waits to set state that another user has set meanwhile. Returns up to where the log was read.
    pub async fn drop_overtaken_delayed_events(&self, since: Position) -> Result<Position> {
        if self.inner.rooms.delayed.has_none() {
            return Ok(self.storage().head());
        }
        let mut read = since;
        loop {
            let entries = self.storage().log_since(read, BATCH_ENTRIES).await?;
            let Some(last) = entries.last() else { return Ok(read) };
            read = last.position;
            for entry in entries.iter().filter(|entry| entry.kind == LogKind::Event) {
                let (Some(room_id), Some(event_id)) = (&entry.room_id, &entry.event_id) else { continue };
                if !self.inner.rooms.delayed.has_state(room_id) {
                    continue;
                }
                let Some(event) = self.stored_event(event_id).await? else { continue };
                if let Some(state_key) = &event.pdu.state_key {
                    let event_type = event.pdu.event_type.to_string();
                    let sender = Some(&*event.pdu.sender);
                    self.storage().cancel_delayed_state(room_id, &event_type, state_key, sender).await?;
                }
            }
        }
    }

    /// Sends what is due, and says how long nothing will be.
    async fn delayed_pass(&self, is_known: &mut bool) -> Result<Option<Duration>> {
        if !*is_known {
            for room_id in self.storage().rooms_with_delayed_state().await? {
                self.inner.rooms.delayed.note_state(&room_id);
            }
            *is_known = true;
        }
        self.send_due_delayed_events().await?;
        let next = self.storage().next_delayed_event_ts().await?;
        Ok(next.map(|next| Duration::from_millis(next.saturating_sub(self.world().clock.now_ms())).min(SLEEP_MAX)))
    }
}

async fn work(engine: Weak<Inner>, mut read: Position) {
    let Some(inner) = engine.upgrade() else { return };
    let changed = Arc::clone(&inner.rooms.delayed.changed);
    let mut log = inner.storage.subscribe();
    let mut stopping = inner.sync.stopping();
    drop(inner);
    let mut is_known = false;
    // When to look at what is due; `None` when nothing waits.
    let mut next = Some(Duration::ZERO);
    loop {
        let begun = Instant::now();
        tokio::select! {
            () = sleep(next) => {}
            () = changed.notified() => {}
            grown = log.changed() => {
                if grown.is_err() { return }
                next = next.map(|next| next.saturating_sub(begun.elapsed()));
                let Some(inner) = engine.upgrade() else { return };
                match (Engine { inner }).drop_overtaken_delayed_events(read).await {
                    Ok(position) => read = position,
                    Err(error) => tracing::warn!(%error, "an event that waits may come after what overtook it"),
                }
                continue;
            }
            () = stopped(&mut stopping) => return,
        }
        let Some(inner) = engine.upgrade() else { return };
        match (Engine { inner }).delayed_pass(&mut is_known).await {
            Ok(pause) => next = pause,
            Err(EngineError::Storage(StorageError::Closed)) => return,
            Err(error) => {
                tracing::warn!(%error, "events that wait have to wait longer");
                next = Some(RETRY_DELAY);
            }
        }
    }
}

async fn sleep(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that the engine is gone, which comes to the same.
    stopping.wait_for(|stopping| *stopping).await.ok();
}
