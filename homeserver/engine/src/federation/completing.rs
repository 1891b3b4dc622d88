//! Getting to know all members of rooms that we entered without being told of them, in the background, until a server
//! gives them. What is to be asked for is in the storage, so that a restart forgets nothing. And waiting for that.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rules::RoomSnapshot;
use ruma::{OwnedRoomId, OwnedServerName, RoomId, ServerName, UserId, events::StateEventType};
use storage::{MembersKnown, PartialStateRecord, StorageError};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::complete::{Answers, Incomplete};
use crate::{Engine, EngineError, Inner, Result};

/// How many large rooms are asked for at the same time: each may come with its whole state.
const ROOMS_AT_ONCE: usize = 4;
/// How many small ones besides, so that they need not wait for large ones.
const SMALL_ROOMS_AT_ONCE: usize = 16;
/// How many servers a room has besides ours that is taken for a small one.
const SMALL_ROOM_SERVERS: usize = 5;
/// How long a join to a small room waits for its members.
const SMALL_ROOM_WAIT: Duration = Duration::from_secs(1);
/// How often a room is asked for before it is its time, because somebody waits for it.
const HASTEN_INTERVAL: Duration = Duration::from_secs(30);
/// How many rooms are looked at in one round.
const ROUND_ROOMS: usize = 1_000;
/// How many servers are asked for one room before it has to wait.
const SERVERS_AT_A_TIME: usize = 5;
/// How often it is looked whether a room is due again.
const ROUND_INTERVAL: Duration = Duration::from_secs(2);
/// How long a room waits after the first time that no server gave its state; doubles with each.
const RETRY_AFTER_MS: u64 = 2_000;
/// The longest that a room waits. There is no last time: somebody may come back.
const RETRY_AFTER_MAX_MS: u64 = 3_600_000;
/// When a room is asked for of which nobody gives us the state.
const NEVER_TS: u64 = i64::MAX as u64;
/// How long somebody waits for the members of a room: a little less than what proxies allow.
const WAIT_MAX: Duration = Duration::from_secs(50);

/// How the tasks are called that ask.
const TASK: &str = "partial_states";

/// What is known in memory about rooms that are becoming complete.
#[derive(Default)]
pub(crate) struct Completing {
    /// There is a room to begin with.
    pub(crate) begin: Arc<Notify>,
    /// A room is complete.
    done: Notify,
    /// Whether somebody looks for rooms to complete without being told to.
    is_started: AtomicBool,
    /// The rooms that are being asked for, and whether they are small.
    running: Mutex<HashMap<OwnedRoomId, bool>>,
    /// When rooms were last asked for because somebody waited.
    hastened: Mutex<HashMap<OwnedRoomId, Instant>>,
    /// How much is lacking of what events build on, by the servers that made them; of rooms of which that was counted.
    lacking: Mutex<HashMap<OwnedRoomId, BTreeMap<OwnedServerName, usize>>>,
    /// What servers have said of the rooms.
    pub(super) answers: Answers,
}

impl Completing {
    /// All members of a room are known.
    pub(super) fn is_done(&self, room_id: &RoomId) {
        self.forget_lacking(room_id);
        self.answers.forget(room_id);
        self.hastened.lock().unwrap_or_else(PoisonError::into_inner).remove(room_id);
        self.done.notify_waiters();
    }

