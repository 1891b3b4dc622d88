//! Events that the rules of the room do not allow, and state that is not to be moved.

use fake_homeserver::{Room, RoomSettings, body_of, object_of, raw, text_of};
use rules::{
    Pdu,
    event::{Draft, read_pdu},
};
use ruma::{OwnedEventId, events::StateEventType, room_version_rules::RoomVersionRules};
use serde_json::{Value, json};

use crate::stage::{Stage, Verdict, encode};

/// Neither shown nor built upon.
async fn expect_not_taken(stage: &Stage, alice: &engine::Requester, room: &Room, pdu: &Pdu, why: &str) {
    let verdict = stage.verdict(&pdu.event_id).await;
    assert!([Verdict::Unknown, Verdict::Rejected].contains(&verdict), "{why}: {verdict:?}");
    assert!(!stage.sees(alice, &room.id, &pdu.event_id).await, "{why}");
    assert!(!stage.sync(alice).await.to_string().contains(pdu.event_id.as_str()), "{why}");
}

fn message_draft(stage: &Stage, room: &Room) -> Draft {
    let content = json!({"msgtype": "m.text", "body": "x"});
    room.draft(&stage.remote, &stage.remote.user("rita"), "m.room.message", None, content)
}

#[tokio::test]
async fn s_020_auth_events_must_be_the_right_ones() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let rita = stage.remote.user("rita");
    let (room, elsewhere) = (stage.joined_room(&alice).await, stage.joined_room(&alice).await);
    let old_join = room.state_event("m.room.member", rita.as_str()).unwrap();
    let new_join = room.send_state(
        &stage.remote,
        &rita,
        "m.room.member",
        rita.as_str(),
        json!({"membership": "join", "displayname": "Rita"}),
    );
    let topic = room.send_state(&stage.remote, &rita, "m.room.topic", "", json!({"topic": "T"}));
    stage.receive(&[&new_join, &topic]).await;
    assert_eq!(stage.verdict(&topic.event_id).await, Verdict::Accepted);
    let id = |room: &Room, event_type: &str| room.state_event(event_type, "").unwrap().event_id.clone();
    let (create, levels) = (id(&room, "m.room.create"), id(&room, "m.room.power_levels"));
    let join = new_join.event_id.clone();
    let cases: Vec<(&str, Vec<OwnedEventId>)> = vec![
        ("create event of another room", vec![id(&elsewhere, "m.room.create"), levels.clone(), join.clone()]),
        ("levels of another room", vec![create.clone(), id(&elsewhere, "m.room.power_levels"), join.clone()]),
        (
            "one too many of another room",
            vec![create.clone(), levels.clone(), join.clone(), id(&elsewhere, "m.room.join_rules")],
        ),
        ("two for one key", vec![create.clone(), levels.clone(), join.clone(), old_join.event_id.clone()]),
        ("the same twice", vec![create.clone(), create.clone(), levels.clone(), join.clone()]),
        ("one that decides nothing", vec![create.clone(), levels.clone(), join.clone(), topic.event_id.clone()]),
        ("no create event", vec![levels.clone(), join.clone()]),
        ("none", vec![]),
        ("no membership", vec![create.clone(), levels.clone()]),
    ];
    for (why, auth_events) in cases {
        let mut draft = message_draft(&stage, &room);
        draft.auth_events = auth_events;
        let pdu = stage.remote.build(draft, &room.rules);
        stage.receive(&[&pdu]).await;
        expect_not_taken(&stage, &alice, &room, &pdu, why).await;
    }
    let honest = stage.remote.build(message_draft(&stage, &room), &room.rules);
    stage.receive(&[&honest]).await;
    assert_eq!(stage.verdict(&honest.event_id).await, Verdict::Accepted);
}

/// A room with mallory of another server in it, who has no power.
async fn room_with_mallory(stage: &Stage, alice: &engine::Requester) -> (Room, fake_homeserver::FakeHomeserver) {
    let other = stage.network.add_fake("other");
    let room = stage.joined_room(alice).await;
    other.serve_room(room.clone());
    let mallory = other.user("mallory");
    let join = room.send_state(&other, &mallory, "m.room.member", mallory.as_str(), json!({"membership": "join"}));
    stage.receive(&[&join]).await;
    assert_eq!(stage.verdict(&join.event_id).await, Verdict::Accepted);
    (room, other)
}

