//! Joining and leaving, in both directions.

use fake_homeserver::{Response, Room, RoomSettings, body_of, json as reply, text_of};
use http::Method;
use rules::event::read_pdu;
use ruma::{CanonicalJsonObject, RoomId, RoomVersionId, UserId};
use serde_json::{Value, json};

use crate::stage::{PATIENCE, Stage, encode, errcode, initial_state};

const MAKE_JOIN: &str = "/_matrix/federation/v1/make_join";
const SEND_JOIN: &str = "/_matrix/federation/v2/send_join";

/// What the remote server makes of an honest answer.
type Change = fn(&mut Value);

fn public_room(stage: &Stage) -> Room {
    Room::create(&stage.remote, &stage.remote.user("rita"), &RoomSettings::default())
}

#[tokio::test]
async fn s_001_a_template_that_is_not_what_was_asked_for_is_not_signed() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = public_room(&stage);
    let wrong: [(&str, Change); 11] = [
        ("type", |answer| answer["event"]["type"] = json!("m.room.power_levels")),
        ("sender", |answer| answer["event"]["sender"] = json!("@admin:test")),
        ("state key", |answer| answer["event"]["state_key"] = json!("@admin:test")),
        ("state key of theirs", |answer| answer["event"]["state_key"] = json!("@rita:remote")),
        ("room", |answer| answer["event"]["room_id"] = json!("!other:remote")),
        ("leave", |answer| answer["event"]["content"]["membership"] = json!("leave")),
        ("ban", |answer| answer["event"]["content"]["membership"] = json!("ban")),
        ("unknown version", |answer| answer["room_version"] = json!("999")),
        ("no event", |answer| *answer = json!({"room_version": "11"})),
        ("event not an object", |answer| answer["event"] = json!("x")),
        ("10 MB", |answer| answer["event"]["content"]["x"] = json!("x".repeat(10 << 20))),
    ];
    for (why, change) in wrong {
        stage.remote.behave();
        stage.remote.on_answer(MAKE_JOIN, change);
        let head = stage.log_head();
        let error = stage.join(&alice, &room.id).await.expect_err(why);
        use engine::EngineError as E;
        let fits = matches!(error, E::CannotFederate(_) | E::IncompatibleRoomVersion(_));
        assert!(fits, "{why}: {error:?}");
        assert_eq!(stage.network.recorded_to(stage.remote.name(), "send_join").len(), 0, "{why}: signed and sent");
        assert_eq!(stage.log_head(), head, "{why}");
    }
    stage.remote.behave();
    stage.join(&alice, &room.id).await.unwrap();
}

#[tokio::test]
async fn s_001_nothing_else_of_a_template_gets_into_our_event() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = public_room(&stage);
    stage.remote.on_answer(MAKE_JOIN, |answer| {
        let event = &mut answer["event"];
        event["redacts"] = json!("$poison");
        event["event_id"] = json!("$poison");
        event["unsigned"] = json!({"poison": 1});
        event["hashes"] = json!({"sha256": "poison"});
        event["signatures"] = json!({"test": {"ed25519:poison": "poison"}});
        event["origin"] = json!("poison");
        event["poison"] = json!(1);
        event["content"]["poison"] = json!("x");
        event["content"]["displayname"] = json!("poison");
        event["content"]["reason"] = json!("poison");
        event["content"]["join_authorised_via_users_server"] = json!("@poison:elsewhere");
        event["origin_server_ts"] = json!(1);
    });
    let joined = stage.join(&alice, &room.id).await;
    let sent = stage.network.recorded_to(stage.remote.name(), "send_join");
    assert_eq!(sent.len(), usize::from(joined.is_ok()));
    if let Some(sent) = sent.first() {
        assert!(!sent.body.to_string().contains("poison"), "{}", sent.body);
        assert!(sent.body["origin_server_ts"].as_u64().unwrap() > 1_000_000);
        assert_eq!(sent.body["sender"], "@alice:test");
    }
}

