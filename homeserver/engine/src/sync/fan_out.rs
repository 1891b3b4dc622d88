//! The reader of the log that wakes whoever waits.

use std::{sync::Weak, time::Duration};

use rules::change::Position;
use storage::{LogEntry, LogKind, StorageError};
use tokio::sync::watch;

use super::active::News;
use crate::{Engine, Inner, Result};

/// How many log entries are read at once.
const BATCH_ENTRIES: usize = 500;
/// How long to wait before reading again after a failure of the storage.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// How often users who no longer sync are dropped.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

impl Engine {
    /// Starts the one task that follows the log. It does not keep the engine alive, and ends with it.
    pub(crate) fn start_fan_out(&self) {
        let engine = std::sync::Arc::downgrade(&self.inner);
        let log = self.storage().subscribe();
        let stopping = self.inner.sync.stopping();
        let tasks = self.storage().tasks();
        let follow = move || follow(engine.clone(), log.clone(), stopping.clone());
        tokio::spawn(async move { tasks.supervise("fan_out", follow).await });
    }

    /// Reads what is new in the log. Who reads a position from `seen` can rely on all before it to be heard.
    async fn read_log(&self, head: Position) -> Result<(), StorageError> {
        loop {
            let seen = self.inner.sync.seen();
            if seen >= head {
                return Ok(());
            }
            let entries = self.storage().log_since(seen, BATCH_ENTRIES).await?;
            let Some(last) = entries.last() else { return Ok(()) };
            for entry in &entries {
                self.fan_out(entry).await?;
            }
            self.inner.sync.advance(last.position);
        }
    }

    async fn fan_out(&self, entry: &LogEntry) -> Result<(), StorageError> {
        let users = &self.inner.sync.users;
        let position = entry.position;
        match (entry.kind, &entry.room_id, &entry.user_id) {
            (LogKind::Event | LogKind::CompleteState, Some(room_id), _) => {
                self.refresh_snapshot(room_id, position);
                users.wake_room(room_id, News { position, ..News::default() });
            }
            (LogKind::Receipt, Some(room_id), _) => users.wake_room(room_id, News { position, ..News::default() }),
            (LogKind::Membership, Some(room_id), Some(user_id)) => {
                let joined = entry.membership == Some(ruma::events::room::member::MembershipState::Join);
                users.set_joined(user_id, room_id, joined, position);
                users.wake_user(user_id, position);
                if joined {
                    self.introduce_later(user_id, room_id);
                }
            }
            (LogKind::ToDevice | LogKind::ThreadSubscription, _, Some(user_id)) => users.wake_user(user_id, position),
            (LogKind::DeviceList, _, Some(user_id)) => {
                users.wake_user(user_id, position);
                for room_id in self.storage().rooms_with(user_id).await? {
                    users.wake_room(&room_id, News { position, ..News::default() });
                }
            }
            (LogKind::Edu | LogKind::Resend, _, _) => {}
            (LogKind::AccountData, _, Some(user_id)) => {
                if entry.room_id.is_none() {
                    self.inner.push.forget(user_id);
                }
                users.wake_user(user_id, position);
            }
            (kind, _, _) => tracing::error!(position, ?kind, "a log entry lacks its room or its user"),
        }
        Ok(())
    }
}

impl Engine {
    /// Tells those in a room of each other's presence, which may take a while.
    fn introduce_later(&self, user_id: &ruma::UserId, room_id: &ruma::RoomId) {
        if !self.settings().presence {
            return;
        }
        let (engine, user_id, room_id) = (self.clone(), user_id.to_owned(), room_id.to_owned());
        tokio::spawn(async move {
            if let Err(error) = engine.introduce(&user_id, &room_id).await {
                tracing::warn!(room.id = %room_id, %error, "cannot tell who is present");
            }
        });
    }
}

async fn follow(engine: Weak<Inner>, mut log: watch::Receiver<Position>, mut stopping: watch::Receiver<bool>) {
    let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        let head = *log.borrow_and_update();
        let Some(inner) = engine.upgrade() else { return };
        let read = Engine { inner }.read_log(head).await;
        match read {
            Ok(()) => {}
            Err(StorageError::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "cannot read the log; whoever waits for it waits longer");
                tokio::time::sleep(RETRY_DELAY).await;
                continue;
            }
        }
        tokio::select! {
            changed = log.changed() => if changed.is_err() { return },
            () = gone(&mut stopping) => return,
            _ = sweep.tick() => if let Some(inner) = engine.upgrade() { inner.sync.users.sweep() },
        }
    }
}

/// Waits until the engine is gone.
async fn gone(stopping: &mut watch::Receiver<bool>) {
    while stopping.changed().await.is_ok() {}
}
