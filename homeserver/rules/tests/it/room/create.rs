//! New rooms.

use homeserver_rules::room::create::{CreateError, MAX_INITIAL_STATE, MAX_INVITES, NewRoom, Preset, first_events};
use serde_json::{Value, json};

use crate::room_fixture::{ALICE, BOB, CAROL, RoomFixture, new_room, object, user, version, versions};

fn events(new_room: &NewRoom) -> Result<Vec<(String, String, Value)>, CreateError> {
    let intents = first_events(new_room, &new_room.version.rules().unwrap())?;
    let parts = intents.into_iter().map(|intent| {
        assert_eq!(intent.sender, new_room.creator);
        let content = serde_json::to_value(&intent.content).unwrap();
        (intent.event_type.to_string(), intent.state_key.unwrap(), content)
    });
    Ok(parts.collect())
}

fn content(new_room: &NewRoom, event_type: &str) -> Value {
    let events = events(new_room).unwrap();
    events.into_iter().find(|(found, ..)| found == event_type).map_or(Value::Null, |(.., content)| content)
}

#[test]
fn every_version_and_preset_makes_a_room() {
    for version in versions() {
        for preset in [Preset::PrivateChat, Preset::TrustedPrivateChat, Preset::PublicChat] {
            let new_room = NewRoom {
                preset,
                name: Some("Tea".to_owned()),
                topic: Some("All about tea".to_owned()),
                alias: Some("#tea:a.test".try_into().unwrap()),
                invite: vec![user(BOB)],
                initial_state: vec![("m.room.encryption".into(), String::new(), object(json!({ "algorithm": "m.x" })))],
                ..new_room(version.clone())
            };
            let mut room = RoomFixture::of(&new_room);
            assert_eq!(room.state("m.room.name", "").unwrap().content_str("name").as_deref(), Some("Tea"));
            assert_eq!(room.state("m.room.topic", "").unwrap().content_str("topic").as_deref(), Some("All about tea"));
            let rule = if preset == Preset::PublicChat { "public" } else { "invite" };
            assert_eq!(room.state("m.room.join_rules", "").unwrap().content_str("join_rule").as_deref(), Some(rule));
            room.member(ALICE, BOB, "invite");
            room.member(BOB, BOB, "join");
            // All who are invited to a trusted private chat may do everything that the creator may.
            let trusted = preset == Preset::TrustedPrivateChat;
            let levels = room.draft(BOB, "m.room.power_levels", Some(""), room.levels(json!({ "users": {} })));
            assert_eq!(room.verdict(levels).is_ok(), trusted, "version {version}, {preset:?}");
        }
    }
}

#[test]
fn the_events_come_in_the_order_of_the_spec() {
    let new_room = NewRoom {
        name: Some("Tea".to_owned()),
        topic: Some("All about tea".to_owned()),
        alias: Some("#tea:a.test".try_into().unwrap()),
        initial_state: vec![
            ("m.room.guest_access".into(), String::new(), object(json!({ "guest_access": "can_join" }))),
            ("org.example".into(), "key".to_owned(), object(json!({}))),
        ],
        ..new_room(version(11))
    };
    let order: Vec<String> = events(&new_room).unwrap().into_iter().map(|(event_type, ..)| event_type).collect();
    let expected = [
        "m.room.create",
        "m.room.member",
        "m.room.power_levels",
        "m.room.canonical_alias",
        "m.room.join_rules",
        "m.room.history_visibility",
        "m.room.guest_access",
        "org.example",
        "m.room.name",
        "m.room.topic",
    ];
    assert_eq!(order, expected, "initial state replaces that of the preset");
    assert_eq!(content(&new_room, "m.room.guest_access"), json!({ "guest_access": "can_join" }));
}