#[tokio::test]
async fn s_001_the_template_of_a_leave_is_not_believed_either() {
    let wrong: [(&str, Change); 6] = [
        ("type", |answer| answer["event"]["type"] = json!("m.room.power_levels")),
        ("sender", |answer| answer["event"]["sender"] = json!("@admin:test")),
        ("state key", |answer| answer["event"]["state_key"] = json!("@admin:test")),
        ("room", |answer| answer["event"]["room_id"] = json!("!other:remote")),
        ("join", |answer| answer["event"]["content"]["membership"] = json!("join")),
        ("other keys", |answer| {
            answer["event"]["poison"] = json!(1);
            answer["event"]["content"]["poison"] = json!(1);
        }),
    ];
    for (why, change) in wrong {
        let stage = Stage::new().await;
        let alice = stage.user("alice").await;
        let room = public_room(&stage);
        stage.remote.invite(&stage.name, &room, &stage.remote.user("rita"), &alice.user_id).await;
        stage.remote.on_answer("/_matrix/federation/v1/make_leave", change);
        // Whether the leave is settled among ourselves then is not the question.
        let _ = stage.engine.leave(&alice, &room.id, None).await;
        for sent in stage.network.recorded_to(stage.remote.name(), "send_leave") {
            assert_eq!(sent.body["type"], "m.room.member", "{why}");
            assert_eq!(sent.body["sender"], "@alice:test", "{why}");
            assert_eq!(sent.body["state_key"], "@alice:test", "{why}");
            assert_eq!(sent.body["room_id"], room.id.as_str(), "{why}");
            assert_eq!(sent.body["content"], json!({"membership": "leave"}), "{why}");
            assert!(!sent.body.to_string().contains("poison"), "{why}");
        }
    }
}

/// What `make_join` gives the remote server's bob for a room of ours: the template, filled in as an honest server would.
async fn template(stage: &Stage, room_id: &RoomId, user_id: &UserId) -> Result<CanonicalJsonObject, Response> {
    let target = format!("{MAKE_JOIN}/{}/{}?ver=11", encode(room_id), encode(user_id));
    let made = stage.remote.get(&stage.name, &target).await;
    if !made.status().is_success() {
        return Err(made);
    }
    Ok(serde_json::from_value(body_of(&made)["event"].clone()).unwrap())
}

fn set(object: &mut CanonicalJsonObject, field: &str, value: Value) {
    object.insert(field.to_owned(), serde_json::from_value(value).unwrap());
}

fn id_of(object: &CanonicalJsonObject) -> String {
    let rules = RoomVersionId::V11.rules().unwrap();
    read_pdu(&text_of(object), &rules).map_or_else(|_| "$none".to_owned(), |(pdu, _)| pdu.event_id.to_string())
}

async fn put(stage: &Stage, endpoint: &str, room_id: &str, event_id: &str, object: &CanonicalJsonObject) -> Response {
    let target = format!("/_matrix/federation/{endpoint}/{}/{}", encode(room_id), encode(event_id));
    let body = serde_json::to_value(object).unwrap();
    stage.remote.ask(&stage.name, Method::PUT, &target, Some(&body)).await
}

