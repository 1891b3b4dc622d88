//! Room snapshots: what differs between two states, and the counts that are kept up on the way.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use homeserver_rules::{
    Pdu, RoomSnapshot,
    change::StateEntry,
    event::Draft,
    room::{StateKey, StateMap, authorise::PowerLevels, send::entry_of},
};
use proptest::prelude::*;
use ruma::{
    EventId, OwnedEventId, RoomVersionId, UserId,
    events::{StateEventType, room::member::MembershipState},
    room_id,
};
use serde_json::{Value, json};

use crate::{
    bounded::bounded,
    room_fixture::{ALICE, BOB, CAROL, RoomFixture, rooms, user, versions},
};

fn empty() -> RoomSnapshot {
    let rules = RoomVersionId::V11.rules().unwrap();
    RoomSnapshot::empty(room_id!("!room:a.test").to_owned(), RoomVersionId::V11, rules)
}

/// The ids of member events begin with the membership that they give.
fn membership(event_id: &EventId) -> Option<MembershipState> {
    let name = event_id.as_str()[1..].split('-').next()?;
    (name != "none").then(|| name.into())
}

fn key() -> impl Strategy<Value = StateKey> {
    let member = prop::sample::select(vec!["@a:a.test", "@b:a.test", "@c:b.test", "@d:b.test", "@e:c.test", "no user"])
        .prop_map(|user| (StateEventType::RoomMember, user.to_owned()));
    let other = prop::sample::select(vec!["m.room.topic", "m.room.name", "org.example"])
        .prop_map(|event_type| (StateEventType::from(event_type), String::new()));
    prop_oneof![4 => member, 1 => other]
}

fn event_id() -> impl Strategy<Value = OwnedEventId> {
    let name = prop::sample::select(vec!["join", "join", "invite", "leave", "ban", "knock", "none"]);
    (name, 0..3_u8).prop_map(|(name, number)| format!("${name}-{number}").try_into().unwrap())
}

fn state() -> impl Strategy<Value = StateMap> {
    prop::collection::hash_map(key(), event_id(), 0..9)
}

fn apply(room: &RoomSnapshot, entries: &[StateEntry]) -> RoomSnapshot {
    let mut after = room.clone();
    after.apply(entries);
    after
}

fn at(state: &StateMap) -> RoomSnapshot {
    apply(&empty(), &empty().difference(state, membership))
}

/// The counts as they follow from the state alone.
fn recount(room: &RoomSnapshot) -> (u64, u64, BTreeSet<String>) {
    let with = |wanted: MembershipState| -> Vec<String> {
        let members = room.state().filter(|((event_type, _), _)| *event_type == StateEventType::RoomMember);
        members
            .filter(|(_, value)| value.membership.as_ref() == Some(&wanted))
            .map(|((_, key), _)| key.clone())
            .collect()
    };
    let (joined, invited) = (with(MembershipState::Join), with(MembershipState::Invite));
    let servers = joined.iter().filter_map(|id| Some(<&UserId>::try_from(id.as_str()).ok()?.server_name().to_string()));
    (joined.len() as u64, invited.len() as u64, servers.collect())
}

fn counts(room: &RoomSnapshot) -> (u64, u64, BTreeSet<String>) {
    (room.joined_count(), room.invited_count(), room.servers().map(ToString::to_string).collect())
}

/// Both lists one after the other, as one: the last word on each key, without what it had before.
fn combined(before: &StateMap, first: Vec<StateEntry>, second: Vec<StateEntry>) -> Vec<StateEntry> {
    let both = first.into_iter().chain(second);
    let last: HashMap<_, _> = both.map(|entry| ((entry.event_type.clone(), entry.state_key.clone()), entry)).collect();
    let ordered: BTreeMap<_, _> =
        last.into_iter().filter(|(key, entry)| before.get(key) != entry.event_id.as_ref()).collect();
    ordered.into_values().collect()
}

proptest! {
    #![proptest_config(bounded(1000, 4))]

    #[test]
    fn applying_the_difference_gives_the_other_state(a in state(), b in state()) {
        let room = at(&a);
        prop_assert_eq!(&room.state_map(), &a);
        let after = apply(&room, &room.difference(&b, membership));
        prop_assert_eq!(&after.state_map(), &b);
        prop_assert_eq!(&room.state_map(), &a, "the state before is not touched");
        prop_assert!(after.difference(&b, membership).is_empty());
        for (event_type, state_key) in b.keys() {
            let given = after.state_value(event_type, state_key).unwrap().membership.clone();
            let is_member = *event_type == StateEventType::RoomMember;
            prop_assert_eq!(given, is_member.then(|| membership(&b[&(event_type.clone(), state_key.clone())])).flatten());
        }
    }

    #[test]
    fn differences_add_up(a in state(), b in state(), c in state()) {
        let (to_b, to_c) = (at(&a).difference(&b, membership), at(&b).difference(&c, membership));
        prop_assert_eq!(combined(&a, to_b, to_c), at(&a).difference(&c, membership));
    }

    #[test]
    fn the_counts_are_those_of_the_state(states in prop::collection::vec(state(), 1..6)) {
        let mut room = empty();
        for state in states {
            room = apply(&room, &room.difference(&state, membership));
            prop_assert_eq!(counts(&room), recount(&room));
            for membership in [MembershipState::Join, MembershipState::Ban] {
                for user_id in room.members(&membership) {
                    prop_assert_eq!(room.membership(&user_id), membership.clone());
                }
            }
            for server in ["a.test", "b.test", "c.test"] {
                let server = server.try_into().unwrap();
                prop_assert_eq!(room.has_server(server), room.servers().any(|present| present == server));
            }
        }
    }
}

