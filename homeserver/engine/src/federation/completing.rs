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
use storage::{MembersKnown, PartialStateRecord, StorageError};
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

/// A room that somebody asks for, and nobody else meanwhile.
struct Turn {
    engine: Engine,
    record: PartialStateRecord,
}

impl Turn {
    /// Nothing when somebody asks for the room already, or for too many.
    fn begin(engine: &Engine, record: PartialStateRecord) -> Option<Self> {
        let mut running = engine.inner.rooms.completing.running.lock().unwrap_or_else(PoisonError::into_inner);
        let begins = running.len() < ROOMS_AT_ONCE && running.insert(record.room_id.clone());
        begins.then(|| Self { engine: engine.clone(), record })
    }

    async fn take(&self) -> Result<()> {
        self.engine.complete_by_any(self.record.clone()).await
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let running = &self.engine.inner.rooms.completing.running;
        running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.record.room_id);
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
            let Some(turn) = Turn::begin(self, record) else { continue };
            let begin = Arc::clone(&self.inner.rooms.completing.begin);
            tokio::spawn(async move {
                let done = turn.take().await;
                let room_id = turn.record.room_id.clone();
                drop(turn);
                match done {
                    Ok(()) => begin.notify_one(),
                    // What keeps one room from being written keeps others too: the next round is soon enough.
                    Err(error) => tracing::warn!(room.id = %room_id, %error, "cannot complete the state of a room"),
                }
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
            if let Some(turn) = Turn::begin(self, record) {
                turn.take().await?;
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
                    // They may have waited for no more than that.
                    self.storage().hasten_set_aside(&record.room_id, self.world().clock.now_ms()).await?;
                    self.judge_set_aside_of(&record.room_id, true).await?;
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

    /// Asks for a room now that waits for a while, since those who refused may give its state now.
    pub(super) async fn hasten_completion(&self, room_id: &RoomId) -> Result<()> {
        let Some(mut record) = self.storage().partial_state(room_id).await? else { return Ok(()) };
        record.retry_at_ts = self.world().clock.now_ms();
        self.storage().postpone_partial_state(&record).await?;
        self.inner.rooms.completing.begin.notify_one();
        Ok(())
    }

    /// The room once all of its members are known; fails when that takes too long, or nobody sees to it.
    pub(crate) async fn whole_room(&self, room_id: &RoomId) -> Result<Arc<RoomSnapshot>> {
        let room = self.known_room(room_id).await?;
        if !room.is_partial() {
            return Ok(room);
        }
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

    /// Whether all members of a room are known that readers of it see, and since when, without loading the room.
    pub(crate) async fn members_known(&self, room_id: &RoomId) -> Result<MembersKnown> {
        match self.room_in_memory(room_id) {
            Some(room) => Ok(MembersKnown { all: !room.is_partial(), since: room.complete_since }),
            None => Ok(self.storage().members_known(room_id).await?),
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
