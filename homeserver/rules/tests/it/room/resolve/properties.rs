//! What holds for every history.

use std::collections::HashSet;

use homeserver_rules::room::{
    StateMap,
    resolve::{Branch, resolve},
};
use proptest::{collection::vec, prelude::*};
use ruma::OwnedEventId;

use super::{
    branch,
    graph::{Graph, Step},
    needed,
};
use crate::{bounded::bounded, room_fixture::version};

/// Enough for forks within forks, and few enough to be quick without optimisation.
const CASES: u32 = 250;

fn step() -> impl Strategy<Value = Step> {
    (any::<[u8; 6]>()).prop_map(|[parent, other, action, actor, target, time]| Step {
        parent: parent.into(),
        other: other.into(),
        action: action.into(),
        actor: actor.into(),
        target: target.into(),
        time: time.into(),
    })
}

/// A history, and some points of it.
fn history() -> impl Strategy<Value = (Graph, Vec<StateMap>)> {
    let versions = prop_oneof![Just(2_u8), Just(6), Just(11), Just(12), Just(12)];
    (versions, vec(step(), 10..80), vec(any::<usize>(), 2..5)).prop_map(|(number, steps, points)| {
        let mut graph = Graph::new(version(number));
        for step in steps {
            graph.step(step);
        }
        // The later half, since the first states have little in them.
        let first = graph.states.len() / 2;
        let states = points.iter().map(|point| graph.states[first + point % (graph.states.len() - first)].clone());
        let states = states.collect();
        (graph, states)
    })
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Graph").field("events", &self.events.len()).finish_non_exhaustive()
    }
}

fn branches(graph: &Graph, states: &[StateMap]) -> Vec<Branch> {
    states.iter().map(|state| branch(&graph.events, state)).collect()
}

fn resolved(graph: &Graph, states: &[StateMap]) -> StateMap {
    resolve(&graph.rules, branches(graph, states), &graph.events).unwrap()
}

proptest! {
    #![proptest_config(bounded(CASES, 26))]

    #[test]
    fn s_026_the_order_of_the_branches_does_not_matter((graph, mut states) in history()) {
        let state = resolved(&graph, &states);
        states.rotate_left(1);
        prop_assert_eq!(&resolved(&graph, &states), &state);
        states.reverse();
        prop_assert_eq!(&resolved(&graph, &states), &state);
        states.push(states[0].clone());
        prop_assert_eq!(&resolved(&graph, &states), &state, "a branch that comes twice counts once");
    }

    #[test]
    fn s_026_resolution_is_idempotent((graph, states) in history()) {
        let state = resolved(&graph, &states);
        prop_assert_eq!(&resolved(&graph, &[state.clone(), state.clone()]), &state);
        prop_assert_eq!(&resolved(&graph, std::slice::from_ref(&state)), &state);
    }

    #[test]
    fn s_026_nothing_comes_from_outside_the_branches((graph, states) in history()) {
        let state = resolved(&graph, &states);
        let known: HashSet<OwnedEventId> =
            branches(&graph, &states).into_iter().flat_map(|branch| branch.auth_chain).collect();
        for (key, event_id) in &state {
            prop_assert!(known.contains(event_id));
            prop_assert_eq!(&graph.events[event_id].state_key_pair().unwrap(), key);
        }
        for (key, event_id) in &states[0] {
            if states.iter().all(|state| state.get(key) == Some(event_id)) {
                prop_assert_eq!(&state[key], event_id, "what all agree on stands");
            }
        }
    }

    #[test]
    fn s_026_the_events_that_it_asks_for_are_enough((graph, states) in history()) {
        let needed = needed(&graph.rules, &branches(&graph, &states), &graph.events);
        let state = resolve(&graph.rules, branches(&graph, &states), &needed).unwrap();
        prop_assert_eq!(state, resolved(&graph, &states));
    }
}
