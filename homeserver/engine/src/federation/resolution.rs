//! State resolution over what is stored: loads what the rules need, and has them run where nobody waits for them.

use std::{collections::BTreeSet, sync::Arc};

use rules::{
    Pdu, RoomSnapshot,
    room::{
        EventsById, StateMap,
        resolve::{Branch, deciding_state, full_conflicted_set, needs_subgraph, resolve, walk_continues},
    },
};
use ruma::{OwnedEventId, events::StateEventType};

use crate::{Engine, EngineError, Result, apart::JUDGING};

impl Engine {
    /// One state out of several. `new` is an event that is part of a state but not stored yet.
    pub(crate) async fn resolve_states(
        &self,
        room: &RoomSnapshot,
        states: Vec<StateMap>,
        new: Option<&Arc<Pdu>>,
    ) -> Result<StateMap> {
        self.resolve_with(room, states, new, &EventsById::new()).await
    }

    /// The same, where the states may be guesses, while not all members are known. Then they are at odds for no reason, and
    /// what decides about the rest must not be lost by it: power levels, say, whose author has left since.
    pub(crate) async fn resolve_guesses(
        &self,
        room: &RoomSnapshot,
        states: Vec<StateMap>,
        new: Option<&Arc<Pdu>>,
    ) -> Result<StateMap> {
        if !room.is_partial() {
            return self.resolve_states(room, states, new).await;
        }
        let told = states.clone();
        let mut resolved = self.resolve_states(room, states, new).await?;
        for (key, event_id) in told.into_iter().flatten().filter(|(key, _)| decides_about_others(&key.0)) {
            resolved.entry(key).or_insert(event_id);
        }
        Ok(resolved)
    }

    /// The same, with some events in place of those that are stored.
    pub(crate) async fn resolve_with(
        &self,
        room: &RoomSnapshot,
        mut states: Vec<StateMap>,
        new: Option<&Arc<Pdu>>,
        corrections: &EventsById,
    ) -> Result<StateMap> {
        if states.len() < 2 {
            return Ok(states.pop().unwrap_or_default());
        }
        let mut chains = Vec::with_capacity(states.len());
        for state in &states {
            chains.push(self.auth_chain_of(state, new).await?);
        }
        let with_subgraph = needs_subgraph(&room.rules);
        let size: usize = chains.iter().map(Vec::len).sum();
        let (branches, conflicted) = self.apart(size, move || branches(states, chains, with_subgraph)).await;
        let (branches, mut events) = self.events_to_resolve(room, branches, conflicted, new).await?;
        for (event_id, event) in &mut events {
            if let Some(corrected) = corrections.get(event_id) {
                *event = corrected.clone();
            }
        }
        let rules = room.rules.clone();
        let resolving = self.apart(size + JUDGING * events.len(), move || resolve(&rules, branches, &events));
        resolving.await.map_err(EngineError::internal)
    }

    async fn auth_chain_of(&self, state: &StateMap, new: Option<&Arc<Pdu>>) -> Result<Vec<OwnedEventId>> {
        let mut roots: Vec<OwnedEventId> = state.values().cloned().collect();
        let part = new.filter(|new| roots.contains(&new.event_id));
        roots.extend(part.into_iter().flat_map(|new| new.auth_events.clone()));
        let mut chain = self.storage().auth_chain(&roots).await?;
        chain.extend(part.map(|new| new.event_id.clone()));
        Ok(chain)
    }

    /// The events that the rules say resolution reads: see [`resolve`].
    async fn events_to_resolve(
        &self,
        room: &RoomSnapshot,
        mut branches: Vec<Branch>,
        conflicted: BTreeSet<OwnedEventId>,
        new: Option<&Arc<Pdu>>,
    ) -> Result<(Vec<Branch>, EventsById)> {
        let mut events: EventsById = new.into_iter().map(|new| (new.event_id.clone(), new.clone())).collect();
        let mut queue = conflicted.clone();
        loop {
            self.walk(queue, &conflicted, &mut events).await?;
            let rules = room.rules.clone();
            let finding = self.apart(JUDGING * events.len(), move || {
                let deciding = deciding_state(&rules, &branches, &events);
                (branches, events, deciding)
            });
            (branches, events, queue) = finding.await;
            // What is not stored cannot be had, now or in the next round.
            queue = self.storage().event_ids_known(&queue.into_iter().collect::<Vec<_>>()).await?.into_iter().collect();
            if queue.is_empty() {
                return Ok((branches, events));
            }
        }
    }

    /// Loads events, and what they name as `auth_events` as far as resolution follows.
    async fn walk(
        &self,
        from: BTreeSet<OwnedEventId>,
        conflicted: &BTreeSet<OwnedEventId>,
        events: &mut EventsById,
    ) -> Result<()> {
        let mut queue: Vec<OwnedEventId> = from.into_iter().collect();
        while !queue.is_empty() {
            let loaded = self.events_by_id(&queue).await?;
            let known = queue.iter().filter_map(|event_id| events.get(event_id).cloned());
            let walked: Vec<Arc<Pdu>> = loaded.values().cloned().chain(known).collect();
            events.extend(loaded);
            let followed = walked
                .iter()
                .filter(|pdu| conflicted.contains(&pdu.event_id) || walk_continues(&pdu.event_type))
                .flat_map(|pdu| pdu.auth_events.iter());
            let next: BTreeSet<_> = followed.filter(|id| !events.contains_key(*id)).cloned().collect();
            queue = next.into_iter().collect();
        }
        Ok(())
    }
}

/// Whether state of a type decides about other events.
fn decides_about_others(event_type: &StateEventType) -> bool {
    use StateEventType::{RoomCreate, RoomJoinRules, RoomMember, RoomPowerLevels};
    matches!(event_type, RoomCreate | RoomJoinRules | RoomMember | RoomPowerLevels)
}

/// The states with their auth chains, and the events from which the walk begins: those in question, and where the algorithm
/// also looks at what lies between them, all.
fn branches(
    states: Vec<StateMap>,
    chains: Vec<Vec<OwnedEventId>>,
    with_subgraph: bool,
) -> (Vec<Branch>, BTreeSet<OwnedEventId>) {
    let chains = chains.into_iter().map(|chain| chain.into_iter().collect());
    let branches = states.into_iter().zip(chains).map(|(state, auth_chain)| Branch { state, auth_chain });
    let branches: Vec<Branch> = branches.collect();
    let mut wanted = full_conflicted_set(&branches);
    if with_subgraph {
        wanted.extend(branches.iter().flat_map(|branch| branch.auth_chain.iter().cloned()));
    }
    (branches, wanted)
}
