//! State resolution over what is stored: loads what the rules need, and runs them off the async threads.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use rules::{
    Pdu, RoomSnapshot,
    room::{
        EventsById, StateMap,
        resolve::{Branch, full_conflicted_set, needs_subgraph, resolve, walk_continues},
    },
};
use ruma::{OwnedEventId, events::StateEventType};

use crate::{Engine, EngineError, Result};

impl Engine {
    /// One state out of several. `new` is an event that is part of a state but not stored yet.
    pub(crate) async fn resolve_states(
        &self,
        room: &RoomSnapshot,
        mut states: Vec<StateMap>,
        new: Option<&Arc<Pdu>>,
    ) -> Result<StateMap> {
        if states.len() < 2 {
            return Ok(states.pop().unwrap_or_default());
        }
        let mut branches = Vec::with_capacity(states.len());
        for state in states {
            let auth_chain = self.auth_chain_of(&state, new).await?;
            branches.push(Branch { state, auth_chain });
        }
        let events = self.events_to_resolve(room, &branches, new).await?;
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
        let deciding = |((event_type, _), _): &(&(StateEventType, String), &OwnedEventId)| {
            matches!(
                event_type,
                StateEventType::RoomCreate | StateEventType::RoomPowerLevels | StateEventType::RoomJoinRules
            )
        };
        let unconflicted = branches.iter().flat_map(|branch| branch.state.iter().filter(deciding));
        wanted.extend(unconflicted.map(|(_, event_id)| event_id.clone()));

        let mut events: EventsById = new.into_iter().map(|new| (new.event_id.clone(), new.clone())).collect();
        let conflicted = wanted.clone();
        let mut queue: Vec<OwnedEventId> = wanted.into_iter().collect();
        while !queue.is_empty() {
            let loaded = self.events_by_id(&queue).await?;
            let of_new = queue.iter().filter_map(|event_id| events.get(event_id).cloned());
            let walked: Vec<Arc<Pdu>> = loaded.values().cloned().chain(of_new).collect();
            events.extend(loaded);
            let continued = walked
                .iter()
                .filter(|pdu| conflicted.contains(&pdu.event_id) || walk_continues(&pdu.event_type))
                .flat_map(|pdu| pdu.auth_events.iter());
            queue = continued.filter(|id| !events.contains_key(*id)).cloned().collect::<BTreeSet<_>>().into_iter().collect();
        }
        self.add_deciding_members(branches, &mut events).await?;
        Ok(events)
    }

    /// The authorisation of a conflicted event may read member events that are not in conflict, out of the state that
    /// all branches share.
    async fn add_deciding_members(&self, branches: &[Branch], events: &mut EventsById) -> Result<()> {
        let users: HashSet<String> = events
            .values()
            .flat_map(|pdu| {
                let target = pdu.membership().map(|(user_id, _)| user_id.to_string());
                let authoriser = pdu.content_str("join_authorised_via_users_server");
                [Some(pdu.sender.to_string()), target, authoriser]
            })
            .flatten()
            .collect();
        let keys = users.into_iter().map(|user_id| (StateEventType::RoomMember, user_id));
        let ids: Vec<OwnedEventId> = keys
            .flat_map(|key| branches.iter().filter_map(move |branch| branch.state.get(&key).cloned()).collect::<Vec<_>>())
            .filter(|event_id| !events.contains_key(event_id))
            .collect();
        events.extend(self.events_by_id(&ids).await?);
        Ok(())
    }
}