#[tokio::test]
async fn s_003_a_membership_that_is_not_the_asked_one_is_refused() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room_id =
        stage.local_room(&alice, |command| command.preset = Some(rules::room::create::Preset::PublicChat)).await;
    let other_room =
        stage.local_room(&alice, |command| command.preset = Some(rules::room::create::Preset::PublicChat)).await;
    let rules = RoomVersionId::V11.rules().unwrap();
    let bob = stage.remote.user("bob");
    let good = template(&stage, &room_id, &bob).await.unwrap();
    type Change = fn(&mut CanonicalJsonObject);
    let cases: Vec<(&str, Change)> = vec![
        ("invite", |object| set(object, "content", json!({"membership": "invite"}))),
        ("ban", |object| set(object, "content", json!({"membership": "ban"}))),
        ("knock", |object| set(object, "content", json!({"membership": "knock"}))),
        ("membership missing", |object| set(object, "content", json!({}))),
        ("message", |object| set(object, "type", json!("m.room.message"))),
        ("our user", |object| set(object, "state_key", json!("@alice:test"))),
        ("our user as sender, too", |object| {
            set(object, "state_key", json!("@alice:test"));
            set(object, "sender", json!("@alice:test"));
        }),
        ("a third server's user", |object| {
            set(object, "state_key", json!("@x:elsewhere"));
            set(object, "sender", json!("@x:elsewhere"));
        }),
        ("sender is not the subject", |object| set(object, "state_key", json!("@someone:remote"))),
        ("another room", |object| set(object, "room_id", json!("!other:test"))),
        ("no state key", |object| {
            object.remove("state_key");
        }),
    ];
    for endpoint in ["v1/send_join", "v2/send_join", "v1/send_leave", "v2/send_leave"] {
        let own = if endpoint.ends_with("leave") { "leave" } else { "join" };
        let head = stage.log_head();
        for (why, change) in &cases {
            let mut object = good.clone();
            set(&mut object, "content", json!({"membership": own}));
            change(&mut object);
            let object = stage.remote.seal(object, &rules);
            let response = put(&stage, endpoint, room_id.as_str(), &id_of(&object), &object).await;
            assert!(
                response.status().is_client_error(),
                "{endpoint}, {why}: {} {:?}",
                response.status(),
                response.body()
            );
        }
        let mut object = good.clone();
        let other = if own == "join" { "leave" } else { "join" };
        set(&mut object, "content", json!({"membership": other}));
        let object = stage.remote.seal(object, &rules);
        let response = put(&stage, endpoint, room_id.as_str(), &id_of(&object), &object).await;
        assert!(response.status().is_client_error(), "{endpoint}, {other}");
        let mut object = good.clone();
        set(&mut object, "content", json!({"membership": own}));
        let object = stage.remote.seal(object, &rules);
        for (room, event) in [
            (other_room.as_str(), id_of(&object)),
            ("!unknown:test", id_of(&object)),
            (room_id.as_str(), "$other".to_owned()),
        ] {
            let response = put(&stage, endpoint, room, &event, &object).await;
            assert!(response.status().is_client_error(), "{endpoint} in {room} as {event}");
        }
        assert_eq!(stage.log_head(), head, "{endpoint}");
    }
    // The room lives on.
    let room = stage.remote.join(&stage.name, &room_id, &bob).await.map_err(|response| body_of(&response)).unwrap();
    let message = room.send_message(&stage.remote, &bob, "hello");
    stage.receive(&[&message]).await;
    assert!(stage.sees(&alice, &room_id, &message.event_id).await);
}

#[tokio::test]
async fn s_004_a_join_that_its_server_has_not_signed_is_refused() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room_id =
        stage.local_room(&alice, |command| command.preset = Some(rules::room::create::Preset::PublicChat)).await;
    let rules = RoomVersionId::V11.rules().unwrap();
    let other = stage.network.add_fake("other");
    let good = template(&stage, &room_id, &stage.remote.user("bob")).await.unwrap();
    let good = stage.remote.seal(good, &rules);
    let mut unsigned = good.clone();
    set(&mut unsigned, "signatures", json!({}));
    let mut by_another = unsigned.clone();
    other.countersign(&mut by_another, &rules);
    let mut altered = good.clone();
    set(&mut altered, "origin_server_ts", json!(1_790_000_000_001_u64));
    let head = stage.log_head();
    for (why, object) in [("unsigned", &unsigned), ("by another", &by_another), ("altered", &altered)] {
        for endpoint in ["v1/send_join", "v2/send_join"] {
            let response = put(&stage, endpoint, room_id.as_str(), &id_of(object), object).await;
            assert!(response.status().is_client_error(), "{why}: {:?}", response.body());
        }
    }
    assert_eq!(stage.log_head(), head);
    // Another server that carries an honest join of the remote's user: it is not that server's to hand in.
    let target = format!("{SEND_JOIN}/{}/{}", encode(&room_id), encode(id_of(&good)));
    let body = serde_json::to_value(&good).unwrap();
    assert!(other.ask(&stage.name, Method::PUT, &target, Some(&body)).await.status().is_client_error());
    assert_eq!(stage.log_head(), head);
    let response = put(&stage, "v1/send_join", room_id.as_str(), &id_of(&good), &good).await;
    assert_eq!(response.status(), 200, "{:?}", response.body());
    let body = body_of(&response);
    assert_eq!(body[0], 200);
    assert!(body[1]["state"].as_array().unwrap().len() > 3);
    assert!(body[1]["auth_chain"].is_array());
    assert_eq!(stage.membership(&room_id, &stage.remote.user("bob")).await.as_deref(), Some("join"));
}

