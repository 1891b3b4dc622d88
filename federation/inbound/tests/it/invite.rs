//! Invites for our users.

use fake_homeserver::{Response, Room, RoomSettings, body_of, object_of, text_of};
use http::Method;
use rules::event::read_pdu;
use ruma::{CanonicalJsonObject, RoomVersionId};
use serde_json::{Value, json};

use crate::stage::{Stage, encode, errcode};

/// An invite of the remote server's rita for our alice, as an object to be spoilt.
fn invite(stage: &Stage, room: &Room) -> CanonicalJsonObject {
    let content = json!({"membership": "invite"});
    let draft = room.draft(&stage.remote, &stage.remote.user("rita"), "m.room.member", Some("@alice:test"), content);
    object_of(&stage.remote.build(draft, &room.rules))
}

fn set(object: &mut CanonicalJsonObject, field: &str, value: Value) {
    object.insert(field.to_owned(), serde_json::from_value(value).unwrap());
}

/// The id that belongs to an object, whatever else is wrong with it.
fn id_of(object: &CanonicalJsonObject, room: &Room) -> String {
    read_pdu(&text_of(object), &room.rules).map_or_else(|_| "$none".to_owned(), |(pdu, _)| pdu.event_id.to_string())
}

async fn put(stage: &Stage, path: (&str, &str, &str), body: &Value) -> Response {
    let (version, room_id, event_id) = path;
    let target = format!("/_matrix/federation/{version}/invite/{}/{}", encode(room_id), encode(event_id));
    stage.remote.ask(&stage.name, Method::PUT, &target, Some(body)).await
}

/// Sends it by both versions of the endpoint, and expects neither to sign it.
async fn expect_refused(stage: &Stage, room: &Room, object: &CanonicalJsonObject, path: (&str, &str), why: &str) {
    let head = stage.log_head();
    let event = serde_json::to_value(object).unwrap();
    let v2 =
        json!({"room_version": room.version, "event": event, "invite_room_state": stage.remote.invite_state(room)});
    for (version, body) in [("v1", &event), ("v2", &v2)] {
        let response = put(stage, (version, path.0, path.1), body).await;
        assert!(response.status().is_client_error(), "{why}, {version}: {} {:?}", response.status(), response.body());
        assert!(!String::from_utf8_lossy(response.body()).contains("ed25519:test"), "{why}, {version}: signed");
    }
    assert_eq!(stage.log_head(), head, "{why}");
}

#[tokio::test]
async fn an_honest_invite_is_signed_and_shown() {
    for version in [RoomVersionId::V6, RoomVersionId::V11, RoomVersionId::V12] {
        let stage = Stage::new().await;
        let alice = stage.user("alice").await;
        let room = Room::create(&stage.remote, &stage.remote.user("rita"), &RoomSettings::of_version(version.clone()));
        let response = stage.remote.invite(&stage.name, &room, &stage.remote.user("rita"), &alice.user_id).await;
        assert_eq!(response.status(), 200, "{version}: {:?}", response.body());
        let signed = body_of(&response)["event"].clone();
        assert!(signed["signatures"]["test"]["ed25519:test"].is_string(), "{signed}");
        assert!(signed["signatures"]["remote"]["ed25519:fake"].is_string(), "{signed}");
        let invited = stage.sync(&alice).await["rooms"]["invite"][room.id.as_str()]["invite_state"]["events"].clone();
        let types: Vec<_> = invited.as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
        assert!(types.contains(&"m.room.create") && types.contains(&"m.room.member"), "{version}: {types:?}");
        stage.join(&alice, &room.id).await.unwrap();
    }
}

#[tokio::test]
async fn an_invite_that_was_taken_back_is_gone_once_another_of_our_users_joins() {
    let stage = Stage::new().await;
    let (alice, bob) = (stage.user("alice").await, stage.user("bob").await);
    let rita = stage.remote.user("rita");
    let room = Room::create(&stage.remote, &rita, &RoomSettings::default());
    stage.remote.invite(&stage.name, &room, &rita, &alice.user_id).await;
    // Nobody of ours is in the room to be told.
    room.send_state(&stage.remote, &rita, "m.room.member", "@alice:test", json!({"membership": "leave"}));
    assert!(stage.sync(&alice).await["rooms"]["invite"][room.id.as_str()].is_object());
    stage.join(&bob, &room.id).await.unwrap();
    assert_eq!(stage.sync(&alice).await["rooms"]["invite"][room.id.as_str()], Value::Null);
    assert_eq!(stage.membership(&room.id, &alice.user_id).await.as_deref(), Some("leave"));
    assert!(stage.engine.storage().fsck().await.unwrap().is_empty());
}

