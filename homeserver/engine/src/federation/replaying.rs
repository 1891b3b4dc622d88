//! Looking again at what came into a room while its state was partial: loads what the replay needs, and resolves where the
//! graph forks. See `docs/decisions/0008-partial-state.md`.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rules::{
    Pdu, RoomSnapshot,
    change::Standing,
    room::{EventsById, authorise::deciding_keys_of},
};
use ruma::{OwnedEventId, events::StateEventType};
use storage::{PartialStateRecord, StoredEvent};

use super::{
    complete::{GapStates, Incomplete},
    replay::{Replay, Resolutions},
};
use crate::{Engine, Result};

impl Engine {
    /// Looks again at our join and all that came since.
    pub(super) async fn replayed(
        &self,
        record: &PartialStateRecord,
        mut replay: Replay,
        gap_states: &GapStates,
        resolutions: &mut Resolutions,
    ) -> Result<Replay, Incomplete> {
        let events = self.storage().events_that_came_after(&record.room_id, record.position - 1).await?;
        for event in ancestors_first(&events) {
            self.place_again(&mut replay, record, &event, gap_states, resolutions).await?;
        }
        for event in &events {
            self.take_again(&mut replay, event, resolutions).await?;
            if event.pdu.event_id == record.event_id && replay.outcomes.iter().any(|outcome| !outcome.is_accepted()) {
                return Err(Incomplete::Unfit("we may not join"));
            }
        }
        Ok(replay)
    }

    async fn place_again(
        &self,
        replay: &mut Replay,
        record: &PartialStateRecord,
        event: &StoredEvent,
        gap_states: &GapStates,
        resolutions: &mut Resolutions,
    ) -> Result<(), Incomplete> {
        let pdu = &event.pdu;
        if pdu.event_id == record.event_id {
            let events = self.events_to_judge_again(replay, [&replay.beginning, &replay.beginning], pdu).await?;
            replay.place(event, replay.beginning.clone(), &events);
            return Ok(());
        }
        let lacks = pdu.prev_events.iter().any(|event_id| !replay.knows(event_id));
        let said = gap_states.of(&pdu.event_id);
        if lacks && said.is_none() {
            // It came while others were asked for what those before it build on.
            return Err(Incomplete::Busy);
        }
        let mut states = replay.states_after(pdu.prev_events.iter());
        for difference in said.unwrap_or_default() {
            let mut difference = difference.clone();
            difference.retain(|entry| entry.event_id.as_ref().is_none_or(|event_id| !replay.rejects(event_id)));
            let state = replay.with(&difference);
            replay.add_state(&mut states, state);
        }
        if states.is_empty() {
            states = replay.states_after(std::iter::once(&record.event_id));
        }
        let before = self.resolved_again(replay, states, resolutions).await?;
        let events = self.events_to_judge_again(replay, [&before, &before], pdu).await?;
        replay.place(event, before, &events);
        Ok(())
    }

    async fn take_again(
        &self,
        replay: &mut Replay,
        event: &Arc<StoredEvent>,
        resolutions: &mut Resolutions,
    ) -> Result<()> {
        let before = replay.before(event).unwrap_or(&replay.room);
        let events = self.events_to_judge_again(replay, [&replay.room, before], &event.pdu).await?;
        // What the policy server does not say does not count against what was accepted.
        let is_recommended =
            event.standing == Standing::Accepted || self.is_recommended(&replay.room, &event.pdu).await?;
        let standing = replay.judge(event, &events, is_recommended);
        if standing != Standing::Accepted {
            replay.take(event, standing, None);
            return Ok(());
        }
        let extremities = replay.extremities_with(&event.pdu);
        let states = replay.states_after(extremities.iter().map(|(event_id, _)| event_id));
        let state = self.resolved_again(replay, states, resolutions).await?;
        replay.take(event, standing, Some((extremities, state)));
        Ok(())
    }

    /// One state out of several that differ; without any, the beginning.
    async fn resolved_again(
        &self,
        replay: &mut Replay,
        mut states: Vec<RoomSnapshot>,
        resolutions: &mut Resolutions,
    ) -> Result<RoomSnapshot> {
        if states.len() < 2 {
            return Ok(states.pop().unwrap_or_else(|| replay.beginning.clone()));
        }
        let question = replay.question(&states);
        if let Some(entries) = resolutions.get(&question) {
            return Ok(replay.with(entries));
        }
        let size = states.iter().map(RoomSnapshot::state_count).sum();
        let maps = self.apart(size, move || states.iter().map(RoomSnapshot::state_map).collect()).await;
        let resolved = self.resolve_with(&replay.beginning, maps, None, &replay.corrections).await?;
        let entries = self.difference(&replay.beginning, &Arc::new(resolved)).await?;
        let state = replay.with(&entries);
        resolutions.insert(question, entries);
        Ok(state)
    }

    async fn events_to_judge_again(
        &self,
        replay: &Replay,
        states: [&RoomSnapshot; 2],
        pdu: &Pdu,
    ) -> Result<EventsById> {
        let mut ids = pdu.auth_events.clone();
        for room in states {
            ids.extend(room.state_event_id(&StateEventType::RoomCreate, "").map(ToOwned::to_owned));
            // An event whose content names no deciding state is rejected by the checks themselves.
            for (event_type, key) in deciding_keys_of(&room.rules.authorization, pdu).unwrap_or_default() {
                ids.extend(room.state_event_id(&event_type, &key).map(ToOwned::to_owned));
            }
        }
        ids.sort_unstable();
        ids.dedup();
        let mut events = self.events_by_id(&ids).await?;
        replay.correct(&mut events);
        Ok(events)
    }
}

/// Events in such an order that what they build on and what authorises them comes before them, as far as it is among them.
/// Those that have nothing to do with each other by their depth: what lies between them may be part of a state only.
fn ancestors_first(events: &[Arc<StoredEvent>]) -> Vec<Arc<StoredEvent>> {
    let by_id: HashMap<&OwnedEventId, &Arc<StoredEvent>> =
        events.iter().map(|event| (&event.pdu.event_id, event)).collect();
    let (mut begun, mut done) = (HashSet::new(), HashSet::new());
    let mut ordered = Vec::with_capacity(events.len());
    let mut stack: Vec<&Arc<StoredEvent>> = events.iter().rev().collect();
    stack.sort_by_key(|event| Reverse(event.pdu.depth));
    while let Some(event) = stack.last().copied() {
        let pdu = &event.pdu;
        let named = pdu.prev_events.iter().chain(&pdu.auth_events).filter_map(|event_id| by_id.get(event_id).copied());
        // The second time, all of them are done, but for those of a circle, which only made-up ids can form.
        let open: Vec<_> = if begun.insert(&pdu.event_id) {
            named.filter(|named| !begun.contains(&named.pdu.event_id)).collect()
        } else {
            Vec::new()
        };
        if open.is_empty() {
            stack.pop();
            if done.insert(&pdu.event_id) {
                ordered.push(event.clone());
            }
        } else {
            stack.extend(open);
        }
    }
    ordered
}
