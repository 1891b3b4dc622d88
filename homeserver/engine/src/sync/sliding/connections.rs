//! What each connection of a device was told, in memory. After a restart, or when a device has too many, clients hear
//! that their `pos` is unknown and start anew, as they would with any server.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use moka::{policy::EvictionPolicy, sync::Cache};
use rpds::HashTrieMapSync;
use rules::change::Position;
use ruma::{OwnedRoomId, OwnedUserId};

use super::{required::RequiredState, response::ListCount};
use crate::{Requester, sync::token::SyncToken};

/// How many devices are remembered, and how long those that do not ask.
const DEVICES_MAX: u64 = 100_000;
const DEVICES_IDLE: Duration = Duration::from_hours(24 * 7);
/// How many connections one device has: clients have two or three.
const CONNECTIONS_PER_DEVICE_MAX: usize = 8;
/// How many answers to the same question are remembered. Only the newest request of a connection is answered with
/// something that can be built upon; but an answer may be on its way while the client, which has given up, asks again.
const ANSWERS_MAX: usize = 4;

/// All connections.
pub(crate) struct Connections(Cache<Requester, Arc<Mutex<OfDevice>>>);

#[derive(Default)]
struct OfDevice {
    by_id: HashMap<String, Connection>,
    /// How many requests there were.
    attempts: u64,
}

struct Connection {
    /// Tells connections with the same id apart that were started one after the other.
    nonce: String,
    /// The last request of it, or the one that started it.
    newest: Attempt,
    last_number: u64,
    /// The state of which the client asked last, and those that it was answered with.
    states: BTreeMap<u64, Arc<Told>>,
}

/// Which of a device's requests one is: a later one has a greater number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Attempt(u64);

/// What became of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// The client can go on from it, by this `pos`.
    As(String),
    /// The client has asked the same connection again meanwhile, and does not wait for this one any more.
    Superseded,
    /// The client has started the connection anew meanwhile, or it was forgotten.
    Gone,
}

/// What a client was told.
#[derive(Clone, Default)]
pub(super) struct Told {
    /// Up to where; `None` at the start.
    pub(super) token: Option<SyncToken>,
    /// Of which rooms what.
    pub(super) rooms: HashTrieMapSync<OwnedRoomId, RoomTold>,
    /// What it asked for.
    pub(super) fingerprint: u64,
    /// How long the lists were.
    pub(super) counts: BTreeMap<String, ListCount>,
    /// Which of the account data that is of no room.
    pub(super) account_data: Seen,
    /// Which of the changes of others' devices.
    pub(super) device_lists: Seen,
    /// Up to where it was told which threads are followed.
    pub(super) thread_subscriptions: Position,
}

/// What a client was told of a room.
#[derive(Clone)]
pub(super) struct RoomTold {
    /// Up to where, if not up to where everything else was.
    pub(super) up_to: Option<Position>,
    pub(super) timeline_limit: usize,
    pub(super) required: Arc<RequiredState>,
    /// The members that were told because they are loaded lazily.
    pub(super) members: Arc<HashSet<OwnedUserId>>,
    /// Whether it was told that the room is a direct chat.
    pub(super) is_dm: bool,
    /// Which of its account data, and which receipts.
    pub(super) account_data: Seen,
    pub(super) receipts: Seen,
    /// Whether who is typing changed since the client was told.
    pub(super) missed_typing: bool,
}

/// How much of something the client was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nothing.
    #[default]
    Nothing,
    /// What happened up to a position.
    Until(Position),
    /// What happened up to where it was told everything else.
    All,
}

impl Seen {
    /// After which position it is still to be told, by somebody who tells what happened after `since`. `None` for all.
    pub(super) fn up_to(self, since: Option<Position>) -> Option<Position> {
        match self {
            Self::Nothing => None,
            Self::Until(position) => Some(position),
            Self::All => since,
        }
    }

    /// Something happened after `since` that is not told now.
    pub(super) fn miss(&mut self, since: Position) {
        if *self == Self::All {
            *self = Self::Until(since);
        }
    }
}

impl Told {
    /// Changes what is known of a room that the client was told of.
    pub(super) fn note(&mut self, room_id: &OwnedRoomId, change: impl FnOnce(&mut RoomTold)) {
        if let Some(mut room) = self.rooms.get(room_id).cloned() {
            change(&mut room);
            self.rooms.insert_mut(room_id.clone(), room);
        }
    }
}

