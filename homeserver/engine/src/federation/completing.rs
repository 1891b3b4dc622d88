//! Getting to know all members of rooms that we entered without being told of them, in the background, until a server
//! gives them. What is to be asked for is in the storage, so that a restart forgets nothing. And waiting for that.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rules::RoomSnapshot;
use ruma::{OwnedRoomId, OwnedServerName, RoomId, ServerName, UserId, events::StateEventType};
use storage::{PartialStateRecord, StorageError};
use tokio::{sync::Notify, time::timeout_at};

use crate::{Engine, EngineError, Result};

/// How many rooms are asked for at the same time: each may come with its whole state.
const ROOMS_AT_ONCE: usize = 4;
/// How many rooms are looked at in one round.
const ROUND_ROOMS: usize = 1_000;
/// How many servers are asked for one room before it has to wait.
const SERVERS_AT_A_TIME: usize = 5;
/// How often it is looked whether a room is due again.
const ROUND_INTERVAL: Duration = Duration::from_secs(5);
/// How long a room waits after the first time that no server gave its state; doubles with each.
const RETRY_AFTER_MS: u64 = 5_000;
/// The longest that a room waits. There is no last time: somebody may come back.
const RETRY_AFTER_MAX_MS: u64 = 3_600_000;
/// When a room is asked for of which nobody gives us the state.
const NEVER_TS: u64 = i64::MAX as u64;
/// How long somebody waits for the members of a room: a little less than what proxies allow.
const WAIT_MAX: Duration = Duration::from_secs(50);

/// What is known in memory about rooms that are becoming complete.
#[derive(Default)]
pub(crate) struct Completing {
    /// There is a room to begin with.
    pub(crate) begin: Arc<Notify>,
    /// A room is complete.
    pub(crate) done: Notify,
    /// Whether somebody looks for rooms to complete without being told to.
    is_started: AtomicBool,
    /// The rooms that are being asked for.
    running: Mutex<HashSet<OwnedRoomId>>,
}

impl Completing {
    /// Whether nobody asked for the room yet; from now on somebody does.
    fn claim(&self, room_id: &RoomId) -> bool {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.len() < ROOMS_AT_ONCE && running.insert(room_id.to_owned())
    }

    fn release(&self, room_id: &RoomId) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(room_id);
        self.begin.notify_one();
    }
}

impl Engine {
    /// Starts the task that looks for rooms of which not all members are known, and asks for these. It does not keep the
    /// engine alive, and ends with it. Who does not start it calls [`Engine::complete_due_states`].
    pub fn start_completing(&self) {
        let (engine, begin) = (Arc::downgrade(&self.inner), Arc::clone(&self.inner.rooms.completing.begin));
        self.inner.rooms.completing.is_started.store(true, Ordering::Relaxed);
        tokio::spawn(async move {
            while let Some(inner) = engine.upgrade() {
                match (Self { inner }).begin_completing().await {
                    Ok(()) => {}
                    Err(EngineError::Storage(StorageError::Closed)) => return,
                    Err(error) => tracing::warn!(%error, "cannot look for rooms of which not all members are known"),
                }
                tokio::time::timeout(ROUND_INTERVAL, begin.notified()).await.unwrap_or_default();
            }
        });
    }

    /// Starts a task for each room that is due, as far as others leave room for it.
    async fn begin_completing(&self) -> Result<()> {
        let now_ms = self.world().clock.now_ms();
        for record in self.storage().partial_states(ROUND_ROOMS).await? {
            if record.retry_at_ts > now_ms {
                break;
            }
            if !self.inner.rooms.completing.claim(&record.room_id) {
                continue;
            }
            let engine = self.clone();
            tokio::spawn(async move {
                let room_id = record.room_id.clone();
                if let Err(error) = engine.complete_by_any(record).await {
                    tracing::warn!(room.id = %room_id, %error, "cannot complete the state of a room");
                }
                engine.inner.rooms.completing.release(&room_id);
            });
        }
        Ok(())
    }

