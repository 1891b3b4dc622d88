//! What servers have said of the states of rooms that are becoming complete. It is remembered until they are, so that
//! nobody is asked again for what only the lack of something else keeps from being used.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rules::change::StateEntry;
use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, ServerName};
use storage::PartialStateRecord;

/// How many entries of states are remembered of all rooms together: those of two of the largest, some forty megabytes. What
/// is too much is asked for again.
const MAX_ENTRIES: usize = 200_000;

/// What is remembered, by room.
#[derive(Default)]
pub(in crate::federation) struct Answers(Mutex<HashMap<OwnedRoomId, Answer>>);

struct Answer {
    /// Our join.
    event_id: OwnedEventId,
    /// Who has said what the state before it was.
    by: OwnedServerName,
    before: Arc<[StateEntry]>,
    /// By event that builds on what we lack, what was said of that.
    gaps: HashMap<OwnedEventId, Gap>,
}

/// How some states differ from the one before our join.
pub(super) type Differences = Vec<Vec<StateEntry>>;

/// What was said of what an event builds on.
#[derive(Clone)]
pub(super) struct Gap {
    pub(super) differences: Differences,
    /// Whether that was neither said by who let us in nor by the server of the event.
    pub(super) is_of_third: bool,
}

impl Gap {
    fn entries(&self) -> usize {
        self.differences.iter().map(Vec::len).sum()
    }
}

impl Answer {
    fn entries(&self) -> usize {
        self.before.len() + self.gaps.values().map(Gap::entries).sum::<usize>()
    }
}

impl Answers {
    /// The state before our join, if it need not be asked of `server`: somebody has said it. Who let us in is asked
    /// nevertheless where another has, for it is believed more.
    pub(super) fn state(&self, record: &PartialStateRecord, server: &ServerName) -> Option<Arc<[StateEntry]>> {
        let answers = self.lock();
        let answer = answers.get(&record.room_id).filter(|answer| answer.event_id == record.event_id)?;
        let is_enough = answer.by == record.entered_by || *server != record.entered_by;
        is_enough.then(|| Arc::clone(&answer.before))
    }

    pub(super) fn remember_state(&self, record: &PartialStateRecord, by: &ServerName, before: &Arc<[StateEntry]>) {
        let (event_id, by, before) = (record.event_id.clone(), by.to_owned(), Arc::clone(before));
        let answer = Answer { event_id, by, before, gaps: HashMap::new() };
        let mut answers = self.lock();
        answers.remove(&record.room_id);
        if entries(&answers) + answer.entries() <= MAX_ENTRIES {
            answers.insert(record.room_id.clone(), answer);
        }
        show(&answers);
    }

    /// What somebody has said of what an event builds on, as it differs from `before`.
    pub(super) fn gap(&self, room_id: &RoomId, before: &Arc<[StateEntry]>, event_id: &EventId) -> Option<Gap> {
        let answers = self.lock();
        let answer = answers.get(room_id).filter(|answer| Arc::ptr_eq(&answer.before, before))?;
        answer.gaps.get(event_id).cloned()
    }

    pub(super) fn remember_gap(&self, room_id: &RoomId, before: &Arc<[StateEntry]>, event_id: &EventId, gap: Gap) {
        let mut answers = self.lock();
        let has_place = entries(&answers) + gap.entries() <= MAX_ENTRIES;
        let answer = answers.get_mut(room_id).filter(|answer| has_place && Arc::ptr_eq(&answer.before, before));
        if let Some(answer) = answer {
            answer.gaps.insert(event_id.to_owned(), gap);
        }
        show(&answers);
    }

    pub(in crate::federation) fn forget(&self, room_id: &RoomId) {
        let mut answers = self.lock();
        answers.remove(room_id);
        show(&answers);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<OwnedRoomId, Answer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn entries(answers: &HashMap<OwnedRoomId, Answer>) -> usize {
    answers.values().map(Answer::entries).sum()
}

fn show(answers: &HashMap<OwnedRoomId, Answer>) {
    let entries = u32::try_from(entries(answers)).unwrap_or(u32::MAX);
    metrics::gauge!("engine_cache_entries", "cache" => "states_given").set(entries);
}

#[cfg(test)]
mod tests {
    use ruma::{event_id, room_id, server_name};

    use super::*;

    fn record() -> PartialStateRecord {
        PartialStateRecord {
            room_id: room_id!("!room:there").to_owned(),
            event_id: event_id!("$join").to_owned(),
            position: 7,
            entered_by: server_name!("there").to_owned(),
            servers: Vec::new(),
            unverified: Vec::new(),
            failures: 1,
            retry_at_ts: 0,
        }
    }

    fn state(entries: usize) -> Arc<[StateEntry]> {
        let entry = |number| StateEntry {
            event_type: "m.room.member".into(),
            state_key: format!("@user{number}:there"),
            event_id: None,
            membership: None,
        };
        (0..entries).map(entry).collect()
    }

    #[test]
    fn who_let_us_in_is_asked_though_another_has_answered() {
        let (answers, record, before) = (Answers::default(), record(), state(3));
        let (there, elsewhere) = (server_name!("there"), server_name!("elsewhere"));
        answers.remember_state(&record, elsewhere, &before);
        assert!(answers.state(&record, there).is_none());
        assert!(answers.state(&record, server_name!("anywhere")).is_some());
        answers.remember_state(&record, there, &before);
        assert!(answers.state(&record, there).is_some() && answers.state(&record, elsewhere).is_some());
    }

    #[test]
    fn answers_are_those_of_one_entrance_and_one_state() {
        let (answers, record, before) = (Answers::default(), record(), state(3));
        let event_id = event_id!("$event");
        answers.remember_state(&record, server_name!("there"), &before);
        let gap = Gap { differences: vec![Vec::new()], is_of_third: false };
        answers.remember_gap(&record.room_id, &before, event_id, gap.clone());
        assert!(answers.gap(&record.room_id, &before, event_id).is_some());
        assert!(answers.gap(&record.room_id, &state(3), event_id).is_none());
        answers.remember_gap(&record.room_id, &state(3), event_id!("$another"), gap);
        assert!(answers.gap(&record.room_id, &before, event_id!("$another")).is_none());
        let anew = PartialStateRecord { event_id: event_id!("$join_again").to_owned(), ..record.clone() };
        assert!(answers.state(&anew, server_name!("there")).is_none());
        answers.forget(&record.room_id);
        assert!(answers.state(&record, server_name!("there")).is_none());
    }

    #[test]
    fn what_is_too_much_is_not_remembered() {
        let (answers, small) = (Answers::default(), record());
        let large = PartialStateRecord { room_id: room_id!("!large:there").to_owned(), ..record() };
        let (there, before) = (server_name!("there"), state(10));
        answers.remember_state(&small, there, &before);
        answers.remember_state(&large, there, &state(MAX_ENTRIES));
        assert!(answers.state(&large, there).is_none() && answers.state(&small, there).is_some());
        answers.remember_state(&large, there, &state(MAX_ENTRIES - 10));
        assert!(answers.state(&large, there).is_some());
        let gap = Gap { differences: vec![state(1).to_vec()], is_of_third: false };
        answers.remember_gap(&small.room_id, &before, event_id!("$event"), gap.clone());
        assert!(answers.gap(&small.room_id, &before, event_id!("$event")).is_none());
        answers.forget(&large.room_id);
        answers.remember_gap(&small.room_id, &before, event_id!("$event"), gap);
        assert!(answers.gap(&small.room_id, &before, event_id!("$event")).is_some());
    }
}