/// A room of ours that members of another of our rooms may join.
async fn restricted_room(stage: &Stage, alice: &engine::Requester) -> (ruma::OwnedRoomId, ruma::OwnedRoomId) {
    let condition =
        stage.local_room(alice, |command| command.preset = Some(rules::room::create::Preset::PublicChat)).await;
    let allow = json!([{"type": "m.room_membership", "room_id": condition}]);
    let join_rules = json!({"join_rule": "restricted", "allow": allow});
    let room_id = stage
        .local_room(alice, |command| command.initial_state.push(initial_state("m.room.join_rules", &join_rules)))
        .await;
    (room_id, condition)
}

#[tokio::test]
async fn s_004_a_restricted_join_takes_a_rule_that_allows_it() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let (room_id, condition) = restricted_room(&stage, &alice).await;
    let rules = RoomVersionId::V11.rules().unwrap();
    let bob = stage.remote.user("bob");
    let refused = template(&stage, &room_id, &bob).await.expect_err("bob fulfils no condition");
    assert!([400, 403].contains(&refused.status().as_u16()), "{:?}", refused.body());
    // He makes one up for himself, and names alice as if she had let him in.
    let public = template(&stage, &condition, &bob).await.unwrap();
    for authoriser in [json!("@alice:test"), json!("@nobody:test"), json!("@rita:remote"), json!(7), Value::Null] {
        let mut object = public.clone();
        let state = stage.engine.storage().current_state(&room_id).await.unwrap();
        let auth: Vec<_> = state
            .iter()
            .filter(|entry| {
                let key = (entry.event_type.to_string(), entry.state_key.as_str());
                [
                    ("m.room.create", ""),
                    ("m.room.power_levels", ""),
                    ("m.room.join_rules", ""),
                    ("m.room.member", "@alice:test"),
                ]
                .iter()
                .any(|(event_type, state_key)| key == ((*event_type).to_owned(), *state_key))
            })
            .filter_map(|entry| entry.event_id.clone())
            .collect();
        let record = stage.engine.storage().room(&room_id).await.unwrap().unwrap();
        let prev: Vec<_> = record.forward_extremities.iter().map(|(id, _)| id.clone()).collect();
        set(&mut object, "room_id", json!(room_id));
        set(&mut object, "auth_events", json!(auth));
        set(&mut object, "prev_events", json!(prev));
        let mut content = json!({"membership": "join"});
        if !authoriser.is_null() {
            content["join_authorised_via_users_server"] = authoriser.clone();
        }
        set(&mut object, "content", content);
        let object = stage.remote.seal(object, &rules);
        let head = stage.log_head();
        let response = put(&stage, "v2/send_join", room_id.as_str(), &id_of(&object), &object).await;
        assert!(response.status().is_client_error(), "{authoriser}: {} {:?}", response.status(), response.body());
        assert!(!String::from_utf8_lossy(response.body()).contains("ed25519:test"), "{authoriser}: signed");
        assert_eq!(stage.log_head(), head, "{authoriser}");
        assert_eq!(stage.membership(&room_id, &bob).await, None, "{authoriser}");
    }
    // Once he is in the other room, he may, with our signature; or he is refused where that is not served.
    stage.remote.join(&stage.name, &condition, &bob).await.map_err(|response| body_of(&response)).unwrap();
    if let Ok(allowed) = template(&stage, &room_id, &bob).await {
        let allowed = stage.remote.seal(allowed, &rules);
        let response = put(&stage, "v2/send_join", room_id.as_str(), &id_of(&allowed), &allowed).await;
        assert_eq!(response.status(), 200, "{:?}", response.body());
        let signed = body_of(&response)["event"].clone();
        assert_eq!(signed["content"]["join_authorised_via_users_server"], "@alice:test");
        assert_eq!(signed["signatures"]["test"].as_object().unwrap().len(), 1);
        assert_eq!(stage.membership(&room_id, &bob).await.as_deref(), Some("join"));
    }
}

