//! Rules 2 and 3: which events an event names to prove that it is allowed.

use std::sync::Arc;

use homeserver_rules::{
    Pdu,
    event::{Draft, build},
    room::{
        EventsById,
        authorise::{check_auth_events, deciding_keys_of, select_auth_events},
        create::NewRoom,
    },
};
use ruma::OwnedEventId;
use serde_json::json;

use crate::room_fixture::{ALICE, BOB, CAROL, RoomFixture, new_room, object, rooms, server_key, user, version};

fn message(room: &RoomFixture, sender: &str) -> Draft {
    room.draft(sender, "m.room.message", None, json!({ "body": "hello" }))
}

fn naming(draft: Draft, auth_events: Vec<OwnedEventId>) -> Draft {
    Draft { auth_events, ..draft }
}

fn and(mut draft: Draft, event: &Arc<Pdu>) -> Draft {
    draft.auth_events.push(event.event_id.clone());
    draft
}

#[test]
fn s_018_the_events_that_are_selected_are_accepted() {
    for mut room in rooms(1..=12) {
        room.join(&[CAROL]);
        room.member(BOB, "@new:c.test", "invite");
        let drafts = [
            message(&room, BOB),
            room.draft(ALICE, "m.room.topic", Some(""), json!({})),
            room.draft(ALICE, "m.room.member", Some(BOB), json!({ "membership": "ban" })),
            room.draft(BOB, "m.room.member", Some(BOB), json!({ "membership": "join", "displayname": "B" })),
            room.draft(ALICE, "m.room.member", Some("@newer:c.test"), json!({ "membership": "invite" })),
        ];
        for draft in drafts {
            room.allows(draft);
        }
    }
}

#[test]
fn s_020_the_selection_is_what_the_spec_lists() {
    for mut room in rooms(1..=12) {
        let names_create = room.room.version.as_str() != "12";
        let levels = room.state_id("m.room.power_levels", "");
        let create = room.state_id("m.room.create", "");
        let (alice, bob) = (room.state_id("m.room.member", ALICE), room.state_id("m.room.member", BOB));
        let join_rules = room.state_id("m.room.join_rules", "");
        let cases = [
            (message(&room, BOB), vec![&levels, &bob]),
            (
                room.draft(ALICE, "m.room.member", Some(BOB), json!({ "membership": "leave" })),
                vec![&levels, &alice, &bob],
            ),
            (room.draft(BOB, "m.room.member", Some(BOB), json!({ "membership": "leave" })), vec![&levels, &bob]),
            (
                room.draft(BOB, "m.room.member", Some(BOB), json!({ "membership": "join" })),
                vec![&levels, &bob, &join_rules],
            ),
            (
                room.draft(CAROL, "m.room.member", Some(CAROL), json!({ "membership": "join" })),
                vec![&levels, &join_rules],
            ),
        ];
        for (draft, mut expected) in cases {
            if names_create {
                expected.push(&create);
            }
            let mut named: Vec<_> = draft.auth_events.iter().collect();
            named.sort();
            expected.sort();
            assert_eq!(named, expected, "version {}: {:?}", room.room.version, draft.content);
        }
        // A restricted join also names the member who vouches for it, from version 8 on.
        let content = json!({ "membership": "join", "join_authorised_via_users_server": ALICE });
        let pdu = room.craft(room.draft(CAROL, "m.room.member", Some(CAROL), content));
        let keys = deciding_keys_of(&room.room.rules.authorization, &pdu).unwrap();
        let vouched = room.room.rules.authorization.restricted_join_rule;
        assert_eq!(select_auth_events(&room.room, &keys).contains(&alice), vouched);
    }
}

#[test]
fn s_020_an_auth_event_that_is_not_known_is_no_proof() {
    for mut room in rooms(1..=12) {
        let draft = message(&room, BOB);
        room.events.remove(&draft.auth_events[0]);
        let pdu = room.build(draft);
        let refused = check_auth_events(&room.room.rules.authorization, &pdu, &room.events).unwrap_err();
        assert!(refused.0.contains("failed to find auth event"), "{refused}");
    }
}

#[test]
fn s_020_rule_3_1_no_key_stands_twice() {
    for mut room in rooms(1..=12) {
        let older = room.state("m.room.member", BOB).unwrap();
        let newer = room.member(BOB, BOB, "join");
        room.allows(message(&room, BOB));
        room.refuses(and(message(&room, BOB), &older), "duplicate auth event");
        room.refuses(and(message(&room, BOB), &newer), "duplicate auth event");
    }
}

#[test]
fn s_020_rule_3_2_only_what_the_algorithm_selects() {
    for mut room in rooms(1..=12) {
        room.join(&[CAROL]);
        let topic = room.set("m.room.topic", json!({}));
        let chat = room.message(ALICE, "hello");
        for extra in
            [&topic, &room.state("m.room.member", CAROL).unwrap(), &room.state("m.room.join_rules", "").unwrap()]
        {
            room.refuses(and(message(&room, BOB), extra), "unexpected auth event");
        }
        room.refuses(and(message(&room, BOB), &chat), "has no `state_key`");
    }
}