    /// Whether a room is to be asked for now because somebody waits: not while it is asked for, nor often.
    fn is_hastened(&self, room_id: &RoomId) -> bool {
        if self.running.lock().unwrap_or_else(PoisonError::into_inner).contains_key(room_id) {
            return false;
        }
        let (mut hastened, now) = (self.hastened.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        let is_due = hastened.get(room_id).is_none_or(|last| now.duration_since(*last) >= HASTEN_INTERVAL);
        if is_due {
            hastened.insert(room_id.to_owned(), now);
        }
        is_due
    }

    /// How much is lacking of what events of a room build on, if it was counted.
    pub(super) fn lacking(&self, room_id: &RoomId) -> Option<BTreeMap<OwnedServerName, usize>> {
        self.lacking.lock().unwrap_or_else(PoisonError::into_inner).get(room_id).cloned()
    }

    pub(super) fn remember_lacking(&self, room_id: &RoomId, counts: BTreeMap<OwnedServerName, usize>) {
        self.lacking.lock().unwrap_or_else(PoisonError::into_inner).insert(room_id.to_owned(), counts);
    }

    /// An event was taken that builds on what is lacking: it is to be counted anew.
    pub(super) fn forget_lacking(&self, room_id: &RoomId) {
        self.lacking.lock().unwrap_or_else(PoisonError::into_inner).remove(room_id);
    }
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
        let is_small = is_small(&record);
        let at_once = if is_small { SMALL_ROOMS_AT_ONCE } else { ROOMS_AT_ONCE };
        let begins = running.values().filter(|other| **other == is_small).count() < at_once
            && running.insert(record.room_id.clone(), is_small).is_none();
        begins.then(|| Self { engine: engine.clone(), record })
    }

    /// Asks for the room. What waited for it is judged when it is the turn of the next.
    async fn take(self) -> Result<()> {
        let (engine, room_id) = (self.engine.clone(), self.record.room_id.clone());
        let is_whole = engine.complete_by_any(&self.record).await?;
        drop(self);
        engine.inner.rooms.completing.begin.notify_one();
        if is_whole {
            engine.storage().hasten_set_aside(&room_id, engine.world().clock.now_ms()).await?;
            engine.judge_set_aside_of(&room_id, true).await?;
        }
        Ok(())
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
        let tasks = self.storage().tasks();
        let look = move || look_for_rooms(engine.clone(), Arc::clone(&begin));
        tokio::spawn(async move { tasks.supervise(TASK, look).await });
    }

    /// Starts a task for each room that is due, as far as others leave room for it.
    async fn begin_completing(&self) -> Result<()> {
        let now_ms = self.world().clock.now_ms();
        for record in self.storage().partial_states(now_ms, ROUND_ROOMS).await? {
            let Some(turn) = Turn::begin(self, record) else { continue };
            let tasks = self.storage().tasks();
            tokio::spawn(async move {
                let room_id = turn.record.room_id.clone();
                if let Some(Err(error)) = tasks.attempt(TASK, turn.take()).await {
                    // What keeps one room from being written keeps others too: the next round is soon enough.
                    tracing::warn!(room.id = %room_id, %error, "cannot complete the state of a room");
                }
            });
        }
        Ok(())
    }

    /// Asks for the states that are due, one after the other, but for those that are being asked for already.
    pub async fn complete_due_states(&self) -> Result<()> {
        let now_ms = self.world().clock.now_ms();
        for record in self.storage().partial_states(now_ms, ROUND_ROOMS).await? {
            if let Some(turn) = Turn::begin(self, record) {
                turn.take().await?;
            }
        }
        Ok(())
    }

    /// Asks some servers, and postpones the room when none gives its state. Whether all of its members are known now.
    async fn complete_by_any(&self, record: &PartialStateRecord) -> Result<bool> {
        let Some(room) = self.resident_room(&record.room_id).await? else {
            // All of our users have left. Nobody would tell us; who joins again is told of all members.
            self.inner.rooms.completing.answers.forget(&record.room_id);
            self.storage().postpone_partial_state(record, NEVER_TS).await?;
            return Ok(false);
        };
        for server in servers_to_ask(record, &room, self.server_name()) {
            match self.complete_by(record, &server).await {
                Ok(()) => {
                    tracing::info!(room.id = %record.room_id, destination = %server, "all members of a room are known");
                    self.inner.rooms.completing.is_done(&record.room_id);
                    return Ok(true);
                }
                Err(Incomplete::EnteredAnew) => return Ok(false),
                Err(reason) => {
                    tracing::info!(room.id = %record.room_id, destination = %server, %reason, "the state of a room is not given");
                }
            }
        }
        let wait_ms = RETRY_AFTER_MS.saturating_mul(1 << record.failures.min(20)).min(RETRY_AFTER_MAX_MS);
        let jitter_ms = self.world().random_below(wait_ms / 4 + 1);
        let retry_at_ts = self.world().clock.now_ms().saturating_add(wait_ms + jitter_ms);
        self.storage().postpone_partial_state(record, retry_at_ts).await?;
        Ok(false)
    }