#[tokio::test]
async fn s_002_only_an_invite_of_the_asking_server_for_our_user_is_signed() {
    let stage = Stage::new().await;
    stage.user("alice").await;
    let bob = stage.user("bob").await;
    let rita = stage.remote.user("rita");
    let room = Room::create(&stage.remote, &rita, &RoomSettings::default());
    let member = |membership: &'static str| {
        move |object: &mut CanonicalJsonObject| set(object, "content", json!({"membership": membership}))
    };
    let field =
        |field: &'static str, value: Value| move |object: &mut CanonicalJsonObject| set(object, field, value.clone());
    type Change = Box<dyn Fn(&mut CanonicalJsonObject)>;
    let cases: Vec<(&str, Change)> = vec![
        ("join", Box::new(member("join"))),
        ("leave", Box::new(member("leave"))),
        ("ban", Box::new(member("ban"))),
        ("knock", Box::new(member("knock"))),
        ("no membership", Box::new(field("content", json!({})))),
        ("membership not a string", Box::new(field("content", json!({"membership": ["invite"]})))),
        ("message", Box::new(field("type", json!("m.room.message")))),
        ("server ACL", Box::new(field("type", json!("m.room.server_acl")))),
        (
            "power levels",
            Box::new(|object| {
                set(object, "type", json!("m.room.power_levels"));
                set(object, "state_key", json!(""));
                set(object, "content", json!({"users": {"@rita:remote": 100}}));
            }),
        ),
        ("their own user", Box::new(field("state_key", json!("@other:remote")))),
        ("user of a third server", Box::new(field("state_key", json!("@other:elsewhere")))),
        ("nobody of ours", Box::new(field("state_key", json!("@nobody:test")))),
        ("no user", Box::new(field("state_key", json!("alice")))),
        ("from our user", Box::new(field("sender", json!(bob.user_id)))),
        ("from the invited", Box::new(field("sender", json!("@alice:test")))),
        ("from a third server", Box::new(field("sender", json!("@other:elsewhere")))),
        ("in another room", Box::new(field("room_id", json!("!other:remote")))),
        (
            "leave of our user",
            Box::new(|object| {
                set(object, "sender", json!("@alice:test"));
                set(object, "content", json!({"membership": "leave"}));
            }),
        ),
        (
            "join of our user",
            Box::new(|object| {
                set(object, "sender", json!("@alice:test"));
                set(object, "content", json!({"membership": "join"}));
            }),
        ),
    ];
    for (why, change) in cases {
        let mut object = invite(&stage, &room);
        change(&mut object);
        let object = stage.remote.seal(object, &room.rules);
        expect_refused(&stage, &room, &object, (room.id.as_str(), &id_of(&object, &room)), why).await;
    }
    let mut object = invite(&stage, &room);
    object.remove("state_key");
    let object = stage.remote.seal(object, &room.rules);
    expect_refused(&stage, &room, &object, (room.id.as_str(), &id_of(&object, &room)), "no state key").await;
}

#[tokio::test]
async fn s_002_path_and_signature_of_an_invite_must_be_right() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let other = stage.network.add_fake("other");
    let room = Room::create(&stage.remote, &stage.remote.user("rita"), &RoomSettings::default());
    let good = invite(&stage, &room);
    let id = id_of(&good, &room);
    expect_refused(&stage, &room, &good, ("!other:remote", &id), "room of the path").await;
    expect_refused(&stage, &room, &good, (room.id.as_str(), "$other"), "event of the path").await;
    let mut unsigned = good.clone();
    set(&mut unsigned, "signatures", json!({}));
    expect_refused(&stage, &room, &unsigned, (room.id.as_str(), &id), "unsigned").await;
    other.countersign(&mut unsigned, &room.rules);
    expect_refused(&stage, &room, &unsigned, (room.id.as_str(), &id), "signed by another").await;
    let mut altered = good.clone();
    set(&mut altered, "origin_server_ts", json!(1));
    expect_refused(&stage, &room, &altered, (room.id.as_str(), &id_of(&altered, &room)), "altered").await;
    assert_eq!(stage.membership(&room.id, &alice.user_id).await, None);
    // A server that carries somebody else's invite.
    let target = format!("/_matrix/federation/v2/invite/{}/{}", encode(&room.id), encode(&id));
    let body = json!({"room_version": "11", "event": good, "invite_room_state": []});
    let response = other.ask(&stage.name, Method::PUT, &target, Some(&body)).await;
    assert!(response.status().is_client_error());
    // And the honest one passes.
    let body = json!({"room_version": "11", "event": good, "invite_room_state": stage.remote.invite_state(&room)});
    assert_eq!(put(&stage, ("v2", room.id.as_str(), &id), &body).await.status(), 200);
}