#[test]
fn s_020_rule_3_3_nothing_that_was_rejected() {
    for mut room in rooms(1..=12) {
        let draft = message(&room, BOB);
        for event_id in draft.auth_events.clone() {
            let honest = room.events[&event_id].clone();
            room.events.insert(event_id.clone(), Arc::new((*honest).clone().into_rejected()));
            room.refuses(draft.clone(), "rejected");
            room.events.insert(event_id, honest);
        }
        room.allows(draft);
    }
}

#[test]
fn s_020_rule_3_4_the_create_event_until_version_11() {
    for room in rooms(1..=11) {
        let create = room.state_id("m.room.create", "");
        let mut draft = message(&room, BOB);
        draft.auth_events.retain(|event_id| *event_id != create);
        room.refuses(draft, "no `m.room.create` event in auth events");
        room.refuses(naming(message(&room, BOB), Vec::new()), "no `m.room.create` event in auth events");
    }
}

#[test]
fn s_020_rule_3_5_nothing_of_another_room() {
    for mut room in rooms(1..=12) {
        let new = NewRoom { name: Some("Elsewhere".to_owned()), ..new_room(room.room.version.clone()) };
        let content = object(json!({ "type": "org.example" }));
        let mut other = RoomFixture::named("!other:a.test", &NewRoom { creation_content: content, ..new });
        other.join(&[BOB]);
        room.events.extend(other.events.clone());
        let (here, elsewhere) = (room.state_id("m.room.member", BOB), other.state_id("m.room.member", BOB));
        let mut draft = message(&room, BOB);
        draft.auth_events.retain(|event_id| *event_id != here);
        draft.auth_events.push(elsewhere);
        room.refuses(draft, "not in the same room");
    }
}

#[test]
fn s_020_what_the_event_names_must_allow_it_itself() {
    for mut room in rooms(1..=12) {
        let member = room.state_id("m.room.member", BOB);
        let mut draft = message(&room, BOB);
        draft.auth_events.retain(|event_id| *event_id != member);
        room.refuses(draft, "membership is not `join`");

        // Bob was promoted and demoted again: the demotion decides, unless he names the promotion instead.
        let demotion = room.state_id("m.room.power_levels", "");
        let promotion = room.set_levels(json!({ "users": { BOB: 50 } }));
        let again = room.set_levels(json!({}));
        let mut draft = room.draft(BOB, "m.room.topic", Some(""), json!({}));
        assert!(draft.auth_events.contains(&again.event_id) && !draft.auth_events.contains(&demotion));
        draft.auth_events.retain(|event_id| *event_id != again.event_id);
        let pdu = room.build(and(draft, &promotion));
        check_auth_events(&room.room.rules.authorization, &pdu, &room.events).unwrap();
        room.refuses(and(room.draft(BOB, "m.room.topic", Some(""), json!({})), &promotion), "duplicate");
    }
}

/// Rule 2: the create event that counts is the one that the room is named after, whatever else is loaded.
#[test]
fn s_023_another_rooms_create_event_gives_no_power() {
    let bobs_new_room = NewRoom { creator: user(BOB), ..new_room(version(12)) };
    // Which event a map yields first is chance: try often.
    for _ in 0..32 {
        let mut room = RoomFixture::new(version(12));
        room.join(&[BOB]);
        let other = RoomFixture::of(&bobs_new_room);
        room.events = room.events.clone().into_iter().chain(other.events).collect::<EventsById>();
        room.refuses(room.draft(BOB, "m.room.topic", Some(""), json!({})), "enough power");
        room.allows(room.draft(ALICE, "m.room.topic", Some(""), json!({})));
    }
}

#[test]
fn s_023_rule_2_the_room_is_named_after_an_accepted_create_event() {
    for mut room in rooms(12..=12) {
        let draft = Draft {
            room_id: Some("!AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".try_into().unwrap()),
            auth_events: Vec::new(),
            ..message(&room, BOB)
        };
        room.refuses(draft, "failed to find `m.room.create` event");
        let not_a_create = room.state_id("m.room.power_levels", "").as_str()[1..].to_owned();
        let draft = Draft {
            room_id: Some(format!("!{not_a_create}").try_into().unwrap()),
            auth_events: Vec::new(),
            ..message(&room, BOB)
        };
        room.refuses(draft, "create");
        let create = room.state("m.room.create", "").unwrap();
        room.events.insert(create.event_id.clone(), Arc::new((*create).clone().into_rejected()));
        room.refuses(message(&room, BOB), "rejected `m.room.create` event");
    }
}

#[test]
fn s_023_the_create_event_is_not_named_in_version_12() {
    let room = rooms(12..=12).next().unwrap();
    let create = room.state_id("m.room.create", "");
    assert!(!message(&room, BOB).auth_events.contains(&create));
    let draft = Draft { auth_events: vec![create], ..message(&room, BOB) };
    assert!(build(draft, &room.room.rules, &server_key("b.test")).is_err());
}