    /// Asks for a room now that waits for a while, since those who refused may give its state now.
    pub(super) async fn hasten_completion(&self, room_id: &RoomId) -> Result<()> {
        self.storage().hasten_partial_state(room_id, self.world().clock.now_ms()).await?;
        self.inner.rooms.completing.begin.notify_one();
        Ok(())
    }

    /// Waits a moment for the members of a room that was just entered, if it is small: there is hardly anything to wait for,
    /// and to whoever entered it the room looks as if it had never been without them.
    pub(crate) async fn wait_if_small(&self, room_id: &RoomId) -> Result<()> {
        if self.storage().partial_state(room_id).await?.is_some_and(|record| is_small(&record)) {
            // What takes longer goes on in the background, as with a large one.
            let _ = self.whole_room_by(room_id, Instant::now() + SMALL_ROOM_WAIT).await;
        }
        Ok(())
    }

    /// The room once all of its members are known; fails when that takes too long, or nobody sees to it. As it is known
    /// where none of our users is in it any more: nobody asks for it then.
    pub(crate) async fn whole_room(&self, room_id: &RoomId) -> Result<Arc<RoomSnapshot>> {
        let room = self.known_room(room_id).await?;
        if !room.is_partial() || !room.has_server(self.server_name()) {
            return Ok(room);
        }
        if self.inner.rooms.completing.is_hastened(room_id) {
            self.hasten_completion(room_id).await?;
        }
        self.whole_room_by(room_id, Instant::now() + WAIT_MAX).await
    }

    async fn whole_room_by(&self, room_id: &RoomId, deadline: Instant) -> Result<Arc<RoomSnapshot>> {
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

fn is_small(record: &PartialStateRecord) -> bool {
    record.servers.len() <= SMALL_ROOM_SERVERS
}

/// Who let us in first, and, from the second round on, the others, also those that came since, each time from another one
/// on: by whom we entered we believe more, and it may just have been busy.
fn servers_to_ask(record: &PartialStateRecord, room: &RoomSnapshot, own: &ServerName) -> Vec<OwnedServerName> {
    let others: BTreeSet<&ServerName> = record.servers.iter().map(|server| &**server).chain(room.servers()).collect();
    let mut others: Vec<&ServerName> =
        others.into_iter().filter(|server| **server != record.entered_by && *server != own).collect();
    let rounds = usize::try_from(record.failures).unwrap_or(0);
    let asked = rounds.saturating_sub(1).saturating_mul(SERVERS_AT_A_TIME - 1);
    if !others.is_empty() {
        let first = asked % others.len();
        others.rotate_left(first);
    }
    let first = std::iter::once(&*record.entered_by);
    first.chain(others).take(if rounds == 0 { 1 } else { SERVERS_AT_A_TIME }).map(ToOwned::to_owned).collect()
}

/// Begins with the rooms that are due, as long as there is an engine.
async fn look_for_rooms(engine: Weak<Inner>, begin: Arc<Notify>) {
    while let Some(inner) = engine.upgrade() {
        match (Engine { inner }).begin_completing().await {
            Ok(()) => {}
            Err(EngineError::Storage(StorageError::Closed)) => return,
            Err(error) => tracing::warn!(%error, "cannot look for rooms of which not all members are known"),
        }
        tokio::time::timeout(ROUND_INTERVAL, begin.notified()).await.unwrap_or_default();
    }
}
