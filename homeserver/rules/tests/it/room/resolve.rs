//! State resolution.

mod graph;
mod properties;

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use homeserver_rules::{
    Pdu,
    event::Draft,
    room::{
        EventsById, StateMap,
        resolve::{Branch, deciding_state, full_conflicted_set, needs_subgraph, resolve, walk_continues},
    },
};
use ruma::{OwnedEventId, RoomVersionId, events::StateEventType, room_version_rules::RoomVersionRules};
use serde_json::{Value, json};

use crate::room_fixture::{ALICE, BOB, CAROL, RoomFixture, new_room, rooms, timestamp, version};

/// The events and all their ancestors by `auth_events`.
pub(crate) fn auth_chain<'a>(
    events: &EventsById,
    roots: impl IntoIterator<Item = &'a OwnedEventId>,
) -> HashSet<OwnedEventId> {
    let mut chain = HashSet::new();
    let mut queue: Vec<OwnedEventId> = roots.into_iter().cloned().collect();
    while let Some(event_id) = queue.pop() {
        let named = events.get(&event_id).map(|event| event.auth_events.clone());
        if chain.insert(event_id) {
            queue.extend(named.unwrap_or_default());
        }
    }
    chain
}

pub(crate) fn branch(events: &EventsById, state: &StateMap) -> Branch {
    Branch { state: state.clone(), auth_chain: auth_chain(events, state.values()) }
}

/// Only the events that `resolve` says it needs.
fn needed(rules: &RoomVersionRules, branches: &[Branch], events: &EventsById) -> EventsById {
    let mut wanted: BTreeSet<OwnedEventId> = full_conflicted_set(branches);
    if needs_subgraph(rules) {
        wanted.extend(branches.iter().flat_map(|branch| branch.auth_chain.iter().cloned()));
    }
    let conflicted = wanted.clone();
    let mut needed = EventsById::new();
    let mut queue: Vec<OwnedEventId> = wanted.into_iter().collect();
    loop {
        while let Some(event_id) = queue.pop() {
            let event = events[&event_id].clone();
            let follow = conflicted.contains(&event_id) || walk_continues(&event.event_type);
            if needed.insert(event_id, event.clone()).is_none() && follow {
                queue.extend(event.auth_events.iter().cloned());
            }
        }
        queue = deciding_state(rules, branches, &needed).into_iter().collect();
        if queue.is_empty() {
            return needed;
        }
    }
}

fn resolved(room: &RoomFixture, states: &[&StateMap]) -> StateMap {
    let branches = states.iter().map(|state| branch(&room.events, state)).collect();
    resolve(&room.room.rules, branches, &room.events).unwrap()
}

fn key(event_type: &str, state_key: &str) -> (StateEventType, String) {
    (event_type.into(), state_key.to_owned())
}

/// The state with these events instead of what it has for their keys.
fn with(state: &StateMap, events: &[&Arc<Pdu>]) -> StateMap {
    let mut state = state.clone();
    state.extend(events.iter().map(|event| (event.state_key_pair().unwrap(), event.event_id.clone())));
    state
}

/// Scenarios as MSC4297 draws them: who sends what, naming exactly these events. Later lines have later times.
struct Scenario {
    room: RoomFixture,
}

impl Scenario {
    /// A room that Alice created, in which she has all power.
    fn new(version: RoomVersionId) -> Self {
        let mut room = RoomFixture::without_power_levels(version);
        room.set("m.room.power_levels", room.levels(json!({})));
        room.set("m.room.join_rules", json!({ "join_rule": "public" }));
        Self { room }
    }

    fn event(
        &mut self,
        sender: &str,
        event_type: &str,
        state_key: &str,
        content: Value,
        auth: &[&Arc<Pdu>],
    ) -> Arc<Pdu> {
        let create = self.room.state("m.room.create", "").unwrap();
        let names_create = !self.room.room.rules.authorization.room_create_event_id_as_room_id;
        let auth = auth.iter().map(|event| event.event_id.clone());
        let draft = Draft {
            auth_events: auth.chain(names_create.then(|| create.event_id.clone())).collect(),
            ..self.room.draft(sender, event_type, Some(state_key), content)
        };
        self.room.craft(draft)
    }

    fn join(&mut self, sender: &str, name: &str, auth: &[&Arc<Pdu>]) -> Arc<Pdu> {
        let content = json!({ "membership": "join", "displayname": name });
        self.event(sender, "m.room.member", sender, content, auth)
    }