#[tokio::test]
async fn s_036_a_room_that_does_not_federate_is_closed_to_other_servers() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room_id = stage
        .local_room(&alice, |command| {
            command.preset = Some(rules::room::create::Preset::PublicChat);
            command.creation_content.insert("m.federate".to_owned(), false.into());
        })
        .await;
    let refused = template(&stage, &room_id, &stage.remote.user("bob")).await.expect_err("it does not federate");
    assert!([403, 404].contains(&refused.status().as_u16()), "{:?}", refused.body());
    // Nor does a join get in that comes as if somebody else had let bob in.
    let open = stage.local_room(&alice, |command| command.preset = Some(rules::room::create::Preset::PublicChat)).await;
    let mut join = template(&stage, &open, &stage.remote.user("bob")).await.unwrap();
    let state = stage.engine.storage().current_state(&room_id).await.unwrap();
    let auth = state.iter().filter(|entry| {
        let event_type = entry.event_type.to_string();
        ["m.room.create", "m.room.power_levels", "m.room.join_rules"].contains(&event_type.as_str())
    });
    let record = stage.engine.storage().room(&room_id).await.unwrap().unwrap();
    let prev: Vec<_> = record.forward_extremities.iter().map(|(id, _)| id.clone()).collect();
    set(&mut join, "room_id", json!(room_id));
    set(&mut join, "auth_events", auth.map(|entry| json!(entry.event_id)).collect());
    set(&mut join, "prev_events", json!(prev));
    let join = stage.remote.seal(join, &RoomVersionId::V11.rules().unwrap());
    stage.receive_raw(&[fake_homeserver::raw(text_of(&join))]).await;
    let response = put(&stage, "v2/send_join", room_id.as_str(), &id_of(&join), &join).await;
    assert!(response.status().is_client_error(), "{:?}", response.body());
    assert_eq!(stage.membership(&room_id, &stage.remote.user("bob")).await, None);
}

#[tokio::test]
async fn s_036_a_version_that_was_not_offered_is_refused() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room_id =
        stage.local_room(&alice, |command| command.preset = Some(rules::room::create::Preset::PublicChat)).await;
    let bob = stage.remote.user("bob");
    for query in ["", "?ver=10", "?ver=1&ver=12", "?ver=org.example.odd"] {
        let target = format!("{MAKE_JOIN}/{}/{}{query}", encode(&room_id), encode(&bob));
        let response = stage.remote.get(&stage.name, &target).await;
        assert_eq!((response.status().as_u16(), errcode(&response).as_str()), (400, "M_INCOMPATIBLE_ROOM_VERSION"));
        assert_eq!(body_of(&response)["room_version"], "11");
    }
    // The other way round: an answer of another version than the room that comes with it.
    let room = public_room(&stage);
    stage.remote.on_answer(MAKE_JOIN, |answer| answer["room_version"] = json!("6"));
    stage.join(&alice, &room.id).await.unwrap_err();
    assert!(stage.network.recorded_to(stage.remote.name(), "make_join").len() <= 2, "no retry loop");
    assert_eq!(stage.membership(&room.id, &alice.user_id).await, None);
}