#[tokio::test]
async fn an_invite_of_an_unknown_room_version_says_so() {
    let stage = Stage::new().await;
    stage.user("alice").await;
    let room = Room::create(&stage.remote, &stage.remote.user("rita"), &RoomSettings::default());
    let good = invite(&stage, &room);
    for version in ["999", "org.example.odd"] {
        let body = json!({"room_version": version, "event": good, "invite_room_state": []});
        let response = put(&stage, ("v2", room.id.as_str(), &id_of(&good, &room)), &body).await;
        assert_eq!((response.status().as_u16(), errcode(&response).as_str()), (400, "M_INCOMPATIBLE_ROOM_VERSION"));
    }
    for body in [json!({"event": good}), json!({"room_version": "11"}), json!({"room_version": 11, "event": good})] {
        let response = put(&stage, ("v2", room.id.as_str(), &id_of(&good, &room)), &body).await;
        assert_eq!(response.status(), 400);
    }
}

#[tokio::test]
async fn s_050_the_state_that_comes_with_an_invite_is_pruned() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let rita = stage.remote.user("rita");
    let create =
        |room: &Room| serde_json::from_str::<Value>(&room.state_event("m.room.create", "").unwrap().json).unwrap();
    let elsewhere = Room::create(&stage.remote, &rita, &RoomSettings::default());
    let states: Vec<fn(&Value, &Value) -> Value> = vec![
        |_, _| json!(null),
        |_, _| json!({}),
        |_, _| json!("x"),
        |_, _| json!([]),
        |create, _| json!([create, 1, 2, null, "x", [], {}]),
        |create, _| json!([create, {"type": 1, "state_key": 2, "sender": 3, "content": 4}]),
        |create, other| json!([create, other]),
        |create, _| {
            json!([create, {"type": "m.room.name", "state_key": "", "sender": "@rita:remote",
            "content": {"name": "N"}, "unsigned": {"poison": 1}, "poison": true, "origin": "poison"}])
        },
        |create, _| {
            json!([create, {"type": "m.room.topic", "state_key": "", "sender": "@rita:remote",
            "content": {"topic": "x".repeat(200_000)}}])
        },
    ];
    for (number, state) in states.iter().enumerate() {
        let room = Room::create(&stage.remote, &rita, &RoomSettings::default());
        let good = invite(&stage, &room);
        let state = state(&create(&room), &create(&elsewhere));
        let body = json!({"room_version": room.version, "event": good, "invite_room_state": state});
        let response = put(&stage, ("v2", room.id.as_str(), &id_of(&good, &room)), &body).await;
        assert!(!response.status().is_server_error(), "case {number}: {:?}", response.body());
        let sync = stage.sync(&alice).await;
        let shown = &sync["rooms"]["invite"][room.id.as_str()]["invite_state"]["events"];
        if !response.status().is_success() {
            assert!(shown.is_null(), "case {number}: refused and shown");
            continue;
        }
        let shown = shown.as_array().unwrap_or_else(|| panic!("case {number}: {sync}"));
        for event in shown {
            let keys: Vec<_> = event.as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(keys, ["content", "sender", "state_key", "type"], "case {number}: {event}");
            assert!(event["content"].is_object() && event["type"].is_string() && event["state_key"].is_string());
        }
        let text = serde_json::to_string(shown).unwrap();
        assert!(!text.contains("poison"), "case {number}: {text}");
        assert!(text.len() < 128 * 1024, "case {number}: {} bytes", text.len());
        assert!(text.contains("\"membership\":\"invite\""), "case {number}: {text}");
    }
}

