//! Joining by way of another server: its template lends us only what our event builds on.

use homeserver_rules::{
    change::Standing,
    event::{Draft, build},
    room::{
        member::change,
        receive::judge,
        send::Intent,
        template::{UnexpectedTemplate, Wanted, draft, offer},
    },
};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, events::room::member::MembershipState, server_name, user_id};
use serde_json::{Value, json};

use crate::room_fixture::{ALICE, BOB, CAROL, RoomFixture, object, rooms, server_key, timestamp, user};

fn join(user_id: &str) -> Intent {
    change(&user(user_id), &user(user_id), &MembershipState::Join, CanonicalJsonObject::new())
}

fn offered(room: &RoomFixture, user_id: &str) -> CanonicalJsonObject {
    offer(&room.room, join(user_id), timestamp(5_000), &room.events).unwrap()
}

/// The draft that Carol's server makes of a template.
fn drafted(room: &RoomFixture, template: &CanonicalJsonObject) -> Result<Draft, UnexpectedTemplate> {
    let wanted = Wanted {
        room_id: &room.room.room_id,
        user_id: user_id!("@carol:c.test"),
        membership: MembershipState::Join,
        content: object(json!({ "displayname": "Carol" })),
        asked: server_name!("a.test"),
        now: timestamp(6_000),
        id_seed: "seed".to_owned(),
    };
    draft(wanted, template, &room.room.rules)
}

#[test]
fn s_001_what_is_offered_is_taken_and_accepted() {
    for mut room in rooms(1..=12) {
        let head = room.message(BOB, "hello");
        let draft = drafted(&room, &offered(&room, CAROL)).unwrap();
        assert_eq!((draft.prev_events.as_slice(), draft.depth), ([head.event_id.clone()].as_slice(), head.depth + 1));
        let pdu = room.craft(draft);
        let state = room.state_map();
        let before = |event_type: &_, key: &str| state.get(&(Clone::clone(event_type), key.to_owned())).cloned();
        assert_eq!(judge(&room.room, &pdu, before, &room.events), Standing::Accepted);
        assert_eq!(pdu.content_str("displayname").as_deref(), Some("Carol"));
        assert_eq!(pdu.origin_server_ts, timestamp(6_000), "the time is ours, too");
    }
}

#[test]
fn s_001_what_is_not_allowed_is_not_offered() {
    for mut room in rooms(1..=12) {
        room.member(ALICE, CAROL, "ban");
        assert!(offer(&room.room, join(CAROL), timestamp(5_000), &room.events).is_err());
        room.set("m.room.join_rules", json!({ "join_rule": "invite" }));
        assert!(offer(&room.room, join("@new:c.test"), timestamp(5_000), &room.events).is_err());
    }
}

#[test]
fn s_001_a_template_for_something_else_is_refused() {
    for room in rooms(1..=12) {
        let honest = offered(&room, CAROL);
        let mut cases: Vec<(&str, Value)> = vec![
            ("type", json!("m.room.power_levels")),
            ("sender", json!(BOB)),
            ("state_key", json!(BOB)),
            ("room_id", json!("!other:a.test")),
            ("content", json!({ "membership": "leave" })),
            ("content", json!({ "membership": 5 })),
            ("content", json!({ "membership": "join", "join_authorised_via_users_server": "no user" })),
            ("content", json!({ "membership": "join", "join_authorised_via_users_server": 5 })),
            ("content", json!("join")),
            ("depth", json!(-1)),
            ("depth", json!("5")),
        ];
        for references in [json!("$a"), json!([5]), json!([null]), json!(["no id"]), json!([[]]), json!([[5, {}]])] {
            cases.extend([("prev_events", references.clone()), ("auth_events", references)]);
        }
        for field in ["type", "sender", "state_key", "room_id", "content", "depth", "prev_events", "auth_events"] {
            cases.push((field, json!(null)));
            let mut without = honest.clone();
            without.remove(field);
            assert!(drafted(&room, &without).is_err(), "without {field}");
        }
        for (field, value) in cases {
            let mut template = honest.clone();
            template.insert(field.to_owned(), CanonicalJsonValue::try_from(value.clone()).unwrap());
            assert!(drafted(&room, &template).is_err(), "{field} = {value}");
        }
    }
}

#[test]
fn s_001_whatever_else_a_template_says_is_not_signed() {
    for room in rooms(1..=12) {
        let mut template = offered(&room, CAROL);
        let extras = json!({
            "redacts": "$victim:a.test", "unsigned": { "age": 1 }, "hashes": { "sha256": "forged" },
            "signatures": { "c.test": { "ed25519:fixture": "forged" } }, "event_id": "$forged:c.test",
            "origin": "evil.test", "org.example": true,
        });
        template.extend(object(extras));
        let content = json!({ "membership": "join", "displayname": "Mallory", "org.example": true });
        template.insert("content".to_owned(), CanonicalJsonValue::try_from(content).unwrap());
        let draft = drafted(&room, &template).unwrap();
        let pdu = build(draft, &room.room.rules, &server_key("c.test")).unwrap();
        for word in ["forged", "victim", "evil", "unsigned", "Mallory", "org.example", "redacts"] {
            assert!(!pdu.json.contains(word), "version {}: {word}", room.room.version);
        }
    }
}

#[test]
fn s_001_more_references_than_events_may_have_are_not_signed() {
    for room in rooms(1..=12) {
        for (field, most) in [("prev_events", 20), ("auth_events", 10)] {
            let mut template = offered(&room, CAROL);
            let id = |index: usize| json!(format!("$event{index}:a.test"));
            let paired = room.room.version.as_str().len() == 1 && room.room.version.as_str() < "3";
            let reference = |index| if paired { json!([id(index), {}]) } else { id(index) };
            let references: Vec<Value> = (0..=most).map(reference).collect();
            template.insert(field.to_owned(), CanonicalJsonValue::try_from(json!(references)).unwrap());
            let draft = drafted(&room, &template).unwrap();
            assert!(build(draft, &room.room.rules, &server_key("c.test")).is_err(), "{field}");
        }
    }
}

#[test]
fn s_001_only_the_asked_server_vouches() {
    for number in 8..=12 {
        let room = rooms(number..=number).next().unwrap();
        let naming = |user_id: &str| {
            let mut template = offered(&room, CAROL);
            let content = json!({ "membership": "join", "join_authorised_via_users_server": user_id });
            template.insert("content".to_owned(), CanonicalJsonValue::try_from(content).unwrap());
            drafted(&room, &template)
        };
        let draft = naming(ALICE).unwrap();
        assert_eq!(draft.content["join_authorised_via_users_server"].as_str(), Some(ALICE));
        assert!(naming(BOB).is_err());
        assert!(naming(CAROL).is_err());
    }
}