#[tokio::test]
async fn s_062_a_room_is_joined_only_when_its_state_holds_up() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let elsewhere = public_room(&stage);
    let foreign: Value = serde_json::from_str(&elsewhere.state_event("m.room.create", "").unwrap().json).unwrap();
    type Change = Box<dyn Fn(&mut Value) + Send + Sync>;
    let without = |event_type: &'static str| -> Change {
        Box::new(move |answer: &mut Value| {
            for field in ["state", "auth_chain"] {
                answer[field].as_array_mut().unwrap().retain(|event| event["type"] != event_type);
            }
        })
    };
    let unsigned = |event_type: &'static str| -> Change {
        Box::new(move |answer: &mut Value| {
            for field in ["state", "auth_chain"] {
                for event in answer[field].as_array_mut().unwrap() {
                    if event["type"] == event_type {
                        event["signatures"] = json!({});
                    }
                }
            }
        })
    };
    let cases: Vec<(&str, Change)> = vec![
        ("no create event", without("m.room.create")),
        (
            "create event of another room",
            Box::new(move |answer: &mut Value| {
                for field in ["state", "auth_chain"] {
                    for event in answer[field].as_array_mut().unwrap() {
                        if event["type"] == "m.room.create" {
                            *event = foreign.clone();
                        }
                    }
                }
            }),
        ),
        ("create event unsigned", unsigned("m.room.create")),
        (
            "create event of another version",
            Box::new(|answer: &mut Value| {
                for field in ["state", "auth_chain"] {
                    for event in answer[field].as_array_mut().unwrap() {
                        if event["type"] == "m.room.create" {
                            event["content"]["room_version"] = json!("6");
                        }
                    }
                }
            }),
        ),
        (
            "empty",
            Box::new(|answer: &mut Value| {
                answer["state"] = json!([]);
                answer["auth_chain"] = json!([]);
            }),
        ),
        ("junk", Box::new(|answer: &mut Value| answer["state"] = json!([1, null, "x", {}]))),
        ("not lists", Box::new(|answer: &mut Value| answer["state"] = json!({"a": 1}))),
        ("not an object", Box::new(|answer: &mut Value| *answer = json!(["x"]))),
    ];
    for (why, change) in cases {
        let room = public_room(&stage);
        stage.remote.behave();
        stage.remote.on_answer(SEND_JOIN, change);
        let head = stage.log_head();
        let joined = tokio::time::timeout(PATIENCE, stage.join(&alice, &room.id)).await.expect(why);
        let error = joined.expect_err(why);
        assert!(matches!(error, engine::EngineError::CannotFederate(_)), "{why}: {error:?}");
        assert_eq!(stage.log_head(), head, "{why}");
        assert!(stage.engine.storage().room(&room.id).await.unwrap().is_none(), "{why}: there is a room");
        assert!(stage.engine.storage().membership(&alice.user_id, &room.id).await.unwrap().is_none(), "{why}");
        stage.remote.behave();
        stage.join(&alice, &room.id).await.unwrap_or_else(|error| panic!("{why}: not joined afterwards: {error}"));
        assert_eq!(stage.membership(&room.id, &alice.user_id).await.as_deref(), Some("join"));
    }
}

#[tokio::test]
async fn s_062_foreign_and_unsigned_events_of_the_state_are_left_out() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let rita = stage.remote.user("rita");
    let (room, elsewhere) = (public_room(&stage), public_room(&stage));
    let foreign = elsewhere.send_state(&stage.remote, &rita, "m.room.topic", "", json!({"topic": "poison"}));
    let unsigned = room.send_state(&stage.remote, &rita, "m.room.name", "", json!({"name": "poison"}));
    let mut unsigned_json: Value = serde_json::from_str(&unsigned.json).unwrap();
    unsigned_json["signatures"] = json!({});
    let foreign_json: Value = serde_json::from_str(&foreign.json).unwrap();
    stage.remote.on_answer(SEND_JOIN, move |answer| {
        let state = answer["state"].as_array_mut().unwrap();
        state.retain(|event| event["type"] != "m.room.name");
        state.extend([foreign_json.clone(), unsigned_json.clone()]);
    });
    let joined = stage.join(&alice, &room.id).await;
    if joined.is_ok() {
        assert_eq!(stage.current(&room.id, "m.room.topic", "").await, None);
        assert_eq!(stage.current(&room.id, "m.room.name", "").await, None);
        assert!(!stage.sync(&alice).await.to_string().contains("poison"));
    } else {
        assert!(stage.engine.storage().room(&room.id).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn s_062_our_own_join_comes_back_unaltered_or_not_at_all() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = public_room(&stage);
    stage.remote.on_answer(SEND_JOIN, |answer| answer["event"]["content"]["displayname"] = json!("poison"));
    let _ = stage.join(&alice, &room.id).await;
    assert!(!stage.sync(&alice).await.to_string().contains("poison"));
    let message = room.send_message(&stage.remote, &stage.remote.user("rita"), "hello");
    if stage.membership(&room.id, &alice.user_id).await.is_some() {
        stage.receive(&[&message]).await;
        assert!(stage.sees(&alice, &room.id, &message.event_id).await);
    }
}

#[tokio::test]
async fn s_062_our_own_join_keeps_our_signature() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = public_room(&stage);
    stage.remote.on_answer(SEND_JOIN, |answer| {
        answer["event"]["signatures"] =
            json!({"remote": {"ed25519:fake": "A".repeat(86)}, "poison": {"ed25519:x": "A".repeat(86)}});
    });
    stage.join(&alice, &room.id).await.unwrap();
    let join = stage.current(&room.id, "m.room.member", "@alice:test").await.unwrap();
    let stored = stage.stored(&join).await;
    assert!(stored["signatures"]["test"].is_object(), "{stored}");
    assert!(stored["signatures"]["poison"].is_null(), "{stored}");
}

