//! Knocking, in both directions, and what ends a knock or an invitation.

use fake_homeserver::{Room, RoomSettings, body_of, object_of, text_of};
use http::Method;
use rules::{event::read_pdu, room::create::Preset};
use ruma::{OwnedRoomId, RoomVersionId, UserId};
use serde_json::{Value, json};

use crate::stage::{Stage, encode, errcode, initial_state, via};

async fn knockable(stage: &Stage, creator: &engine::Requester) -> OwnedRoomId {
    stage
        .local_room(creator, |command| {
            command.preset = Some(Preset::PrivateChat);
            command.name = Some("Behind the door".to_owned());
            command.initial_state = vec![initial_state("m.room.join_rules", &json!({"join_rule": "knock"}))];
        })
        .await
}

fn knockable_remote(stage: &Stage, version: RoomVersionId) -> Room {
    let join_rules = json!({"join_rule": "knock"});
    let settings = RoomSettings { join_rules, ..RoomSettings::of_version(version) };
    Room::create(&stage.remote, &stage.remote.user("rita"), &settings)
}

/// A knock of the remote server's bob as it would be handed in.
async fn remote_knock(stage: &Stage, room_id: &OwnedRoomId, bob: &UserId) -> (String, Value, u16) {
    let target = format!("/_matrix/federation/v1/make_knock/{}/{}?ver=11", encode(room_id), encode(bob));
    let made = stage.remote.get(&stage.name, &target).await;
    if made.status() != 200 {
        return (errcode(&made), Value::Null, made.status().as_u16());
    }
    let rules = RoomVersionId::V11.rules().unwrap();
    let template = serde_json::from_value(body_of(&made)["event"].clone()).unwrap();
    let sealed = stage.remote.seal(template, &rules);
    let (pdu, _) = read_pdu(&text_of(&sealed), &rules).unwrap();
    let target = format!("/_matrix/federation/v1/send_knock/{}/{}", encode(room_id), encode(&pdu.event_id));
    let body = serde_json::to_value(&sealed).unwrap();
    let sent = stage.remote.ask(&stage.name, Method::PUT, &target, Some(&body)).await;
    (pdu.event_id.to_string(), body_of(&sent), sent.status().as_u16())
}

fn types(events: &Value) -> Vec<&str> {
    events.as_array().into_iter().flatten().filter_map(|event| event["type"].as_str()).collect()
}

#[tokio::test]
async fn a_remote_user_knocks_is_invited_and_joins() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room_id = knockable(&stage, &alice).await;
    let bob = stage.remote.user("bob");
    let (_, answer, status) = remote_knock(&stage, &room_id, &bob).await;
    assert_eq!(status, 200, "{answer}");
    let shown = types(&answer["knock_room_state"]);
    assert!(["m.room.create", "m.room.name", "m.room.join_rules"].iter().all(|key| shown.contains(key)), "{shown:?}");
    assert_eq!(stage.membership(&room_id, &bob).await.as_deref(), Some("knock"));
    stage.engine.invite(&alice, &room_id, &bob, None).await.unwrap();
    assert_eq!(stage.remote.invites().len(), 1);
    stage.remote.join(&stage.name, &room_id, &bob).await.unwrap();
    assert_eq!(stage.membership(&room_id, &bob).await.as_deref(), Some("join"));
}

#[tokio::test]
async fn s_029_a_room_that_does_not_let_knock_is_not_knocked_on() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let bob = stage.remote.user("bob");
    for preset in [Preset::PrivateChat, Preset::PublicChat] {
        let room_id = stage.local_room(&alice, |command| command.preset = Some(preset)).await;
        let (error, _, status) = remote_knock(&stage, &room_id, &bob).await;
        assert_eq!((status, error.as_str()), (403, "M_FORBIDDEN"));
        let carol = stage.user(&format!("carol{}", room_id.as_str().len() + preset as usize)).await;
        stage.engine.knock(&carol, &room_id, &[], None).await.unwrap_err();
    }
    let room_id = knockable(&stage, &alice).await;
    let target = format!("/_matrix/federation/v1/make_knock/{}/{}?ver=6", encode(&room_id), encode(&bob));
    let made = stage.remote.get(&stage.name, &target).await;
    assert_eq!(errcode(&made), "M_INCOMPATIBLE_ROOM_VERSION");
}

