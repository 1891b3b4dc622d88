//! What came into a room while not all of its members were known, looked at again with all of the state, one event after
//! the other as if it came only now. Pure: who calls resolves states and passes in events.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use rules::{
    Pdu, RoomSnapshot,
    change::{Position, Standing, StateEntry, StateReference},
    room::{
        EventsById, StateKey,
        receive::{extremities_after, judge},
        send::entry_of,
    },
};
use ruma::{EventId, OwnedEventId, OwnedServerName};
use storage::StoredEvent;

use crate::rooms::NOT_RECOMMENDED;

/// A room as it becomes by its events. First the state before each is worked out, which follows from the graph alone; then
/// they are taken in the order in which they came.
pub(crate) struct Replay {
    /// The room after what was taken so far, with all of its members.
    pub(crate) room: RoomSnapshot,
    /// What changed at which position, in order.
    pub(crate) since: Vec<(Position, Vec<StateEntry>)>,
    /// The events that were taken, in order, and what became of them.
    pub(crate) outcomes: Vec<Outcome>,
    /// All servers that were in the room at some time.
    pub(crate) servers: BTreeSet<OwnedServerName>,
    /// The events whose mark differs from the stored one.
    pub(crate) corrections: EventsById,
    /// The room before our join.
    pub(crate) beginning: RoomSnapshot,
    /// The room before all, and after each position at which it changed.
    states: BTreeMap<Position, RoomSnapshot>,
    /// Every key of which some state has another value than the beginning.
    touched: BTreeSet<StateKey>,
    /// The states before and after each event.
    placed: HashMap<OwnedEventId, Placed>,
    /// What each event that was taken builds on, and whether it is accepted.
    graph: HashMap<OwnedEventId, (Vec<OwnedEventId>, bool)>,
    /// The position of the last event that has one.
    position: Position,
}

/// What several states were resolved to, with what stands for it. One room looked at anew resolves the same again.
#[derive(Default)]
pub(crate) struct Resolutions(HashMap<Question, Vec<StateEntry>>);

/// What differs from the beginning in each of the states, and which events have another mark than the stored one.
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Question(BTreeSet<Vec<(StateKey, Option<OwnedEventId>)>>, Vec<(OwnedEventId, bool)>);

impl Resolutions {
    /// What the states were resolved to, as far as that differs from the beginning.
    pub(crate) fn get(&self, question: &Question) -> Option<&[StateEntry]> {
        self.0.get(question).map(Vec::as_slice)
    }

    pub(crate) fn insert(&mut self, question: Question, entries: Vec<StateEntry>) {
        self.0.insert(question, entries);
    }
}

/// Where in the graph an event stands.
struct Placed {
    before: RoomSnapshot,
    after: RoomSnapshot,
    /// Why it is rejected, if it is.
    rejected: Option<String>,
}

/// What became of an event.
pub(crate) struct Outcome {
    /// The event as it is stored.
    pub(crate) event: Arc<StoredEvent>,
    /// What the checks say now.
    pub(crate) standing: Standing,
    /// The position that it came after.
    base: Position,
}

impl Replay {
    /// Begins with the state before our join, by which `join` is the first event.
    pub(crate) fn new(mut room: RoomSnapshot, join: &Pdu, joined_at: Position) -> Self {
        room.forward_extremities = join.prev_events.iter().map(|event_id| (event_id.clone(), 0)).collect();
        Self {
            since: Vec::new(),
            outcomes: Vec::new(),
            servers: room.servers().map(ToOwned::to_owned).collect(),
            corrections: EventsById::new(),
            states: BTreeMap::from([(Position::MIN, room.clone())]),
            touched: BTreeSet::new(),
            placed: HashMap::new(),
            graph: HashMap::new(),
            position: joined_at - 1,
            beginning: room.clone(),
            room,
        }
    }

    /// Whether an event was placed.
    pub(crate) fn knows(&self, event_id: &EventId) -> bool {
        self.placed.contains_key(event_id)
    }

    /// Whether an event was placed, and is rejected.
    pub(crate) fn rejects(&self, event_id: &EventId) -> bool {
        self.placed.get(event_id).is_some_and(|placed| placed.rejected.is_some())
    }