/// Content that no rule looks at, and that is not what the spec says.
fn legacy_state() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("m.room.name", "", json!({ "name": 5 })),
        ("m.room.topic", "", json!({ "topic": { "m.text": null } })),
        ("m.room.canonical_alias", "", json!({ "alias": [], "alt_aliases": "none" })),
        ("m.room.avatar", "", json!({ "url": { "url": 1 } })),
        ("m.room.tombstone", "", json!({ "replacement_room": 7 })),
        ("m.room.server_acl", "", json!({ "allow": "*", "deny": { "a": 1 } })),
        ("m.room.history_visibility", "", json!({ "history_visibility": ["shared"] })),
        ("m.room.guest_access", "", json!({})),
        ("m.room.encryption", "", json!({ "algorithm": false })),
        ("m.room.join_rules", "", json!({ "join_rule": "org.example.custom", "allow": 3 })),
        ("m.space.child", "!no room", json!({ "via": "a.test" })),
    ]
}

#[test]
fn s_035_malformed_content_does_not_break_snapshots() {
    for version in versions() {
        let predecessor = json!({ "predecessor": "a string", "type": 5, "m.federate": null });
        let mut room = RoomFixture::with_creation_content(version, predecessor);
        room.set("m.room.join_rules", json!({ "join_rule": "public" }));
        let profile = json!({ "membership": "join", "displayname": { "a": 1 }, "avatar_url": 5, "is_direct": "yes" });
        room.send(BOB, "m.room.member", Some(BOB), profile.clone());
        room.send(BOB, "m.room.member", Some(BOB), profile);
        for (event_type, state_key, content) in legacy_state() {
            room.send(ALICE, event_type, Some(state_key), content);
        }
        let member = room.state("m.room.member", BOB).unwrap();
        assert_eq!(member.content_str("displayname"), None, "a field of another type is treated as absent");
        assert_eq!(room.state("m.room.name", "").unwrap().content_str("name"), None);
        assert_eq!(room.state("m.room.create", "").unwrap().content_str("predecessor").as_deref(), Some("a string"));
        assert_eq!(counts(&room.room), recount(&room.room));
        assert_eq!((room.room.joined_count(), room.room.servers().count()), (2, 2));
        assert_eq!(room.room.membership(&user(BOB)), MembershipState::Join);
        room.message(BOB, "it works");
    }
}

/// Power levels that could not be set today may still be the state of an old room: no answer about them panics.
#[test]
fn s_035_malformed_power_levels_have_answers() {
    let malformed = [
        json!({ "users": 5 }),
        json!({ "users": { ALICE: "x" } }),
        json!({ "users_default": [] }),
        json!({ "events": "none" }),
        json!({ "redact": {}, "state_default": null }),
        json!({ "redact": true }),
    ];
    for room in rooms(1..=12) {
        for content in &malformed {
            let pdu = room.build(room.draft(ALICE, "m.room.power_levels", Some(""), content.clone()));
            let create = room.state("m.room.create", "").unwrap();
            let levels = PowerLevels::new(&room.room.rules.authorization, create, Some(pdu));
            let creators_stand_above = room.room.rules.authorization.explicitly_privilege_room_creators;
            assert!(!levels.may_redact(&user(BOB)));
            assert!(!levels.may_send_state(&user(BOB), &"m.room.topic".into()));
            if creators_stand_above {
                assert!(levels.may_redact(&user(ALICE)));
            }
        }
    }
}

#[test]
fn s_035_a_membership_of_another_type_is_none() {
    let room = rooms(11..=11).next().unwrap();
    for content in [json!({}), json!({ "membership": 5 }), json!({ "membership": null })] {
        let pdu = room.build(room.draft(CAROL, "m.room.member", Some(CAROL), content));
        assert_eq!(pdu.membership(), None);
        let after = apply(&room.room, &[entry_of(&pdu).unwrap()]);
        assert_eq!(counts(&after), counts(&room.room));
        assert_eq!(after.membership(&user(CAROL)), MembershipState::Leave);
    }
    let keyless = room.build(Draft { state_key: None, ..room.draft(BOB, "m.room.member", Some(BOB), json!({})) });
    assert_eq!((keyless.membership(), entry_of(&keyless)), (None, None));
    let nobody = |key: &str| Pdu::membership(&room.build(room.draft(BOB, "m.room.member", Some(key), json!({}))));
    assert_eq!(nobody("not a user"), None);
}

#[test]
fn a_copy_of_a_snapshot_does_not_change_with_it() {
    let mut room = RoomFixture::new(RoomVersionId::V11);
    let before = room.room.clone();
    room.join(&[BOB, CAROL]);
    room.member(CAROL, CAROL, "leave");
    assert_eq!((before.joined_count(), room.room.joined_count()), (1, 2));
    assert!(!before.has_server("b.test".try_into().unwrap()) && room.room.has_server("b.test".try_into().unwrap()));
    assert_eq!(room.room.members(&MembershipState::Leave).collect::<Vec<_>>(), [user(CAROL)]);
}