impl Connections {
    pub(crate) fn new() -> Self {
        Self(
            Cache::builder()
                .max_capacity(DEVICES_MAX)
                .eviction_policy(EvictionPolicy::lru())
                .time_to_idle(DEVICES_IDLE)
                .build(),
        )
    }

    /// Begins to answer a request: what the client was told up to `pos`, which is nothing without one. `None` if that is
    /// not known.
    pub(super) fn begin(
        &self,
        requester: &Requester,
        conn_id: &str,
        pos: Option<&str>,
    ) -> Option<(Attempt, Arc<Told>)> {
        let Some(pos) = pos else {
            let device = self.0.get_with(requester.clone(), Arc::default);
            return Some((lock(&device).next_attempt(), Arc::default()));
        };
        let device = self.0.get(requester)?;
        let mut device = lock(&device);
        let (nonce, number) = pos.split_once('_')?;
        let number: u64 = number.parse().ok()?;
        let attempt = device.next_attempt();
        let connection = device.by_id.get_mut(conn_id).filter(|connection| connection.nonce == nonce)?;
        let told = connection.states.get(&number)?.clone();
        connection.newest = attempt;
        // Whoever asks for this one has got it, and needs none of those before.
        connection.states.retain(|kept, _| *kept >= number);
        Some((attempt, told))
    }

    /// Keeps what a client is told, and names it, unless the client no longer waits for it. `after` is the `pos` that the
    /// client came with; without one the connection starts anew, under the name `nonce`.
    pub(super) fn keep(
        &self,
        requester: &Requester,
        conn_id: &str,
        (attempt, after): (Attempt, Option<&str>),
        nonce: impl FnOnce() -> String,
        told: Arc<Told>,
    ) -> Kept {
        let device = self.0.get_with(requester.clone(), Arc::default);
        let mut device = lock(&device);
        let current = device.by_id.get(conn_id);
        let Some(after) = after else {
            if current.is_some_and(|connection| connection.newest > attempt) {
                return Kept::Gone;
            }
            device.make_room(conn_id);
            let nonce = nonce();
            let pos = format!("{nonce}_1");
            let connection = Connection { nonce, newest: attempt, last_number: 1, states: BTreeMap::from([(1, told)]) };
            device.by_id.insert(conn_id.to_owned(), connection);
            return Kept::As(pos);
        };
        let asked = after.split_once('_');
        let is_current = |connection: &&mut Connection| asked.is_some_and(|(nonce, _)| connection.nonce == nonce);
        let Some(connection) = device.by_id.get_mut(conn_id).filter(is_current) else { return Kept::Gone };
        if connection.newest > attempt {
            return Kept::Superseded;
        }
        connection.last_number += 1;
        let asked = asked.and_then(|(_, number)| number.parse::<u64>().ok());
        let oldest_answer = connection.last_number.saturating_sub(ANSWERS_MAX as u64);
        connection.states.retain(|number, _| Some(*number) == asked || *number > oldest_answer);
        connection.states.insert(connection.last_number, told);
        Kept::As(format!("{}_{}", connection.nonce, connection.last_number))
    }
}

impl OfDevice {
    fn next_attempt(&mut self) -> Attempt {
        self.attempts += 1;
        Attempt(self.attempts)
    }

    fn make_room(&mut self, conn_id: &str) {
        if self.by_id.len() >= CONNECTIONS_PER_DEVICE_MAX && !self.by_id.contains_key(conn_id) {
            let oldest = self.by_id.iter().min_by_key(|(_, connection)| connection.newest);
            if let Some(oldest) = oldest.map(|(conn_id, _)| conn_id.clone()) {
                self.by_id.remove(&oldest);
            }
        }
    }
}