    /// The different states after those of the events that were placed.
    pub(crate) fn states_after<'a>(&self, event_ids: impl Iterator<Item = &'a OwnedEventId>) -> Vec<RoomSnapshot> {
        let mut states = Vec::new();
        for placed in event_ids.filter_map(|event_id| self.placed.get(event_id)) {
            self.add_state(&mut states, placed.after.clone());
        }
        states
    }

    /// Adds a state to others, unless it is among them.
    pub(crate) fn add_state(&self, states: &mut Vec<RoomSnapshot>, state: RoomSnapshot) {
        let is_same = |other: &RoomSnapshot| differing(&self.touched, other, &state).is_empty();
        if !states.iter().any(is_same) {
            states.push(state);
        }
    }

    /// By what it is remembered that states were resolved.
    pub(crate) fn question(&self, states: &[RoomSnapshot]) -> Question {
        let own = |entry: StateEntry| ((entry.event_type, entry.state_key), entry.event_id);
        let differences = |state| differing(&self.touched, &self.beginning, state).into_iter().map(own).collect();
        let marks = self.corrections.iter().map(|(event_id, pdu)| (event_id.clone(), pdu.rejected));
        let mut marks: Vec<_> = marks.collect();
        marks.sort_unstable();
        Question(states.iter().map(differences).collect(), marks)
    }

    /// A state that differs from the beginning.
    pub(crate) fn with(&mut self, entries: &[StateEntry]) -> RoomSnapshot {
        let mut state = self.beginning.clone();
        self.apply(&mut state, entries);
        state
    }

    fn apply(&mut self, state: &mut RoomSnapshot, entries: &[StateEntry]) {
        self.touched.extend(entries.iter().map(|entry| (entry.event_type.clone(), entry.state_key.clone())));
        state.apply(entries);
    }

    /// Puts the marks on events that the outcome so far asks for.
    pub(crate) fn correct(&self, events: &mut EventsById) {
        for (event_id, event) in events.iter_mut() {
            if let Some(corrected) = self.corrections.get(event_id) {
                *event = corrected.clone();
            }
        }
    }

    /// Places an event after the state before it, rejected or not. `events` must hold what decides.
    pub(crate) fn place(&mut self, event: &StoredEvent, before: RoomSnapshot, events: &EventsById) {
        let pdu = &event.pdu;
        let rejected = match judged(&before, pdu, &before, events) {
            Standing::Rejected(reason) => Some(reason),
            _ => None,
        };
        let mut after = before.clone();
        if let Some(own) = entry_of(pdu).filter(|_| rejected.is_none()) {
            self.apply(&mut after, &[own]);
        }
        if rejected.is_some() != pdu.rejected {
            let corrected = Arc::new(pdu.judged(rejected.is_some()));
            self.corrections.insert(pdu.event_id.clone(), corrected);
        }
        self.placed.insert(pdu.event_id.clone(), Placed { before, after, rejected });
    }

    /// The state before an event that was placed.
    pub(crate) fn before(&self, event: &StoredEvent) -> Option<&RoomSnapshot> {
        self.placed.get(&event.pdu.event_id).map(|placed| &placed.before)
    }

    /// The room before a position, as far as events were taken.
    pub(crate) fn room_before(&self, position: Position) -> &RoomSnapshot {
        self.states.range(..position).next_back().map_or(&self.beginning, |(_, room)| room)
    }

    /// The positions at which the state of the room changed since our join, that among them.
    pub(crate) fn changes(&self) -> impl Iterator<Item = Position> {
        self.since.iter().map(|(position, _)| *position)
    }

    /// What the checks say of an event that was placed, where the room is now. `events` must hold what decides.
    /// `is_recommended`: whether the room's policy server recommends it, if there is one.
    pub(crate) fn judge(&self, event: &StoredEvent, events: &EventsById, is_recommended: bool) -> Standing {
        let Some(placed) = self.placed.get(&event.pdu.event_id) else { return event.standing.clone() };
        if let Some(reason) = &placed.rejected {
            return Standing::Rejected(reason.clone());
        }
        match judged(&self.room, &event.pdu, &placed.before, events) {
            // What was accepted came before what speaks against it.
            _ if event.standing == Standing::Accepted => Standing::Accepted,
            Standing::Accepted if !is_recommended => not_recommended(&event.standing),
            standing => standing,
        }
    }

    /// The forward extremities after an event that is accepted.
    pub(crate) fn extremities_with(&self, pdu: &Arc<Pdu>) -> Vec<(OwnedEventId, u64)> {
        let mut extremities = extremities_after(&self.room, pdu);
        let refused = |event_id: &&OwnedEventId| self.graph.get(*event_id).is_some_and(|(_, accepted)| !accepted);
        let passed = self.ancestors(pdu.prev_events.iter().filter(refused), |accepted| !accepted);
        extremities.retain(|(event_id, _)| !passed.contains(event_id));
        if extremities.len() > 1 {
            let others = extremities.iter().map(|(event_id, _)| event_id).filter(|id| **id != pdu.event_id);
            if self.ancestors(others, |_| true).contains(&pdu.event_id) {
                extremities.retain(|(event_id, _)| *event_id != pdu.event_id);
            }
        }
        extremities
    }

    /// What events build on, by way of those that were taken and that `follows` says are to be followed.
    fn ancestors<'a>(
        &'a self,
        event_ids: impl Iterator<Item = &'a OwnedEventId>,
        follows: impl Fn(bool) -> bool,
    ) -> HashSet<&'a OwnedEventId> {
        let mut queue: Vec<&OwnedEventId> = event_ids.collect();
        let mut passed = HashSet::new();
        while let Some(event_id) = queue.pop() {
            if let Some((prev_events, _)) = self.graph.get(event_id).filter(|(_, accepted)| follows(*accepted)) {
                queue.extend(prev_events.iter().filter(|event_id| passed.insert(*event_id)));
            }
        }
        passed
    }

    /// Takes an event as it was judged. `accepted` is what new events build on then, and the state of the room.
    pub(crate) fn take(
        &mut self,
        event: &Arc<StoredEvent>,
        standing: Standing,
        accepted: Option<(Vec<(OwnedEventId, u64)>, RoomSnapshot)>,
    ) {
        let pdu = &event.pdu;
        self.graph.insert(pdu.event_id.clone(), (pdu.prev_events.clone(), standing == Standing::Accepted));
        let base = event.order.map_or(self.position, |order| order - 1);
        self.outcomes.push(Outcome { event: event.clone(), standing, base });
        self.position = event.order.unwrap_or(self.position);
        let Some((extremities, state)) = accepted else { return };
        let entries = differing(&self.touched, &self.room, &state);
        self.room.forward_extremities = extremities;
        if !entries.is_empty() {
            self.room.apply(&entries);
            self.servers.extend(self.room.servers().map(ToOwned::to_owned));
            self.states.insert(self.position, self.room.clone());
            self.since.push((self.position, entries));
        }
    }

    /// How the state before an event is to be stored, once all events were taken.
    pub(crate) fn reference(&self, outcome: &Outcome) -> Option<StateReference> {
        let before = self.before(&outcome.event)?;
        let there = self.room_before(outcome.base + 1);
        let delta = differing(&self.touched, there, before);
        let is_needed = outcome.event.order.is_none() || !delta.is_empty();
        is_needed.then_some(StateReference { base: outcome.base, delta })
    }

    /// What the state is now where that is not what readers of the log were told, but for members of whom they were told
    /// nothing and that were there all the time.
    pub(crate) fn corrected(&self, told: &RoomSnapshot) -> Vec<StateEntry> {
        let mut keys: BTreeSet<StateKey> = told.state().map(|(key, _)| key.clone()).collect();
        keys.extend(self.touched.iter().cloned());
        let differs = |(event_type, key): &&StateKey| {
            let was = told.state_event_id(event_type, key).or_else(|| self.beginning.state_event_id(event_type, key));
            self.room.state_event_id(event_type, key) != was
        };
        keys.iter().filter(differs).map(|key| value_of(&self.room, key)).collect()
    }
}