#[tokio::test]
async fn s_021_a_rejected_event_authorises_nothing_and_is_never_state() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let (room, other) = room_with_mallory(&stage, &alice).await;
    let mallory = other.user("mallory");
    let levels = json!({"users": {mallory.as_str(): 100}});
    let grab = room.draft(&other, &mallory, "m.room.power_levels", Some(""), levels);
    let grab = other.build(grab, &room.rules);
    other.send_pdus(&stage.name, &[&grab]).await;
    expect_not_taken(&stage, &alice, &room, &grab, "power without power").await;
    let good_levels = room.state_event("m.room.power_levels", "").unwrap();
    // With the rejected event as what authorises it.
    let mut draft = room.draft(&other, &mallory, "m.room.topic", Some(""), json!({"topic": "poison"}));
    draft.auth_events = draft
        .auth_events
        .iter()
        .map(|id| if *id == good_levels.event_id { grab.event_id.clone() } else { id.clone() })
        .collect();
    let topic = other.build(draft, &room.rules);
    other.send_pdus(&stage.name, &[&topic]).await;
    expect_not_taken(&stage, &alice, &room, &topic, "authorised by a rejected event").await;
    // With a state that lists it: a gap makes us ask for one.
    let mut state = room.state();
    state.insert((StateEventType::RoomPowerLevels, String::new()), grab.event_id.clone());
    room.keep(grab.clone(), room.state());
    let gap = stage.remote.build(message_draft(&stage, &room), &room.rules);
    let mut draft = message_draft(&stage, &room);
    draft.prev_events = vec![gap.event_id.clone()];
    draft.depth += 1;
    let tip = stage.remote.build(draft, &room.rules);
    room.keep(gap, state.clone());
    room.keep(tip.clone(), state);
    stage.remote.on("/_matrix/federation/v1/get_missing_events", |_| {
        fake_homeserver::json(404, &json!({"errcode": "M_UNRECOGNIZED"}))
    });
    stage.receive(&[&tip]).await;
    assert_eq!(stage.verdict(&tip.event_id).await, Verdict::Accepted);
    assert_eq!(stage.current(&room.id, "m.room.power_levels", "").await, Some(good_levels.event_id.clone()));
    assert!(!stage.sync(&alice).await.to_string().contains(grab.event_id.as_str()));
}

fn sealed(stage: &Stage, rules: &RoomVersionRules, pdu: &Pdu, fields: &Value) -> Pdu {
    let mut object = object_of(pdu);
    for (field, value) in fields.as_object().unwrap() {
        object.insert(field.clone(), serde_json::from_value(value.clone()).unwrap());
    }
    read_pdu(&text_of(&stage.remote.seal(object, rules)), rules).unwrap().0
}

#[tokio::test]
async fn s_022_a_room_has_one_create_event() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let create = room.state_event("m.room.create", "").unwrap();
    let rita = stage.remote.user("rita");
    let tip = room.extremities();
    let variants = [
        ("again, later", json!({"origin_server_ts": 1_790_000_123_000_u64})),
        ("by another of theirs", json!({"sender": "@other:remote"})),
        ("with another version", json!({"content": {"room_version": "10", "creator": rita}})),
        ("with an unknown version", json!({"content": {"room_version": "999"}})),
        ("after other events", json!({"prev_events": tip, "depth": 20})),
        ("with auth events", json!({"auth_events": [create.event_id]})),
    ];
    for (why, fields) in variants {
        let second = sealed(&stage, &room.rules, &create, &fields);
        assert_ne!(second.event_id, create.event_id);
        stage.receive(&[&second]).await;
        let verdict = stage.verdict(&second.event_id).await;
        assert_ne!(verdict, Verdict::Accepted, "{why}");
        assert_eq!(stage.current(&room.id, "m.room.create", "").await.as_ref(), Some(&create.event_id), "{why}");
        // Nor is it of use to those who build upon it.
        let mut draft = message_draft(&stage, &room);
        draft.auth_events = draft
            .auth_events
            .iter()
            .map(|id| if *id == create.event_id { second.event_id.clone() } else { id.clone() })
            .collect();
        let message = stage.remote.build(draft, &room.rules);
        room.keep(second, room.state());
        stage.receive(&[&message]).await;
        expect_not_taken(&stage, &alice, &room, &message, why).await;
    }
}

#[tokio::test]
async fn s_022_the_create_event_must_be_of_the_server_that_the_room_names() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = Room::create(&stage.remote, &stage.remote.user("rita"), &RoomSettings::default());
    let theirs = room.id.clone();
    // The remote server hosts, with all else in order, a room whose id names another server.
    stage.remote.on_answer("/_matrix/federation/v1/make_join", |answer| {
        answer["event"]["room_id"] = json!("!stolen:elsewhere");
    });
    let stolen: ruma::OwnedRoomId = "!stolen:elsewhere".try_into().unwrap();
    stage.remote.serve_room(room.renamed(stolen.clone()));
    stage.join(&alice, &stolen).await.unwrap_err();
    assert!(stage.engine.storage().room(&stolen).await.unwrap().is_none());
    assert!(stage.engine.storage().room(&theirs).await.unwrap().is_none());
}