    fn present(&self, event_type: &str, state_key: &str) -> Arc<Pdu> {
        self.room.state(event_type, state_key).unwrap()
    }
}

/// <https://github.com/matrix-org/matrix-spec-proposals/pull/4297>, problem A: the one who made the room leaves it, and
/// two servers disagree about the join rules since one of them never had them.
fn problem_a(version: RoomVersionId) -> (Option<OwnedEventId>, OwnedEventId, OwnedEventId) {
    let mut scenario = Scenario::new(version);
    let levels = scenario.present("m.room.power_levels", "");
    let public = scenario.present("m.room.join_rules", "");
    let alice = scenario.present("m.room.member", ALICE);
    let bob = scenario.join(BOB, "bob", &[&levels, &public]);
    let carol = scenario.join(CAROL, "carol", &[&levels, &public]);
    let invite = scenario.event(ALICE, "m.room.join_rules", "", json!({ "join_rule": "invite" }), &[&levels, &alice]);
    let leave = json!({ "membership": "leave" });
    let alice_left = scenario.event(ALICE, "m.room.member", ALICE, leave, &[&levels, &alice]);
    let bob_renamed = scenario.join(BOB, "bob++", &[&levels, &bob, &invite]);
    let carol_renamed = scenario.join(CAROL, "carol++", &[&levels, &carol, &invite]);

    let base = scenario.room.state_map();
    let of_bob = with(&base, &[&invite, &alice_left, &bob_renamed, &carol]);
    let of_carol = with(&base, &[&public, &alice_left, &bob, &carol_renamed]);
    let state = resolved(&scenario.room, &[&of_bob, &of_carol]);
    assert_eq!(state[&key("m.room.member", BOB)], bob_renamed.event_id);
    assert_eq!(state[&key("m.room.member", CAROL)], carol_renamed.event_id);
    assert_eq!(state[&key("m.room.member", ALICE)], alice_left.event_id);
    (state.get(&key("m.room.join_rules", "")).cloned(), invite.event_id.clone(), public.event_id.clone())
}

#[test]
fn s_025_problem_a_loses_the_join_rules_before_version_12() {
    for number in 2..=11 {
        let (join_rules, _, _) = problem_a(version(number));
        assert_eq!(join_rules, None, "version {number}");
    }
}

#[test]
fn s_025_problem_a_keeps_the_newer_join_rules_in_version_12() {
    let (join_rules, invite, _) = problem_a(version(12));
    assert_eq!(join_rules, Some(invite));
}

/// Problem B: one server's state has fallen back to the first power levels, and nothing in conflict leads from them
/// to the last but events that are in no state.
fn problem_b(version: RoomVersionId) -> (OwnedEventId, OwnedEventId, OwnedEventId) {
    const EVE: &str = "@eve:b.test";
    const ZARA: &str = "@zara:c.test";
    let mut scenario = Scenario::new(version);
    let first = scenario.present("m.room.power_levels", "");
    let public = scenario.present("m.room.join_rules", "");
    let alice = scenario.present("m.room.member", ALICE);
    let bob = scenario.join(BOB, "bob", &[&first, &public]);
    let carol = scenario.join(CAROL, "carol", &[&first, &public]);
    let of = |scenario: &Scenario, users: Value| scenario.room.levels(json!({ "users": users }));
    let levels = of(&scenario, json!({ BOB: 50 }));
    let second = scenario.event(ALICE, "m.room.power_levels", "", levels, &[&first, &alice]);
    let levels = of(&scenario, json!({ BOB: 50, CAROL: 50 }));
    let third = scenario.event(BOB, "m.room.power_levels", "", levels, &[&second, &bob]);
    let zara = scenario.join(ZARA, "zara", &[&third, &public]);
    let eve = scenario.join(EVE, "eve", &[&third, &public]);
    let eve_renamed = scenario.join(EVE, "eve++", &[&third, &eve, &public]);

    let base = scenario.room.state_map();
    let of_eve = with(&base, &[&first, &bob, &carol, &eve_renamed]);
    let of_zara = with(&base, &[&third, &bob, &carol, &zara]);
    let state = resolved(&scenario.room, &[&of_eve, &of_zara]);
    assert_eq!(state[&key("m.room.member", EVE)], eve_renamed.event_id);
    assert_eq!(state[&key("m.room.member", ZARA)], zara.event_id);
    (state[&key("m.room.power_levels", "")].clone(), first.event_id.clone(), third.event_id.clone())
}