impl Outcome {
    /// Whether the event is accepted.
    pub(crate) fn is_accepted(&self) -> bool {
        self.standing == Standing::Accepted
    }

    /// Whether the event comes into the timeline only now.
    pub(crate) fn is_late(&self) -> bool {
        self.event.order.is_none() && self.standing == Standing::Accepted
    }
}

fn judged(room: &RoomSnapshot, pdu: &Pdu, before: &RoomSnapshot, events: &EventsById) -> Standing {
    let pdu = pdu.judged(false);
    let value = |event_type: &_, key: &str| before.state_event_id(event_type, key).map(ToOwned::to_owned);
    judge(room, &pdu, value, events)
}

/// What an event is that the policy server of the room does not recommend.
fn not_recommended(was: &Standing) -> Standing {
    match was {
        Standing::SoftFailed(reason) => Standing::SoftFailed(reason.clone()),
        _ => Standing::SoftFailed(NOT_RECOMMENDED.to_owned()),
    }
}

/// The entries of a state, out of some, that another one has differently.
fn differing(keys: &BTreeSet<StateKey>, other: &RoomSnapshot, state: &RoomSnapshot) -> Vec<StateEntry> {
    let differs =
        |(event_type, key): &&StateKey| other.state_event_id(event_type, key) != state.state_event_id(event_type, key);
    keys.iter().filter(differs).map(|key| value_of(state, key)).collect()
}

/// The entry that a room has for a key.
fn value_of(room: &RoomSnapshot, (event_type, state_key): &StateKey) -> StateEntry {
    let value = room.state_value(event_type, state_key);
    StateEntry {
        event_type: event_type.clone(),
        state_key: state_key.clone(),
        event_id: value.map(|value| value.event_id.clone()),
        membership: value.and_then(|value| value.membership.clone()),
    }
}