#[tokio::test]
async fn s_050_ten_megabytes_of_state_are_refused() {
    let stage = Stage::new().await;
    stage.user("alice").await;
    let room = Room::create(&stage.remote, &stage.remote.user("rita"), &RoomSettings::default());
    let good = invite(&stage, &room);
    let event = json!({"type": "m.room.topic", "state_key": "", "sender": "@rita:remote", "content": {"topic": "x".repeat(10 << 20)}});
    let body = json!({"room_version": "11", "event": good, "invite_room_state": [event]});
    let response = put(&stage, ("v2", room.id.as_str(), &id_of(&good, &room)), &body).await;
    assert_eq!(response.status(), 413);
}

#[tokio::test]
async fn s_050_the_create_event_of_a_version_12_room_must_be_its_id() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let rita = stage.remote.user("rita");
    let settings = RoomSettings::of_version(RoomVersionId::V12);
    let (room, other) = (Room::create(&stage.remote, &rita, &settings), Room::create(&stage.remote, &rita, &settings));
    let good = invite(&stage, &room);
    let create =
        |room: &Room| serde_json::from_str::<Value>(&room.state_event("m.room.create", "").unwrap().json).unwrap();
    let mut altered = create(&room);
    altered["content"]["creator_of_doubt"] = json!(1);
    for state in [json!([]), json!([create(&other)]), json!([altered])] {
        let body = json!({"room_version": "12", "event": good, "invite_room_state": state});
        let response = put(&stage, ("v2", room.id.as_str(), &id_of(&good, &room)), &body).await;
        assert_eq!((response.status().as_u16(), errcode(&response).as_str()), (400, "M_INVALID_PARAM"), "{state}");
    }
    assert!(stage.sync(&alice).await["rooms"]["invite"][room.id.as_str()].is_null());

    // Nothing else is shown that is not signed.
    let mut forged: Value = serde_json::from_str(&room.state_event("m.room.join_rules", "").unwrap().json).unwrap();
    forged["type"] = json!("m.room.topic");
    let stripped = json!({"type": "m.room.name", "state_key": "", "sender": rita, "content": {"name": "A room"}});
    let elsewhere = serde_json::from_str::<Value>(&other.state_event("m.room.join_rules", "").unwrap().json).unwrap();
    let state = json!([create(&room), forged, stripped, elsewhere]);
    let body = json!({"room_version": "12", "event": good, "invite_room_state": state});
    assert_eq!(put(&stage, ("v2", room.id.as_str(), &id_of(&good, &room)), &body).await.status(), 200);
    let sync = stage.sync(&alice).await;
    let shown = sync["rooms"]["invite"][room.id.as_str()]["invite_state"]["events"].as_array().unwrap();
    let types: Vec<&str> = shown.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["m.room.create", "m.room.member"]);
}

#[tokio::test]
async fn s_065_after_the_last_of_us_has_left_the_room_is_over_until_the_next_invite() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let rita = stage.remote.user("rita");
    stage.engine.leave(&alice, &room.id, None).await.unwrap();
    stage.flush(stage.remote.name()).await;
    let left = stage.membership(&room.id, &alice.user_id).await;
    let message = room.send_message(&stage.remote, &rita, "after");
    let topic = room.send_state(&stage.remote, &rita, "m.room.topic", "", json!({"topic": "after"}));
    // The remote server invites her again, but tells us only as if it were an event like any other.
    let content = json!({"membership": "join"});
    let readded = room.draft(&stage.remote, &rita, "m.room.member", Some("@alice:test"), content);
    let readded = stage.remote.build(readded, &room.rules);
    let typing = json!({"edu_type": "m.typing", "content": {"room_id": room.id, "user_id": rita, "typing": true}});
    let pdus = [message.to_raw_json(), topic.to_raw_json(), readded.to_raw_json()];
    let head = stage.log_head();
    let response = stage.remote.send_transaction(&stage.name, &pdus, &[typing]).await;
    assert_eq!(response.status(), 200);
    assert_eq!(stage.log_head(), head);
    assert!(!stage.sees(&alice, &room.id, &message.event_id).await);
    assert_eq!(stage.membership(&room.id, &alice.user_id).await, left);
    let again = stage.remote.invite(&stage.name, &room, &rita, &alice.user_id).await;
    assert_eq!(again.status(), 200, "{:?}", again.body());
    assert!(stage.sync(&alice).await["rooms"]["invite"][room.id.as_str()].is_object());
    stage.join(&alice, &room.id).await.unwrap();
    let next = room.send_message(&stage.remote, &rita, "welcome back");
    stage.receive(&[&next]).await;
    assert!(stage.sees(&alice, &room.id, &next.event_id).await);
}