#[test]
fn s_025_problem_b_falls_back_to_the_first_power_levels_before_version_12() {
    for number in 2..=11 {
        let (levels, first, _) = problem_b(version(number));
        assert_eq!(levels, first, "version {number}");
    }
}

#[test]
fn s_025_problem_b_keeps_the_last_power_levels_in_version_12() {
    let (levels, _, third) = problem_b(version(12));
    assert_eq!(levels, third);
}

#[test]
fn version_12_alone_looks_at_the_subgraph() {
    let with_subgraph: Vec<u8> = (1..=12).filter(|number| needs_subgraph(&version(*number).rules().unwrap())).collect();
    assert_eq!(with_subgraph, [12]);
}

/// What happens on two branches of a room in which Bob has level 50, and what is the state after them.
fn fork(number: u8, left: impl Fn(&mut RoomFixture), right: impl Fn(&mut RoomFixture)) -> (RoomFixture, StateMap) {
    let mut room = rooms(number..=number).next().unwrap();
    room.join(&[CAROL]);
    let levels = json!({ "users": { BOB: 50 }, "events": { "m.room.power_levels": 50 } });
    room.set_levels(levels);
    let before = room.room.clone();
    left(&mut room);
    let of_left = room.state_map();
    room.room = before;
    right(&mut room);
    let of_right = room.state_map();
    let state = resolved(&room, &[&of_left, &of_right]);
    (room, state)
}

#[test]
fn a_ban_beats_what_the_banned_did_at_the_same_time() {
    for number in 1..=12 {
        let (room, state) = fork(
            number,
            |room| drop(room.send(BOB, "m.room.topic", Some(""), json!({ "topic": "Bob was here" }))),
            |room| drop(room.member(ALICE, BOB, "ban")),
        );
        assert_eq!(room.events[&state[&key("m.room.member", BOB)]].content_str("membership").unwrap(), "ban");
        assert_eq!(state.get(&key("m.room.topic", "")), None, "version {number}");
    }
}

#[test]
fn a_demotion_beats_what_the_demoted_did_at_the_same_time() {
    for number in 1..=12 {
        let (room, state) = fork(
            number,
            |room| {
                let levels = json!({ "users": { BOB: 50, CAROL: 50 }, "events": { "m.room.power_levels": 50 } });
                let content = room.levels(levels);
                room.send(BOB, "m.room.power_levels", Some(""), content);
            },
            |room| drop(room.set_levels(json!({}))),
        );
        let levels = &room.events[&state[&key("m.room.power_levels", "")]];
        assert_eq!(levels.sender, ALICE, "version {number}");
        assert!(!levels.json.contains(CAROL));
    }
}

#[test]
fn both_of_two_joins_at_the_same_time_stand() {
    for number in 1..=12 {
        let (_, state) = fork(number, |room| room.join(&["@left:b.test"]), |room| room.join(&["@right:c.test"]));
        assert!(state.contains_key(&key("m.room.member", "@left:b.test")));
        assert!(state.contains_key(&key("m.room.member", "@right:c.test")));
    }
}

#[test]
fn s_029_a_join_does_not_outlive_the_end_of_the_public_rule_at_the_same_time() {
    for number in 1..=12 {
        let (_, state) = fork(
            number,
            |room| room.join(&["@late:b.test"]),
            |room| drop(room.set("m.room.join_rules", json!({ "join_rule": "invite" }))),
        );
        assert_eq!(state.get(&key("m.room.member", "@late:b.test")), None, "version {number}");
    }
}

#[test]
fn of_two_topics_at_the_same_time_the_later_stands() {
    for number in 1..=12 {
        for later in [0, 1] {
            let mut room = rooms(number..=number).next().unwrap();
            let base = room.state_map();
            let topics = [0, 1].map(|index| {
                let time = if index == later { 9_000 } else { 8_000 };
                let draft = room.draft(ALICE, "m.room.topic", Some(""), json!({ "topic": index }));
                room.craft(Draft { origin_server_ts: timestamp(time), ..draft })
            });
            let states = topics.each_ref().map(|topic| with(&base, &[topic]));
            let state = resolved(&room, &[&states[0], &states[1]]);
            assert_eq!(state[&key("m.room.topic", "")], topics[later].event_id, "version {number}");
        }
    }
}