fn lock(device: &Mutex<OfDevice>) -> MutexGuard<'_, OfDevice> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use ruma::{owned_device_id, owned_user_id};

    use super::*;

    fn told(position: Position) -> Arc<Told> {
        Arc::new(Told { token: Some(SyncToken::new(position, 0)), ..Told::default() })
    }

    fn requester() -> Requester {
        Requester { user_id: owned_user_id!("@me:test"), device_id: owned_device_id!("PHONE") }
    }

    /// A request that is answered at once.
    fn ask(
        connections: &Connections,
        conn_id: &str,
        after: Option<&str>,
        nonce: &str,
        position: Position,
    ) -> Option<String> {
        let requester = requester();
        let (attempt, _) = connections.begin(&requester, conn_id, after)?;
        match connections.keep(&requester, conn_id, (attempt, after), || nonce.to_owned(), told(position)) {
            Kept::As(pos) => Some(pos),
            _ => None,
        }
    }

    #[test]
    fn the_answer_to_a_request_that_was_given_up_takes_away_no_other() {
        let (connections, requester) = (Connections::new(), requester());
        let begin = |pos: Option<&str>| connections.begin(&requester, "", pos).map(|(attempt, _)| attempt);
        let keep = |attempt, after: Option<&str>| {
            connections.keep(&requester, "", (attempt, after), || "x".to_owned(), told(9))
        };
        let first = ask(&connections, "", None, "a", 1).unwrap();
        let given_up: Vec<_> = (0..3 * ANSWERS_MAX).map(|_| begin(Some(&first)).unwrap()).collect();
        let got = ask(&connections, "", Some(&first), "a", 2).unwrap();
        for attempt in given_up {
            assert_eq!(keep(attempt, Some(&first)), Kept::Superseded);
        }
        // Answers that were on their way when the client asked again.
        for _ in 0..ANSWERS_MAX - 1 {
            ask(&connections, "", Some(&first), "a", 3).unwrap();
        }
        let late = begin(Some(&got)).unwrap();
        assert!(begin(Some(&first)).is_none(), "who asks for the next one has it");
        assert!(matches!(keep(late, Some(&got)), Kept::As(_)));
        for _ in 0..ANSWERS_MAX * 2 {
            ask(&connections, "", Some(&got), "a", 5).unwrap();
        }
        assert_eq!(lock(&connections.0.get(&requester).unwrap()).by_id[""].states.len(), ANSWERS_MAX + 1);
    }

    #[test]
    fn the_answer_to_a_request_of_an_older_session_displaces_no_newer_one() {
        let (connections, requester) = (Connections::new(), requester());
        let begin = |pos: Option<&str>| connections.begin(&requester, "", pos).unwrap().0;
        let old = ask(&connections, "", None, "a", 1).unwrap();
        let (of_old_session, given_up_start) = (begin(Some(&old)), begin(None));
        let new = ask(&connections, "", None, "b", 2).unwrap();
        for (attempt, after) in [(of_old_session, Some(&*old)), (given_up_start, None)] {
            let kept = connections.keep(&requester, "", (attempt, after), || "c".to_owned(), told(3));
            assert_eq!(kept, Kept::Gone);
        }
        assert!(connections.begin(&requester, "", Some(&new)).is_some());
        assert!(connections.begin(&requester, "", Some(&old)).is_none());
    }

    #[test]
    fn s_130_few_states_of_few_connections_are_kept() {
        let (connections, requester) = (Connections::new(), requester());
        let at = |conn_id: &str, pos: &str| {
            connections.begin(&requester, conn_id, Some(pos)).and_then(|(_, told)| Some(told.token?.position))
        };
        let keep = |conn_id: &str, after: Option<&str>, nonce: &str, position| {
            ask(&connections, conn_id, after, nonce, position).unwrap()
        };
        let first = keep("list", None, "a", 1);
        let second = keep("list", Some(&first), "x", 2);
        // The second answer was lost.
        assert_eq!(at("list", &first), Some(1));
        let third = keep("list", Some(&first), "x", 3);
        assert_eq!((at("list", &first), at("list", &third)), (Some(1), Some(3)));
        // It has arrived.
        assert_eq!((at("list", &first), at("list", &second)), (None, None));
        assert_eq!(at("other", &third), None);
        let anew = keep("list", None, "b", 4);
        assert_eq!((at("list", &third), at("list", &anew)), (None, Some(4)));
        for junk in ["", "_", "a_1", "b_", "b_-1", "b_1_1", "b_99999999999999999999"] {
            assert_eq!(at("list", junk), None, "{junk}");
        }
        for number in 0..CONNECTIONS_PER_DEVICE_MAX {
            keep(&number.to_string(), None, "c", 5);
        }
        assert_eq!(at("list", &anew), None);
        assert_eq!(at("0", "c_1"), Some(5));
        let other = Requester { device_id: owned_device_id!("DESK"), ..requester.clone() };
        assert!(connections.begin(&other, "0", Some("c_1")).is_none());
    }
}