#[test]
fn the_create_event_says_what_its_version_wants() {
    for version in versions() {
        let given = object(json!({
            "room_version": "999", "creator": BOB, "m.federate": false, "type": "m.space",
            "predecessor": { "room_id": "!old:a.test" },
        }));
        let new_room = NewRoom { creation_content: given, ..new_room(version.clone()) };
        let content = content(&new_room, "m.room.create");
        assert_eq!(content["room_version"], json!(version), "not what the client says");
        let names_creator = !version.rules().unwrap().authorization.use_room_create_sender;
        assert_eq!(content.get("creator"), names_creator.then(|| json!(ALICE)).as_ref());
        assert_eq!(content["m.federate"], json!(false));
        assert_eq!(content["type"], json!("m.space"));
        assert_eq!(content["predecessor"], json!({ "room_id": "!old:a.test" }));
    }
}

#[test]
fn s_024_creators_in_the_power_levels_of_version_12_are_refused_before_anything_is_made() {
    let naming = |user_id: &str| Some(object(json!({ "users": { user_id: 100 } })));
    let of = |number| NewRoom { invite: vec![user(BOB)], ..new_room(version(number)) };
    let additional = object(json!({ "additional_creators": [CAROL] }));
    let cases = [
        (NewRoom { power_level_content_override: naming(ALICE), ..of(12) }, Some(ALICE)),
        (NewRoom { power_level_content_override: naming(BOB), ..of(12) }, None),
        (
            NewRoom { power_level_content_override: naming(BOB), preset: Preset::TrustedPrivateChat, ..of(12) },
            Some(BOB),
        ),
        (
            NewRoom { power_level_content_override: naming(CAROL), creation_content: additional.clone(), ..of(12) },
            Some(CAROL),
        ),
        (NewRoom { power_level_content_override: naming(ALICE), ..of(11) }, None),
        (NewRoom { power_level_content_override: naming(CAROL), creation_content: additional, ..of(11) }, None),
    ];
    for (new_room, refused) in cases {
        let expected = refused.map(|user_id| CreateError::CreatorInPowerLevels(user(user_id)));
        assert_eq!(events(&new_room).err(), expected, "{new_room:?}");
    }
}

#[test]
fn s_023_additional_creators_are_combined_once_each() {
    let new_room = NewRoom {
        preset: Preset::TrustedPrivateChat,
        invite: vec![user(BOB), user(CAROL)],
        creation_content: object(json!({ "additional_creators": [CAROL, "@dora:c.test", ALICE, CAROL] })),
        ..new_room(version(12))
    };
    let creators = &content(&new_room, "m.room.create")["additional_creators"];
    assert_eq!(*creators, json!([BOB, CAROL, "@dora:c.test"]));
    assert_eq!(content(&new_room, "m.room.power_levels")["users"], json!({}));
    for wrong in [json!("@bob:b.test"), json!(["bob"]), json!([5]), json!({}), json!(null)] {
        let creation_content = object(json!({ "additional_creators": wrong }));
        let new_room = NewRoom { creation_content, ..self::new_room(version(12)) };
        assert_eq!(events(&new_room), Err(CreateError::AdditionalCreators), "{wrong}");
    }
}

#[test]
fn the_tombstone_takes_more_than_state_default_from_version_12_on() {
    for version in versions() {
        let levels = content(&new_room(version.clone()), "m.room.power_levels");
        let tombstone = levels["events"]["m.room.tombstone"].as_i64().unwrap();
        assert!(tombstone > levels["state_default"].as_i64().unwrap(), "version {version}");
        let alone = version.rules().unwrap().authorization.explicitly_privilege_room_creators;
        assert_eq!(tombstone > 100, alone);
    }
}

#[test]
fn too_much_is_refused() {
    let state = |count| {
        let event = |index: usize| ("org.example".into(), index.to_string(), object(json!({})));
        events(&NewRoom { initial_state: (0..count).map(event).collect(), ..new_room(version(11)) })
    };
    assert!(state(MAX_INITIAL_STATE).is_ok());
    assert_eq!(state(MAX_INITIAL_STATE + 1), Err(CreateError::TooMany("initial_state", MAX_INITIAL_STATE)));
    let invites = |count| {
        let guest = |index: usize| user(&format!("@guest{index}:b.test"));
        events(&NewRoom { invite: (0..count).map(guest).collect(), ..new_room(version(11)) })
    };
    assert!(invites(MAX_INVITES).is_ok());
    assert_eq!(invites(MAX_INVITES + 1), Err(CreateError::TooMany("invite", MAX_INVITES)));
}