/// What all branches agree on decides about what they do not, though nothing in conflict names it.
#[test]
fn s_026_the_agreed_power_levels_are_read_before_older_ones() {
    for number in 1..=12 {
        let mut room = rooms(number..=number).next().unwrap();
        room.set_levels(json!({ "users": { BOB: 50 } }));
        let of_alice = room.craft(room.draft(ALICE, "m.room.topic", Some(""), json!({ "topic": "Alice's" })));
        let of_bob = room.craft(room.draft(BOB, "m.room.topic", Some(""), json!({ "topic": "Bob's, and later" })));
        room.set_levels(json!({}));
        let base = room.state_map();
        let states = [with(&base, &[&of_alice]), with(&base, &[&of_bob])];
        let branches = || states.iter().map(|state| branch(&room.events, state)).collect::<Vec<_>>();
        let needed = needed(&room.room.rules, &branches(), &room.events);
        let state = resolve(&room.room.rules, branches(), &needed).unwrap();
        assert_eq!(state, resolved(&room, &[&states[0], &states[1]]), "version {number}");
        // From version 12 on, what is agreed on comes last, and each event stands on what it names itself.
        let expected = if needs_subgraph(&room.room.rules) { &of_bob } else { &of_alice };
        assert_eq!(state[&key("m.room.topic", "")], expected.event_id, "version {number}");
    }
}

/// Another server may list a rejected event in a state all the same.
#[test]
fn s_021_a_rejected_event_is_no_input_to_resolution() {
    for number in 1..=12 {
        let mut room = rooms(number..=number).next().unwrap();
        let honest = room.state_map();
        // Allowed by itself, so that only the mark keeps it out; later, so that it would win.
        let topic = room.craft(room.draft(ALICE, "m.room.topic", Some(""), json!({ "topic": "rejected" })));
        let levels = room.levels(json!({ "users": { BOB: 100 } }));
        let levels = room.craft(room.draft(ALICE, "m.room.power_levels", Some(""), levels));
        let claimed = with(&honest, &[&topic, &levels]);
        let accepted = resolved(&room, &[&honest, &claimed]);
        assert_eq!(accepted[&key("m.room.power_levels", "")], levels.event_id);
        for event in [&topic, &levels] {
            room.events.insert(event.event_id.clone(), Arc::new((**event).clone().into_rejected()));
        }
        assert_eq!(resolved(&room, &[&honest, &claimed]), honest, "version {number}");
        assert_eq!(resolved(&room, &[&claimed, &claimed]).get(&key("m.room.topic", "")), None, "version {number}");
    }
}

/// Nor does anything stand on one that was rejected: the right one, when it comes, is used instead.
#[test]
fn s_021_a_rejected_event_authorises_nothing_in_resolution() {
    for number in 1..=12 {
        let mut room = rooms(number..=number).next().unwrap();
        let honest = room.state_map();
        let levels = room.levels(json!({ "users": { BOB: 50 } }));
        let promotion = room.craft(room.draft(ALICE, "m.room.power_levels", Some(""), levels));
        let mut draft = room.draft(BOB, "m.room.topic", Some(""), json!({ "topic": "Bob's" }));
        let present = room.state_id("m.room.power_levels", "");
        draft.auth_events.retain(|event_id| *event_id != present);
        draft.auth_events.push(promotion.event_id.clone());
        let topic = room.craft(draft);
        let claimed = with(&honest, &[&promotion, &topic]);
        assert_eq!(resolved(&room, &[&honest, &claimed])[&key("m.room.topic", "")], topic.event_id);
        room.events.insert(promotion.event_id.clone(), Arc::new((*promotion).clone().into_rejected()));
        assert_eq!(resolved(&room, &[&honest, &claimed]), honest, "version {number}");
    }
}

#[test]
fn one_state_and_no_state_resolve_to_themselves() {
    for number in 1..=12 {
        let room = RoomFixture::of(&new_room(version(number)));
        let state = room.state_map();
        assert_eq!(resolved(&room, &[&state]), state);
        assert_eq!(resolved(&room, &[&state, &state, &state]), state);
        assert_eq!(resolved(&room, &[]), StateMap::new());
        assert_eq!(resolved(&room, &[&StateMap::new(), &StateMap::new()]), StateMap::new());
    }
}