fn redaction(stage: &Stage, room: &Room, target: &str) -> Draft {
    room.draft(&stage.remote, &stage.remote.user("rita"), "m.room.redaction", None, json!({"redacts": target}))
}

async fn body_seen(stage: &Stage, alice: &engine::Requester, room: &Room, pdu: &Pdu) -> Value {
    let event = stage.engine.event(alice, &room.id, &pdu.event_id).await.unwrap();
    serde_json::from_str::<Value>(event.get()).unwrap()["content"]["body"].clone()
}

#[tokio::test]
async fn s_030_who_may_not_redact_does_not() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let (room, other) = room_with_mallory(&stage, &alice).await;
    let elsewhere = stage.joined_room(&alice).await;
    let (rita, mallory) = (stage.remote.user("rita"), other.user("mallory"));
    let message = room.send_message(&stage.remote, &rita, "stays");
    let there = elsewhere.send_message(&stage.remote, &rita, "stays there");
    stage.receive(&[&message, &there]).await;
    let by_mallory = room.draft(&other, &mallory, "m.room.redaction", None, json!({"redacts": message.event_id}));
    let by_mallory = other.build(by_mallory, &room.rules);
    other.send_pdus(&stage.name, &[&by_mallory]).await;
    assert_eq!(body_seen(&stage, &alice, &room, &message).await, "stays");
    // By one who may, but of an event of another room.
    let across = stage.remote.build(redaction(&stage, &room, there.event_id.as_str()), &room.rules);
    stage.receive(&[&across]).await;
    assert_eq!(body_seen(&stage, &alice, &elsewhere, &there).await, "stays there");
    // By one who may, but with the target where it was until version 10.
    let mut draft = redaction(&stage, &room, message.event_id.as_str());
    draft.content.clear();
    draft.redacts = Some(message.event_id.clone());
    stage.receive(&[&stage.remote.build(draft, &room.rules)]).await;
    assert_eq!(body_seen(&stage, &alice, &room, &message).await, "stays");
    // With targets that are none.
    for target in [json!(7), json!(""), json!("$unheard_of"), json!({"a": 1})] {
        let draft = room.draft(&stage.remote, &rita, "m.room.redaction", None, json!({"redacts": target}));
        stage.receive(&[&stage.remote.build(draft, &room.rules)]).await;
    }
    assert_eq!(body_seen(&stage, &alice, &room, &message).await, "stays");
    let by_rita = stage.remote.build(redaction(&stage, &room, message.event_id.as_str()), &room.rules);
    stage.receive(&[&by_rita]).await;
    assert_eq!(body_seen(&stage, &alice, &room, &message).await, json!(null));
    assert!(!stage.sync(&alice).await.to_string().contains("\"stays\""));
    assert!(!stage.stored(&message.event_id).await.to_string().contains("stays"));
}

#[tokio::test]
async fn s_030_a_redaction_waits_for_its_target() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let rita = stage.remote.user("rita");
    let target = room.draft(&stage.remote, &rita, "m.room.message", None, json!({"msgtype": "m.text", "body": "gone"}));
    let target = stage.remote.build(target, &room.rules);
    let redaction = stage.remote.build(redaction(&stage, &room, target.event_id.as_str()), &room.rules);
    stage.receive(&[&redaction]).await;
    assert_eq!(stage.verdict(&redaction.event_id).await, Verdict::Accepted);
    stage.receive(&[&target]).await;
    assert_eq!(stage.verdict(&target.event_id).await, Verdict::Accepted);
    assert_eq!(body_seen(&stage, &alice, &room, &target).await, json!(null));
    assert!(!stage.sync(&alice).await.to_string().contains("\"gone\""));
}

#[tokio::test]
async fn s_031_what_holds_the_room_together_survives_redaction() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    for (event_type, field) in
        [("m.room.create", "room_version"), ("m.room.power_levels", "users"), ("m.room.join_rules", "join_rule")]
    {
        let event = room.state_event(event_type, "").unwrap();
        let redaction = room.send(&stage.remote, redaction(&stage, &room, event.event_id.as_str()));
        stage.receive(&[&redaction]).await;
        assert!(!stage.stored(&event.event_id).await["content"][field].is_null(), "{event_type}");
    }
    let message = room.send_message(&stage.remote, &stage.remote.user("rita"), "still here");
    stage.receive(&[&message]).await;
    assert!(stage.sees(&alice, &room.id, &message.event_id).await);
}