#[tokio::test]
async fn our_user_knocks_on_a_remote_room_and_is_let_in() {
    for version in [RoomVersionId::V7, RoomVersionId::V11, RoomVersionId::V12] {
        let stage = Stage::new().await;
        let alice = stage.user("alice").await;
        let room = knockable_remote(&stage, version.clone());
        let reason = Some("let me in".to_owned());
        stage.engine.knock(&alice, &room.id, &via(&stage.remote), reason).await.unwrap();
        let sent = stage.network.recorded_to(stage.remote.name(), "send_knock");
        assert_eq!(sent[0].body["content"]["membership"], "knock");
        assert_eq!(sent[0].body["content"]["reason"], "let me in");
        let shown = stage.sync(&alice).await["rooms"]["knock"][room.id.as_str()]["knock_state"]["events"].clone();
        assert!(types(&shown).contains(&"m.room.create") && types(&shown).contains(&"m.room.member"), "{shown}");
        let invited = stage.remote.invite(&stage.name, &room, &stage.remote.user("rita"), &alice.user_id).await;
        assert_eq!(invited.status(), 200, "{version}: {:?}", invited.body());
        let sync = stage.sync(&alice).await;
        assert!(sync["rooms"]["invite"][room.id.as_str()].is_object() && sync["rooms"]["knock"].is_null(), "{sync}");
        stage.join(&alice, &room.id).await.unwrap();
    }
}

#[tokio::test]
async fn s_050_what_a_knock_is_shown_is_stripped_and_bounded() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    for state in [Value::Null, json!({"a": 1}), json!([1, "x", null, {"type": 1}])] {
        let room = knockable_remote(&stage, RoomVersionId::V11);
        stage.remote.on_answer("/_matrix/federation/v1/send_knock", move |answer| {
            answer["knock_room_state"] = state.clone();
        });
        let _ = stage.engine.knock(&alice, &room.id, &via(&stage.remote), None).await;
        let sync = stage.sync(&alice).await;
        for event in sync["rooms"]["knock"][room.id.as_str()]["knock_state"]["events"].as_array().into_iter().flatten()
        {
            assert_eq!(event.as_object().unwrap().len(), 4, "{event}");
        }
        stage.remote.behave();
    }
    let room = knockable_remote(&stage, RoomVersionId::V11);
    stage.engine.knock(&alice, &room.id, &via(&stage.remote), None).await.unwrap();
    let sync = stage.sync(&alice).await;
    let shown = &sync["rooms"]["knock"][room.id.as_str()]["knock_state"]["events"];
    assert!(shown.as_array().unwrap().iter().all(|event| event.as_object().unwrap().len() == 4), "{shown}");
}

#[tokio::test]
async fn who_knocks_on_a_room_of_version_12_is_shown_events_of_it_only() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = knockable_remote(&stage, RoomVersionId::V12);
    let mut forged: Value = serde_json::from_str(&room.state_event("m.room.join_rules", "").unwrap().json).unwrap();
    forged["type"] = json!("m.room.name");
    forged["content"] = json!({"name": "Another room"});
    stage.remote.on_answer("/_matrix/federation/v1/send_knock", move |answer| {
        answer["knock_room_state"].as_array_mut().unwrap().push(forged.clone());
    });
    stage.engine.knock(&alice, &room.id, &via(&stage.remote), None).await.unwrap();
    let sync = stage.sync(&alice).await;
    let shown = &sync["rooms"]["knock"][room.id.as_str()]["knock_state"]["events"];
    let types: Vec<&str> = shown.as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert!(types.contains(&"m.room.create") && !types.contains(&"m.room.name"), "{types:?}");
}

#[tokio::test]
async fn a_knock_is_taken_back_by_its_user() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    // Version 12, where the room's id names no server.
    let room = knockable_remote(&stage, RoomVersionId::V12);
    stage.engine.knock(&alice, &room.id, &via(&stage.remote), None).await.unwrap();
    stage.engine.leave(&alice, &room.id, None).await.unwrap();
    assert_eq!(stage.network.recorded_to(stage.remote.name(), "send_leave").len(), 1);
    assert!(stage.sync(&alice).await["rooms"]["knock"].is_null());
    // When nobody answers, it is over for her all the same.
    stage.engine.knock(&alice, &room.id, &via(&stage.remote), None).await.unwrap();
    stage.network.cut(stage.remote.name());
    stage.engine.leave(&alice, &room.id, None).await.unwrap();
    assert!(stage.sync(&alice).await["rooms"]["knock"].is_null());
}

#[tokio::test]
async fn who_turns_an_invitation_down_sees_that_whether_or_not_the_other_server_hears_of_it() {
    for version in [RoomVersionId::V1, RoomVersionId::V11, RoomVersionId::V12] {
        for cut in [false, true] {
            let stage = Stage::new().await;
            let alice = stage.user("alice").await;
            let room = knockable_remote(&stage, version.clone());
            stage.remote.invite(&stage.name, &room, &stage.remote.user("rita"), &alice.user_id).await;
            if cut {
                stage.network.cut(stage.remote.name());
            }
            stage.engine.leave(&alice, &room.id, Some("no".to_owned())).await.unwrap();
            let sync = stage.sync_with_left(&alice).await;
            let shown = &sync["rooms"]["leave"][room.id.as_str()]["timeline"]["events"][0];
            assert_eq!(shown["content"], json!({"membership": "leave", "reason": "no"}), "{version} {cut} {sync}");
            assert_eq!(shown["sender"], json!(alice.user_id));
            assert!(stage.engine.storage().fsck().await.unwrap().is_empty());
        }
    }
}

