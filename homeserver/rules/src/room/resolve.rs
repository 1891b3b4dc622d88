//! State resolution: one state out of several.
//!
//! Spec: <https://spec.matrix.org/v1.19/rooms/v2/#state-resolution>,
//! <https://spec.matrix.org/v1.19/rooms/v12/#state-resolution>

use std::collections::{BTreeSet, HashMap, HashSet};

use ruma::{
    EventId, OwnedEventId,
    events::TimelineEventType,
    room_version_rules::{RoomVersionRules, StateResolutionV2Rules},
    state_res::{self, utils::event_id_set::EventIdSet},
};

use super::{EventsById, StateMap, authorise::deciding_keys_of};

/// Why states could not be resolved.
#[derive(Debug, thiserror::Error)]
#[error("state resolution failed: {0}")]
pub struct ResolveError(String);

/// One of the states to resolve.
pub struct Branch {
    /// The state.
    pub state: StateMap,
    /// The events of the state and all their ancestors by `auth_events`.
    pub auth_chain: HashSet<OwnedEventId>,
}

/// The events whose state or authorisation is in question: in some of the branches, but not in all.
pub fn full_conflicted_set(branches: &[Branch]) -> BTreeSet<OwnedEventId> {
    let mut set = conflicted_events(branches.iter().map(|branch| &branch.state));
    let mut counts: HashMap<&OwnedEventId, usize> = HashMap::new();
    for event_id in branches.iter().flat_map(|branch| &branch.auth_chain) {
        *counts.entry(event_id).or_default() += 1;
    }
    set.extend(counts.into_iter().filter(|(_, count)| *count < branches.len()).map(|(id, _)| id.clone()));
    set
}

/// Whether the algorithm of the room version also looks at what lies between conflicted events.
pub fn needs_subgraph(rules: &RoomVersionRules) -> bool {
    resolution_rules(rules).consider_conflicted_state_subgraph
}

/// The events that resolution reads besides, out of what the branches agree on: those that decide about any of
/// `events`. Only those that are not among `events` yet.
pub fn deciding_state(rules: &RoomVersionRules, branches: &[Branch], events: &EventsById) -> BTreeSet<OwnedEventId> {
    let keys: HashSet<_> = events
        .values()
        // One whose content names no deciding state is refused in any case.
        .flat_map(|event| deciding_keys_of(&rules.authorization, event).unwrap_or_default())
        .collect();
    let values = branches.iter().flat_map(|branch| keys.iter().filter_map(|key| branch.state.get(key)));
    values.filter(|event_id| !events.contains_key(*event_id)).cloned().collect()
}

/// Resolves. `events` must hold the full conflicted set, what those name as `auth_events`, the power levels events
/// among these with theirs, for version 12 all events of the auth chains, and the [`deciding_state`] of all of them.
///
/// Rejected events count as not there, even where a state lists them.
pub fn resolve(rules: &RoomVersionRules, branches: Vec<Branch>, events: &EventsById) -> Result<StateMap, ResolveError> {
    let accepted = |event_id: &EventId| events.get(event_id).filter(|event| !event.rejected);
    let (mut states, chains): (Vec<_>, Vec<_>) =
        branches.into_iter().map(|branch| (branch.state, branch.auth_chain)).unzip();
    for state in &mut states {
        state.retain(|_, event_id| !events.contains_key(event_id) || accepted(event_id).is_some());
    }
    let chains = chains.into_iter().map(|chain| chain.into_iter().collect::<EventIdSet<_>>()).collect();
    state_res::resolve(
        &rules.authorization,
        &resolution_rules(rules),
        states.iter(),
        chains,
        |event_id| accepted(event_id).cloned(),
        |conflicted| {
            let conflicted = conflicted.values().flatten().cloned().collect();
            Some(conflicted_subgraph(&conflicted, events).into_iter().collect())
        },
    )
    .map_err(|error| ResolveError(error.to_string()))
}

/// Version 1 has an algorithm of its own, which no library implements any more; its rooms are resolved by that of
/// version 2. See `docs/decisions/`.
fn resolution_rules(rules: &RoomVersionRules) -> StateResolutionV2Rules {
    rules.state_res.v2_rules().copied().unwrap_or(StateResolutionV2Rules::V2_0)
}

fn conflicted_events<'a>(states: impl Iterator<Item = &'a StateMap> + Clone) -> BTreeSet<OwnedEventId> {
    let count = states.clone().count();
    let mut values: HashMap<_, Vec<&OwnedEventId>> = HashMap::new();
    for (key, event_id) in states.flatten() {
        values.entry(key).or_default().push(event_id);
    }
    let conflicted = values.into_values().filter(|ids| ids.len() < count || ids.iter().any(|id| *id != ids[0]));
    conflicted.flatten().cloned().collect()
}

/// The events on a path from one conflicted event to another along `auth_events`, both ends included.
/// <https://spec.matrix.org/v1.19/rooms/v12/#state-resolution>
fn conflicted_subgraph(conflicted: &HashSet<OwnedEventId>, events: &EventsById) -> BTreeSet<OwnedEventId> {
    // Below: every ancestor of a conflicted event, with the children that lead to it.
    let mut children: HashMap<&EventId, Vec<&EventId>> = HashMap::new();
    let mut queue: Vec<&EventId> = conflicted.iter().map(|id| &**id).collect();
    let mut seen: HashSet<&EventId> = queue.iter().copied().collect();
    while let Some(event_id) = queue.pop() {
        for parent in events.get(event_id).into_iter().flat_map(|event| &event.auth_events) {
            children.entry(parent).or_default().push(event_id);
            if seen.insert(parent) {
                queue.push(parent);
            }
        }
    }
    // Back up from the conflicted events that are such ancestors: whatever is passed lies between two of them.
    let mut between: HashSet<&EventId> = conflicted.iter().map(|id| &**id).collect();
    let mut queue: Vec<&EventId> = between.iter().copied().collect();
    while let Some(event_id) = queue.pop() {
        for child in children.get(event_id).into_iter().flatten() {
            if between.insert(child) {
                queue.push(child);
            }
        }
    }
    between.into_iter().map(ToOwned::to_owned).collect()
}

/// Whether the walk that loads events for resolution must go on to what this event names as `auth_events`.
pub fn walk_continues(event_type: &TimelineEventType) -> bool {
    *event_type == TimelineEventType::RoomPowerLevels
}