    /// Asks for the states that are due, one after the other, but for those that are being asked for already.
    pub async fn complete_due_states(&self) -> Result<()> {
        let now_ms = self.world().clock.now_ms();
        let mut due = self.storage().partial_states(ROUND_ROOMS).await?;
        due.retain(|record| record.retry_at_ts <= now_ms);
        for record in due {
            let room_id = record.room_id.clone();
            if self.inner.rooms.completing.claim(&room_id) {
                let done = self.complete_by_any(record).await;
                self.inner.rooms.completing.release(&room_id);
                done?;
            }
        }
        Ok(())
    }

    /// Asks some servers, and postpones the room when none gives its state.
    async fn complete_by_any(&self, mut record: PartialStateRecord) -> Result<()> {
        let Some(room) = self.resident_room(&record.room_id).await? else {
            // All of our users have left. Nobody would tell us; who joins again is told of all members.
            record.retry_at_ts = NEVER_TS;
            return Ok(self.storage().postpone_partial_state(&record).await?);
        };
        for server in servers_to_ask(&record, &room, self.server_name()) {
            match self.complete_by(&record, &server).await {
                Ok(()) => {
                    tracing::info!(room.id = %record.room_id, destination = %server, "all members of a room are known");
                    self.inner.rooms.completing.done.notify_waiters();
                    return Ok(());
                }
                Err(reason) => {
                    tracing::info!(room.id = %record.room_id, destination = %server, %reason, "the state of a room is not given");
                }
            }
        }
        let wait_ms = RETRY_AFTER_MS.saturating_mul(1 << record.failures.min(20)).min(RETRY_AFTER_MAX_MS);
        let jitter_ms = self.world().random_below(wait_ms / 4 + 1);
        record.failures = record.failures.saturating_add(1);
        record.retry_at_ts = self.world().clock.now_ms().saturating_add(wait_ms + jitter_ms);
        Ok(self.storage().postpone_partial_state(&record).await?)
    }

    /// The room once all of its members are known; fails when that takes too long, or nobody sees to it.
    pub(crate) async fn whole_room(&self, room_id: &RoomId) -> Result<Arc<RoomSnapshot>> {
        let deadline = tokio::time::Instant::now() + WAIT_MAX;
        let mut stopping = self.inner.sync.stopping();
        loop {
            let mut done = std::pin::pin!(self.inner.rooms.completing.done.notified());
            done.as_mut().enable();
            let room = self.known_room(room_id).await?;
            if !room.is_partial() {
                return Ok(room);
            }
            if !self.inner.rooms.completing.is_started.load(Ordering::Relaxed) {
                return Err(EngineError::MembersUnknown);
            }
            tokio::select! {
                waited = timeout_at(deadline, done) => waited.map_err(|_| EngineError::MembersUnknown)?,
                _ = stopping.wait_for(|stopping| *stopping) => return Err(EngineError::MembersUnknown),
            }
        }
    }

    /// The room once it is known what somebody is in it.
    pub(crate) async fn room_with_member(
        &self,
        room: Arc<RoomSnapshot>,
        user_id: &UserId,
    ) -> Result<Arc<RoomSnapshot>> {
        let is_known = room.state_value(&StateEventType::RoomMember, user_id.as_str()).is_some();
        if is_known || !room.is_partial() { Ok(room) } else { self.whole_room(&room.room_id).await }
    }
}

/// Who let us in first, and then the others, also those that came since, each time from another one on.
fn servers_to_ask(record: &PartialStateRecord, room: &RoomSnapshot, own: &ServerName) -> Vec<OwnedServerName> {
    let others: BTreeSet<&ServerName> = record.servers.iter().map(|server| &**server).chain(room.servers()).collect();
    let mut others: Vec<&ServerName> =
        others.into_iter().filter(|server| **server != record.entered_by && *server != own).collect();
    let asked = usize::try_from(record.failures).unwrap_or(0).saturating_mul(SERVERS_AT_A_TIME - 1);
    if !others.is_empty() {
        let first = asked % others.len();
        others.rotate_left(first);
    }
    let first = std::iter::once(&*record.entered_by);
    first.chain(others).take(SERVERS_AT_A_TIME).map(ToOwned::to_owned).collect()
}
