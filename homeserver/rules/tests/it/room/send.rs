//! Sending: what our own events build on, and what they say.

use homeserver_rules::{
    RoomSnapshot,
    event::read_json,
    pdu::MAX_DEPTH,
    room::{
        receive::MAX_FORWARD_EXTREMITIES,
        send::{Intent, SendError, accept},
    },
};
use ruma::{OwnedEventId, signatures::reference_hash};
use serde_json::json;

use crate::room_fixture::{ALICE, BOB, CAROL, RoomFixture, object, rooms, user};

#[test]
fn an_event_builds_on_the_one_before() {
    for mut room in rooms(1..=12) {
        let first = room.message(BOB, "one");
        let second = room.message(ALICE, "two");
        assert_eq!(second.prev_events, std::slice::from_ref(&first.event_id));
        assert_eq!(second.depth, first.depth + 1);
        assert_eq!(room.room.forward_extremities, [(second.event_id.clone(), second.depth)]);
    }
}

#[test]
fn an_event_builds_on_the_whole_head() {
    for mut room in rooms(1..=12) {
        let heads: Vec<_> = (0..MAX_FORWARD_EXTREMITIES)
            .map(|index| room.craft(room.draft(ALICE, "m.room.message", None, json!({ "body": index }))))
            .collect();
        let fork = |depth: usize| (heads[depth].event_id.clone(), heads[depth].depth + depth as u64);
        room.room.forward_extremities = (0..heads.len()).map(fork).collect();
        let pdu = room.message(BOB, "all of them");
        let mut named = pdu.prev_events.clone();
        let mut expected: Vec<OwnedEventId> = heads.iter().map(|pdu| pdu.event_id.clone()).collect();
        named.sort();
        expected.sort();
        // What it does not name would be lost: nothing else will ever name it.
        assert_eq!(named, expected, "version {}", room.room.version);
        assert_eq!(pdu.depth, heads[0].depth + heads.len() as u64);
    }
}

#[test]
fn s_040_the_child_of_the_deepest_event_is_as_deep() {
    for mut room in rooms(1..=12) {
        let head = room.message(ALICE, "deep");
        for (depth, expected) in [(MAX_DEPTH - 1, MAX_DEPTH), (MAX_DEPTH, MAX_DEPTH)] {
            room.room.forward_extremities = vec![(head.event_id.clone(), depth)];
            let pdu = room.try_make(BOB, "m.room.message", None, json!({})).unwrap();
            assert_eq!(pdu.depth, expected, "version {}", room.room.version);
        }
    }
}

#[test]
fn versions_1_and_2_give_the_hashes_of_what_they_name() {
    for mut room in rooms(1..=2) {
        let message = room.message(BOB, "hello");
        let object = read_json(&message.json).unwrap();
        for field in ["prev_events", "auth_events"] {
            let references = serde_json::to_value(&object[field]).unwrap();
            for pair in references.as_array().unwrap() {
                let event = &room.events[&OwnedEventId::try_from(pair[0].as_str().unwrap()).unwrap()];
                let hash = reference_hash(&read_json(&event.json).unwrap(), &room.room.rules).unwrap();
                assert_eq!(pair[1], json!({ "sha256": hash }));
            }
        }
    }
}

#[test]
fn what_is_not_allowed_is_not_made() {
    for room in rooms(1..=12) {
        let refused = |sender, event_type: &str, key, content| {
            let made = room.try_make(sender, event_type, key, content);
            assert!(matches!(made, Err(SendError::NotAllowed(_))), "version {}: {made:?}", room.room.version);
        };
        refused(CAROL, "m.room.message", None, json!({}));
        refused(BOB, "m.room.topic", Some(""), json!({}));
        refused(BOB, "m.room.member", Some(ALICE), json!({ "membership": "ban" }));
        refused(BOB, "m.room.member", Some(BOB), json!({}));
        refused(BOB, "m.room.member", None, json!({ "membership": "join" }));
    }
}

/// Other servers drop a join that names an authoriser whose server has not signed it, and we have not its key.
#[test]
fn s_029_no_join_of_ours_names_an_authoriser_of_another_server() {
    for number in 8..=12 {
        let mut room = rooms(number..=number).next().unwrap();
        let join = |room: &RoomFixture, authoriser: &str| {
            let content = json!({ "membership": "join", "join_authorised_via_users_server": authoriser });
            room.try_make("@new:a.test", "m.room.member", Some("@new:a.test"), content)
        };
        room.set("m.room.join_rules", json!({ "join_rule": "restricted", "allow": [] }));
        assert!(join(&room, ALICE).is_ok());
        assert!(matches!(join(&room, BOB), Err(SendError::NotAllowed(_))), "version {number}");
        room.set("m.room.join_rules", json!({ "join_rule": "public" }));
        assert!(matches!(join(&room, BOB), Err(SendError::NotAllowed(_))), "version {number}");
    }
}

/// Old events may have them, and are read; clients are not to be given new ones.
#[test]
fn s_028_no_power_levels_of_ours_are_text() {
    for room in rooms(1..=12) {
        let set = |fields| room.try_make(ALICE, "m.room.power_levels", Some(""), room.levels(fields));
        let refused = [
            json!({ "ban": "50" }),
            json!({ "users_default": "0" }),
            json!({ "users": { BOB: "50" } }),
            json!({ "events": { "m.room.topic": "50" } }),
            json!({ "notifications": { "room": "50" } }),
        ];
        for fields in refused {
            let made = set(fields.clone());
            assert!(matches!(made, Err(SendError::NotAllowed(_))), "version {}: {fields}", room.room.version);
        }
        assert!(set(json!({ "ban": 50, "org.example.note": "text" })).is_ok());
    }
}

#[test]
fn a_redaction_names_its_target_where_the_version_says() {
    for mut room in rooms(1..=12) {
        let target = room.message(BOB, "b");
        let in_content = room.room.rules.redaction.content_field_redacts;
        let content = if in_content { json!({ "redacts": target.event_id }) } else { json!({}) };
        let intent = Intent {
            sender: user(ALICE),
            event_type: "m.room.redaction".into(),
            state_key: None,
            content: object(content),
            redacts: Some(target.event_id.clone()),
            sticky_duration_ms: None,
            origin_server_ts: None,
        };
        let pdu = room.make(intent).unwrap();
        assert_eq!(pdu.redaction_target(in_content), Some(target.event_id.clone()));
        assert_eq!(read_json(&pdu.json).unwrap().contains_key("redacts"), !in_content);
    }
}

#[test]
fn accepting_leaves_the_old_snapshot_as_it_was() {
    let mut room = rooms(11..=11).next().unwrap();
    let before: RoomSnapshot = room.room.clone();
    let topic = room.set("m.room.topic", json!({ "topic": "Tea" }));
    let step = accept(&before, &topic, &room.events);
    assert!(step.outbound);
    assert_eq!(before.state_event_id(&"m.room.topic".into(), ""), None);
    assert_eq!(step.room.unwrap().state_event_id(&"m.room.topic".into(), ""), Some(&*topic.event_id));
}