#[tokio::test]
async fn s_037_a_demoted_admin_who_goes_back_in_time_is_soft_failed() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let (room, other) = room_with_mallory(&stage, &alice).await;
    let (rita, mallory) = (stage.remote.user("rita"), other.user("mallory"));
    let send_levels = |level: i64| {
        let users = json!({rita.as_str(): 100, mallory.as_str(): level});
        room.send_state(&stage.remote, &rita, "m.room.power_levels", "", json!({"users": users}))
    };
    let promoted = send_levels(99);
    let (past, past_state) = (room.extremities(), room.state());
    let demoted = send_levels(0);
    stage.receive(&[&promoted, &demoted]).await;
    assert_eq!(stage.current(&room.id, "m.room.power_levels", "").await.as_ref(), Some(&demoted.event_id));
    let late = [
        ("m.room.topic", "", json!({"topic": "poison"})),
        ("m.room.member", "@alice:test", json!({"membership": "ban"})),
        ("m.room.server_acl", "", json!({"allow": ["other"]})),
        ("m.room.power_levels", "", json!({"users": {rita.as_str(): 100, mallory.as_str(): 99}, "ban": 0})),
    ];
    for (event_type, state_key, content) in late {
        let before = stage.current(&room.id, event_type, state_key).await;
        let draft = room.draft_after(&other, &past, &past_state, (&mallory, event_type, Some(state_key), content));
        let pdu = other.build(draft, &room.rules);
        other.send_pdus(&stage.name, &[&pdu]).await;
        assert_eq!(stage.verdict(&pdu.event_id).await, Verdict::SoftFailed, "{event_type}");
        assert_eq!(stage.current(&room.id, event_type, state_key).await, before, "{event_type}");
        assert!(!stage.sync(&alice).await.to_string().contains(pdu.event_id.as_str()), "{event_type}");
        assert!(!stage.sees(&alice, &room.id, &pdu.event_id).await, "{event_type}");
        let own = stage.send(&alice, &room.id, "next").await;
        assert!(!stage.stored(&own).await["prev_events"].to_string().contains(pdu.event_id.as_str()), "{event_type}");
        // Those who ask for it by name get it: it is part of the room's graph.
        let target = format!("/_matrix/federation/v1/event/{}", encode(&pdu.event_id));
        assert_eq!(stage.remote.get(&stage.name, &target).await.status(), 200, "{event_type}");
        // Once more, it is no better.
        other.send_pdus(&stage.name, &[&pdu]).await;
        assert_eq!(stage.verdict(&pdu.event_id).await, Verdict::SoftFailed, "{event_type}");
    }
    assert_eq!(stage.membership(&room.id, &alice.user_id).await.as_deref(), Some("join"));
}

#[tokio::test]
async fn s_027_a_state_that_lacks_half_of_the_room_does_not_replace_ours() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let (room, other) = room_with_mallory(&stage, &alice).await;
    let mallory = other.user("mallory");
    let (past, past_state) = (room.extremities(), room.state());
    let rita = stage.remote.user("rita");
    let topic = room.send_state(&stage.remote, &rita, "m.room.topic", "", json!({"topic": "T"}));
    stage.receive(&[&topic]).await;
    // Mallory has sent something into a branch of which nothing is known, whose state, the server says, is small.
    let mut state = past_state;
    state.retain(|(_, state_key), _| state_key.is_empty() || *state_key == mallory.as_str());
    let content = json!({"msgtype": "m.text", "body": "gap"});
    let gap = room.draft_after(&other, &past, &state, (&mallory, "m.room.message", None, content.clone()));
    let gap = other.build(gap, &room.rules);
    let tip = room.draft_after(
        &other,
        std::slice::from_ref(&gap.event_id),
        &state,
        (&mallory, "m.room.message", None, content),
    );
    let tip = other.build(tip, &room.rules);
    room.keep(gap, state.clone());
    room.keep(tip.clone(), state);
    for server in [&stage.remote, &other] {
        server.on("/_matrix/federation/v1/get_missing_events", |_| {
            fake_homeserver::json(404, &json!({"errcode": "M_UNRECOGNIZED"}))
        });
    }
    let response = other.send_pdus(&stage.name, &[&tip]).await;
    assert_eq!(response.status(), 200, "{:?}", body_of(&response));
    assert_eq!(stage.verdict(&tip.event_id).await, Verdict::Accepted);
    for user_id in [&alice.user_id, &rita, &mallory] {
        assert_eq!(stage.membership(&room.id, user_id).await.as_deref(), Some("join"), "{user_id}");
    }
    assert_eq!(stage.current(&room.id, "m.room.topic", "").await.as_ref(), Some(&topic.event_id));
    let honest = raw(stage.remote.build(message_draft(&stage, &room), &room.rules).json.to_string());
    stage.receive_raw(&[honest]).await;
}