#[tokio::test]
async fn a_refused_knock_and_a_withdrawn_invitation_are_heard_of() {
    for (verb, section) in [("knock", "knock"), ("invite", "invite")] {
        for membership in ["leave", "ban"] {
            let stage = Stage::new().await;
            let alice = stage.user("alice").await;
            let rita = stage.remote.user("rita");
            let room = knockable_remote(&stage, RoomVersionId::V11);
            if verb == "knock" {
                stage.engine.knock(&alice, &room.id, &via(&stage.remote), None).await.unwrap();
            } else {
                stage.remote.invite(&stage.name, &room, &rita, &alice.user_id).await;
            }
            assert!(stage.sync(&alice).await["rooms"][section][room.id.as_str()].is_object());
            let content = json!({"membership": membership, "reason": "no"});
            let end = room.send_state(&stage.remote, &rita, "m.room.member", alice.user_id.as_str(), content);
            let answer = stage.receive(&[&end]).await;
            assert_eq!(answer[end.event_id.as_str()], json!({}), "{answer}");
            let sync = stage.sync(&alice).await;
            assert!(sync["rooms"][section][room.id.as_str()].is_null(), "{verb} {membership}: {sync}");
            let record = stage.engine.storage().membership(&alice.user_id, &room.id).await.unwrap().unwrap();
            assert_eq!(record.membership.as_str(), membership);
            assert!(stage.engine.storage().fsck().await.unwrap().is_empty());
        }
    }
}

#[tokio::test]
async fn s_065_only_who_has_sent_an_invitation_takes_it_back() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let rita = stage.remote.user("rita");
    let room = knockable_remote(&stage, RoomVersionId::V11);
    stage.remote.invite(&stage.name, &room, &rita, &alice.user_id).await;
    let stranger = stage.network.add_fake("stranger");
    let content = json!({"membership": "leave"});
    let member = Some(alice.user_id.as_str());
    let forged = room.draft(&stranger, &stranger.user("mallory"), "m.room.member", member, content.clone());
    let forged = stranger.build(forged, &room.rules);
    stranger.send_pdus(&stage.name, &[&forged]).await;
    // One that is not about this invitation.
    let mut other = room.draft(&stage.remote, &rita, "m.room.member", member, content.clone());
    other.auth_events.retain(|id| room.state_event("m.room.member", alice.user_id.as_str()).unwrap().event_id != *id);
    let other = stage.remote.build(other, &room.rules);
    // One by another user of the inviting server, of whose power nothing is known here.
    let rosa = room.draft(&stage.remote, &stage.remote.user("rosa"), "m.room.member", member, content.clone());
    stage.receive(&[&stage.remote.build(rosa, &room.rules)]).await;
    assert!(stage.sync(&alice).await["rooms"]["invite"][room.id.as_str()].is_object());
    // And one whose signature does not hold.
    let good = room.draft(&stage.remote, &rita, "m.room.member", member, content);
    let mut bad = object_of(&stage.remote.build(good, &room.rules));
    bad.insert("depth".to_owned(), serde_json::from_value(json!(999)).unwrap());
    stage.receive(&[&other]).await;
    stage.receive_raw(&[serde_json::value::to_raw_value(&bad).unwrap()]).await;
    assert!(stage.sync(&alice).await["rooms"]["invite"][room.id.as_str()].is_object());
}

#[tokio::test]
async fn the_server_of_an_invited_user_hears_that_the_invitation_is_over() {
    for ban in [false, true] {
        let stage = Stage::new().await;
        let alice = stage.user("alice").await;
        let room_id = knockable(&stage, &alice).await;
        let (bob, carol) = (stage.remote.user("bob"), stage.remote.user("carol"));
        stage.engine.invite(&alice, &room_id, &bob, None).await.unwrap();
        assert_eq!(remote_knock(&stage, &room_id, &carol).await.2, 200);
        for user in [&bob, &carol] {
            if ban {
                stage.engine.ban(&alice, &room_id, user, None).await.unwrap();
            } else {
                stage.engine.kick(&alice, &room_id, user, None).await.unwrap();
            }
        }
        // Of whom nobody was waiting, their server hears nothing.
        stage.engine.ban(&alice, &room_id, &stage.remote.user("nobody"), None).await.unwrap();
        assert_eq!(stage.engine.sender().pending().await.unwrap(), [stage.remote.name()]);
        stage.flush(stage.remote.name()).await;
        let told = stage.remote.received_pdus();
        let told: Vec<_> = told.iter().map(|pdu| (&pdu["state_key"], &pdu["content"]["membership"])).collect();
        let membership = json!(if ban { "ban" } else { "leave" });
        assert_eq!(told, [(&json!(bob), &membership), (&json!(carol), &membership)]);
        assert!(stage.engine.sender().pending().await.unwrap().is_empty());
    }
}
