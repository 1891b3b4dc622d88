//! Rule 1: create events. A room has one, and it is the first.

use homeserver_rules::{
    RoomSnapshot,
    change::Standing,
    event::{Draft, build},
    room::{authorise::check_auth_events, receive::judge, send::SendError},
};
use serde_json::{Value, json};

use crate::room_fixture::{ALICE, BOB, DAVE, RoomFixture, object, rooms, server_key, version};

/// A create event by Alice of a room like this one.
fn create(room: &RoomFixture, content: Value) -> Draft {
    let mut content = object(content);
    if !room.room.rules.authorization.use_room_create_sender {
        content.entry("creator".to_owned()).or_insert_with(|| ALICE.to_owned().into());
    }
    Draft {
        room_id: room.room.rules.event_format.require_room_create_room_id.then(|| room.room.room_id.clone()),
        content,
        prev_events: Vec::new(),
        auth_events: Vec::new(),
        depth: 1,
        ..room.draft(ALICE, "m.room.create", Some(""), json!({}))
    }
}

/// What the rules say about the event by itself, before it is the first of a room.
fn verdict(room: &RoomFixture, draft: Draft) -> Result<(), String> {
    let pdu = room.build(draft);
    check_auth_events(&room.room.rules.authorization, &pdu, &room.events).map_err(|refused| refused.0)
}

#[test]
fn s_018_rule_1_a_create_event_is_allowed() {
    for room in rooms(1..=12) {
        assert_eq!(verdict(&room, create(&room, json!({ "room_version": room.room.version }))), Ok(()));
        let first = room.state("m.room.create", "").unwrap();
        assert_eq!(check_auth_events(&room.room.rules.authorization, &first, &room.events), Ok(()));
    }
}

#[test]
fn s_022_rule_1_1_nothing_comes_before_it() {
    for room in rooms(1..=12) {
        let draft = Draft { prev_events: vec![room.state_id("m.room.member", ALICE)], ..create(&room, json!({})) };
        assert!(verdict(&room, draft).unwrap_err().contains("previous events"));
    }
}

/// Rule 1.2 is also one of form, so that such events are dropped: see the tests of `event::read`.
#[test]
fn s_022_rule_1_2_the_room_is_its_senders() {
    for room in rooms(1..=11) {
        let draft = Draft { sender: BOB.try_into().unwrap(), ..create(&room, json!({})) };
        let key = server_key("b.test");
        let refused = build(draft, &room.room.rules, &key).unwrap_err().to_string();
        assert!(refused.contains("server that the room id does not name"), "{refused}");
    }
}

#[test]
fn s_022_rule_1_3_the_room_version_is_one_that_we_know() {
    for room in rooms(1..=12) {
        for unknown in ["99", "", "org.example.custom", "1.0", " 1"] {
            let verdict = verdict(&room, create(&room, json!({ "room_version": unknown })));
            assert!(verdict.unwrap_err().contains("room version"), "{unknown:?}");
        }
        for wrong_type in [json!(11), json!(null), json!(["11"])] {
            let verdict = verdict(&room, create(&room, json!({ "room_version": wrong_type })));
            assert_eq!(verdict.is_ok(), wrong_type.is_null(), "{wrong_type}: {verdict:?}");
        }
    }
}

#[test]
fn s_018_rule_1_4_until_version_10_it_names_the_creator() {
    for number in 1..=12 {
        let room = RoomFixture::new(version(number));
        let mut draft = create(&room, json!({}));
        draft.content.remove("creator");
        assert_eq!(verdict(&room, draft).is_ok(), number >= 11, "version {number}");
    }
}

#[test]
fn s_023_rule_1_4_additional_creators_are_user_ids() {
    let wrong = [
        json!("@bob:b.test"),
        json!(null),
        json!({}),
        json!([1]),
        json!([null]),
        json!(["bob"]),
        json!(["@bob"]),
        json!(["#bob:b.test"]),
        json!([BOB, ""]),
        json!([[BOB]]),
    ];
    for number in 11..=12 {
        let room = RoomFixture::new(version(number));
        for creators in &wrong {
            let verdict = verdict(&room, create(&room, json!({ "additional_creators": creators })));
            assert_eq!(verdict.is_ok(), number == 11, "version {number}: {creators}");
        }
        for creators in [json!([]), json!([BOB]), json!([BOB, BOB, ALICE])] {
            assert_eq!(verdict(&room, create(&room, json!({ "additional_creators": creators }))), Ok(()));
        }
    }
}

/// Whoever receives a second create event for a room keeps the first.
#[test]
fn s_022_a_room_has_one_create_event() {
    for mut room in rooms(1..=11) {
        let second = room.craft(create(&room, json!({ "room_version": room.room.version, "m.federate": false })));
        let standing = judge(&room.room, &second, |_, _| None, &room.events);
        assert!(matches!(standing, Standing::Rejected(_)), "version {}: {standing:?}", room.room.version);
        let first = room.state("m.room.create", "").unwrap();
        assert_eq!(judge(&room.room, &first, |_, _| None, &room.events), Standing::Accepted);
    }
}

#[test]
fn s_022_a_create_event_of_another_version_than_the_rooms_is_rejected() {
    for number in 1..=12_u8 {
        let room = RoomFixture::new(version(number));
        let empty = RoomSnapshot::empty(room.room.room_id.clone(), room.room.version.clone(), room.room.rules.clone());
        let judged = |content: Value| {
            let pdu = room.build(create(&room, content));
            judge(&empty, &pdu, |_, _| None, &room.events)
        };
        assert_eq!(judged(json!({ "room_version": version(number) })), Standing::Accepted);
        let other = if number == 12 { 11 } else { number + 1 };
        assert!(matches!(judged(json!({ "room_version": version(other) })), Standing::Rejected(_)));
        // An absent version means the first.
        assert_eq!(judged(json!({})) == Standing::Accepted, number == 1, "version {number}");
    }
}

/// A client may put any state event into a room, but not this one.
#[test]
fn s_022_nobody_sends_a_create_event_into_a_room() {
    for room in rooms(1..=12) {
        for sender in [ALICE, BOB, DAVE] {
            let content = json!({ "creator": sender, "room_version": room.room.version });
            let sent = room.try_make(sender, "m.room.create", Some(""), content.clone());
            assert!(matches!(sent, Err(SendError::NotAllowed(_))), "version {}: {sender}", room.room.version);
            let keyed = room.try_make(sender, "m.room.create", Some("key"), content.clone());
            assert!(keyed.is_err());
            assert!(room.try_make(sender, "m.room.create", None, content).is_err());
        }
    }
}
