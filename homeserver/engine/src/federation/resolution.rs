//! State resolution over what is stored: loads what the rules need, and runs them off the async threads.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use rules::{
    Pdu, RoomSnapshot,
    room::{
        EventsById, StateMap,
        resolve::{Branch, deciding_state, full_conflicted_set, needs_subgraph, resolve, walk_continues},
    },
};
use ruma::OwnedEventId;

use crate::{Engine, EngineError, Result};

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
        let mut branches = Vec::with_capacity(states.len());
        for state in states {
            let auth_chain = self.auth_chain_of(&state, new).await?;
            branches.push(Branch { state, auth_chain });
        }
        let mut events = self.events_to_resolve(room, &branches, new).await?;
        for (event_id, event) in &mut events {
            if let Some(corrected) = corrections.get(event_id) {
                *event = corrected.clone();
            }
        }
        let rules = room.rules.clone();
        let resolved = tokio::task::spawn_blocking(move || resolve(&rules, branches, &events));
        resolved.await.map_err(EngineError::internal)?.map_err(EngineError::internal)
    }

    async fn auth_chain_of(&self, state: &StateMap, new: Option<&Arc<Pdu>>) -> Result<HashSet<OwnedEventId>> {
        let mut roots: Vec<OwnedEventId> = state.values().cloned().collect();
        let part = new.filter(|new| roots.contains(&new.event_id));
        roots.extend(part.into_iter().flat_map(|new| new.auth_events.clone()));
        let mut chain: HashSet<OwnedEventId> = self.storage().auth_chain(&roots).await?.into_iter().collect();
        chain.extend(part.map(|new| new.event_id.clone()));
        Ok(chain)
    }

    /// The events that the rules say resolution reads: see [`resolve`].
    async fn events_to_resolve(
        &self,
        room: &RoomSnapshot,
        branches: &[Branch],
        new: Option<&Arc<Pdu>>,
    ) -> Result<EventsById> {
        let mut wanted: BTreeSet<OwnedEventId> = full_conflicted_set(branches);
        if needs_subgraph(&room.rules) {
            wanted.extend(branches.iter().flat_map(|branch| branch.auth_chain.iter().cloned()));
        }
        let mut events: EventsById = new.into_iter().map(|new| (new.event_id.clone(), new.clone())).collect();
        let conflicted = wanted.clone();
        let mut queue = wanted;
        loop {
            self.walk(queue, &conflicted, &mut events).await?;
            queue = deciding_state(&room.rules, branches, &events);
            // What is not stored cannot be had, now or in the next round.
            queue = self.storage().event_ids_known(&queue.into_iter().collect::<Vec<_>>()).await?.into_iter().collect();
            if queue.is_empty() {
                return Ok(events);
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