#[tokio::test]
async fn s_064_what_a_peer_answers_is_not_passed_on_to_clients() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = public_room(&stage);
    let html = || http::Response::builder().status(200).body("<html>poison</html>".into()).unwrap();
    type Answer = fn() -> Response;
    let answers: Vec<(&str, Answer)> = vec![
        ("401", || reply(401, &json!({"errcode": "M_UNKNOWN_TOKEN", "error": "poison", "soft_logout": true}))),
        ("401 without body", || http::Response::builder().status(401).body(bytes()).unwrap()),
        ("403 unknown token", || reply(403, &json!({"errcode": "M_UNKNOWN_TOKEN", "error": "poison"}))),
        ("200 error", || reply(200, &json!({"errcode": "M_UNKNOWN_TOKEN", "error": "poison"}))),
        ("429", || reply(429, &json!({"errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 1_000_000_000}))),
        ("500", || reply(500, &json!({"errcode": "M_UNKNOWN", "error": "poison"}))),
        ("html", || http::Response::builder().status(404).body("<html>poison</html>".into()).unwrap()),
        ("redirect", || {
            http::Response::builder().status(307).header("location", "https://poison/").body(bytes()).unwrap()
        }),
    ];
    fn bytes() -> bytes::Bytes {
        bytes::Bytes::new()
    }
    for (why, answer) in answers {
        stage.remote.behave();
        stage.remote.on("/_matrix/federation", move |_| answer());
        let joined = stage.join(&alice, &room.id).await.expect_err(why);
        let profile = stage.engine.profile(&stage.remote.user("rita")).await.err();
        for error in [Some(joined), profile].into_iter().flatten() {
            use engine::EngineError as E;
            let fits = matches!(&error, E::CannotFederate(_) | E::NotFound(_) | E::Forbidden(_));
            assert!(fits, "{why}: {error:?}");
            assert!(!error.to_string().contains("poison"), "{why}: {error}");
        }
    }
    stage.remote.behave();
    stage.remote.on("/_matrix/federation", move |_| html());
    let error = stage.join(&alice, &room.id).await.unwrap_err();
    assert!(matches!(error, engine::EngineError::CannotFederate(_)), "{error:?}");
}

#[tokio::test]
async fn s_066_an_unknown_room_is_404() {
    let stage = Stage::new().await;
    let refused = template(&stage, <&RoomId>::try_from("!unheard_of:test").unwrap(), &stage.remote.user("bob")).await;
    let refused = refused.unwrap_err();
    assert_eq!((refused.status().as_u16(), errcode(&refused).as_str()), (404, "M_NOT_FOUND"));
    let alice = stage.user("alice").await;
    let room_id =
        stage.local_room(&alice, |command| command.preset = Some(rules::room::create::Preset::PublicChat)).await;
    // A template for somebody else's user.
    let elsewhere = UserId::parse("@x:elsewhere").unwrap();
    let refused = template(&stage, &room_id, &elsewhere).await.unwrap_err();
    assert_eq!(refused.status(), 403, "{:?}", refused.body());
    let refused = template(&stage, &room_id, &alice.user_id).await.unwrap_err();
    assert_eq!(refused.status(), 403, "{:?}", refused.body());
}

#[tokio::test]
async fn a_remote_user_joins_talks_and_leaves() {
    for version in ["6", "10", "11", "12"] {
        let stage = Stage::new().await;
        let alice = stage.user("alice").await;
        let version = RoomVersionId::try_from(version).unwrap();
        let room_id = stage
            .local_room(&alice, |command| {
                command.version = Some(version.clone());
                command.preset = Some(rules::room::create::Preset::PublicChat);
            })
            .await;
        let bob = stage.remote.user("bob");
        let room = stage.remote.join(&stage.name, &room_id, &bob).await;
        let room = room.unwrap_or_else(|response| panic!("{version}: {:?}", response.body()));
        let message = room.send_message(&stage.remote, &bob, "hello");
        assert_eq!(stage.receive(&[&message]).await[message.event_id.as_str()], json!({}));
        assert!(stage.sees(&alice, &room_id, &message.event_id).await);
        stage.send(&alice, &room_id, "hello yourself").await;
        stage.flush(stage.remote.name()).await;
        let received = stage.remote.received_pdus();
        assert!(received.iter().any(|pdu| pdu["content"]["body"] == "hello yourself"), "{version}: {received:?}");
        let target = format!("/_matrix/federation/v1/make_leave/{}/{}", encode(&room_id), encode(&bob));
        let made = body_of(&stage.remote.get(&stage.name, &target).await);
        let leave = stage.remote.seal(serde_json::from_value(made["event"].clone()).unwrap(), &room.rules);
        let (pdu, _) = read_pdu(&text_of(&leave), &room.rules).unwrap();
        let target = format!("/_matrix/federation/v2/send_leave/{}/{}", encode(&room_id), encode(&pdu.event_id));
        let response =
            stage.remote.ask(&stage.name, Method::PUT, &target, Some(&serde_json::to_value(&leave).unwrap())).await;
        assert_eq!(response.status(), 200, "{:?}", response.body());
        assert_eq!(stage.membership(&room_id, &bob).await.as_deref(), Some("leave"));
    }
}

/// What the remote server gets that hands in the join of a user, with a query.
async fn join_answer(stage: &Stage, room_id: &RoomId, localpart: &str, query: &str) -> Value {
    let user_id = stage.remote.user(localpart);
    let object = template(stage, room_id, &user_id).await.unwrap();
    let object = stage.remote.seal(object, &RoomVersionId::V11.rules().unwrap());
    let (room, event) = (encode(room_id.as_str()), encode(id_of(&object)));
    let body = serde_json::to_value(&object).unwrap();
    let answer =
        stage.remote.ask(&stage.name, Method::PUT, &format!("{SEND_JOIN}/{room}/{event}{query}"), Some(&body)).await;
    assert_eq!(answer.status(), 200, "{:?}", answer.body());
    body_of(&answer)
}

/// The users whose member events are in a list, in order.
fn members_in(events: &Value) -> Vec<&str> {
    let members = events.as_array().unwrap().iter().filter(|event| event["type"] == "m.room.member");
    let mut members: Vec<&str> = members.map(|event| event["state_key"].as_str().unwrap()).collect();
    members.sort_unstable();
    members
}

#[tokio::test]
async fn a_server_that_asks_for_it_gets_a_state_without_members() {
    let stage = Stage::new().await;
    let (alice, ada) = (stage.user("alice").await, stage.user("ada").await);
    let room_id = stage
        .local_room(&alice, |command| {
            command.preset = Some(rules::room::create::Preset::PublicChat);
            command.name = Some("Named".to_owned());
        })
        .await;
    stage.engine.join(&ada, &room_id, &[], None).await.unwrap();

    let whole = join_answer(&stage, &room_id, "first", "").await;
    assert_ne!(whole["members_omitted"], true);
    assert_eq!(members_in(&whole["state"]), ["@ada:test", "@alice:test"]);
    assert_eq!(whole["servers_in_room"], json!(["test"]), "as it was before the join");

    let partial = join_answer(&stage, &room_id, "second", "?omit_members=true").await;
    assert_eq!(partial["members_omitted"], true);
    assert_eq!(partial["servers_in_room"], json!(["remote", "test"]));
    assert!(members_in(&partial["state"]).is_empty(), "the room has a name");
    assert_eq!(members_in(&partial["auth_chain"]), ["@alice:test"], "who authorises the state is needed");
    let types =
        |events: &Value| events.as_array().unwrap().iter().filter(|event| event["type"] != "m.room.member").count();
    assert_eq!(types(&partial["state"]), types(&whole["state"]));
    assert_eq!(types(&partial["auth_chain"]), 0, "what is in the state does not come twice");
}

#[tokio::test]
async fn those_who_stand_for_a_room_without_a_name_are_not_omitted() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room_id =
        stage.local_room(&alice, |command| command.preset = Some(rules::room::create::Preset::PublicChat)).await;
    for number in 0..6 {
        let user = stage.user(&format!("u{number}")).await;
        stage.engine.join(&user, &room_id, &[], None).await.unwrap();
    }
    let partial = join_answer(&stage, &room_id, "bob", "?omit_members=true").await;
    assert_eq!(partial["members_omitted"], true);
    assert_eq!(members_in(&partial["state"]), ["@alice:test", "@u0:test", "@u1:test", "@u2:test", "@u3:test"]);
}
