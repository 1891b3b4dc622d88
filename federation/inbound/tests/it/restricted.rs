//! Rooms whose join rule lets in the members of other rooms, in both directions.

use engine::{EngineError, Requester};
use fake_homeserver::{Response, Room, RoomSettings, body_of, text_of};
use http::Method;
use rules::{event::read_pdu, room::create::Preset};
use ruma::{CanonicalJsonObject, OwnedRoomId, RoomId, RoomVersionId, UserId};
use serde_json::{Value, json};

use crate::stage::{Stage, encode, errcode, initial_state};

fn rule(kind: &str, allowed: &RoomId) -> Value {
    json!({"join_rule": kind, "allow": [{"type": "m.room_membership", "room_id": allowed}]})
}

async fn restricted(stage: &Stage, creator: &Requester, version: RoomVersionId, join_rules: &Value) -> OwnedRoomId {
    stage
        .local_room(creator, |command| {
            command.version = Some(version);
            command.preset = Some(Preset::PrivateChat);
            command.initial_state = vec![initial_state("m.room.join_rules", join_rules)];
        })
        .await
}

async fn space(stage: &Stage, creator: &Requester) -> OwnedRoomId {
    stage.local_room(creator, |command| command.preset = Some(Preset::PublicChat)).await
}

async fn set_state(stage: &Stage, user: &Requester, room_id: &RoomId, event_type: &str, content: &Value) {
    let content = serde_json::value::to_raw_value(content).unwrap();
    stage.engine.set_state(user, room_id, event_type.into(), "", &content).await.unwrap();
}

async fn make_join(stage: &Stage, room_id: &RoomId, user_id: &UserId) -> Response {
    let target = format!("/_matrix/federation/v1/make_join/{}/{}?ver=8&ver=11", encode(room_id), encode(user_id));
    stage.remote.get(&stage.name, &target).await
}

async fn send_join(stage: &Stage, room_id: &RoomId, object: CanonicalJsonObject) -> Response {
    let rules = RoomVersionId::V11.rules().unwrap();
    let sealed = stage.remote.seal(object, &rules);
    let (pdu, _) = read_pdu(&text_of(&sealed), &rules).unwrap();
    let target = format!("/_matrix/federation/v2/send_join/{}/{}", encode(room_id), encode(&pdu.event_id));
    let body = serde_json::to_value(&sealed).unwrap();
    stage.remote.ask(&stage.name, Method::PUT, &target, Some(&body)).await
}

#[tokio::test]
async fn who_is_in_the_space_joins_and_who_is_not_does_not() {
    for (kind, version) in [("restricted", RoomVersionId::V8), ("knock_restricted", RoomVersionId::V10)] {
        let stage = Stage::new().await;
        let (alice, bob) = (stage.user("alice").await, stage.user("bob").await);
        let space = space(&stage, &alice).await;
        let room_id = restricted(&stage, &alice, version, &rule(kind, &space)).await;
        let refused = stage.engine.join(&bob, &room_id, &[], None).await.unwrap_err();
        assert!(matches!(refused, EngineError::Forbidden(_)), "{refused:?}");
        stage.engine.join(&bob, &space, &[], None).await.unwrap();
        stage.engine.join(&bob, &room_id, &[], None).await.unwrap();
        let member = stage.current(&room_id, "m.room.member", bob.user_id.as_str()).await.unwrap();
        let content = stage.stored(&member).await["content"].clone();
        assert_eq!(content["join_authorised_via_users_server"], "@alice:test");
        // Who was invited needs nobody's authority.
        let carol = stage.user("carol").await;
        stage.engine.invite(&alice, &room_id, &carol.user_id, None).await.unwrap();
        stage.engine.join(&carol, &room_id, &[], None).await.unwrap();
        let member = stage.current(&room_id, "m.room.member", carol.user_id.as_str()).await.unwrap();
        assert!(stage.stored(&member).await["content"]["join_authorised_via_users_server"].is_null());
    }
}

#[tokio::test]
async fn s_004_a_join_by_our_authority_is_signed_once_and_only_when_its_user_may() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let space = space(&stage, &alice).await;
    let room_id = restricted(&stage, &alice, RoomVersionId::V11, &rule("restricted", &space)).await;
    let bob = stage.remote.user("bob");
    let refused = make_join(&stage, &room_id, &bob).await;
    assert_eq!((refused.status().as_u16(), errcode(&refused).as_str()), (403, "M_FORBIDDEN"));
    stage.remote.join(&stage.name, &space, &bob).await.unwrap();
    let made = make_join(&stage, &room_id, &bob).await;
    assert_eq!(made.status(), 200, "{:?}", made.body());
    let template: CanonicalJsonObject = serde_json::from_value(body_of(&made)["event"].clone()).unwrap();
    assert_eq!(body_of(&made)["event"]["content"]["join_authorised_via_users_server"], "@alice:test");

    let with_authoriser = |authoriser: &str, user: &str| {
        let mut object = template.clone();
        let content = json!({"membership": "join", "join_authorised_via_users_server": authoriser});
        object.insert("content".to_owned(), serde_json::from_value(content).unwrap());
        for field in ["sender", "state_key"] {
            object.insert(field.to_owned(), serde_json::from_value(json!(user)).unwrap());
        }
        object
    };
    let wrong = [
        ("not ours", with_authoriser("@rita:remote", bob.as_str())),
        ("not in the room", with_authoriser("@stranger:test", bob.as_str())),
        ("no user id", with_authoriser("alice", bob.as_str())),
        ("not in the space", with_authoriser("@alice:test", "@mallory:remote")),
    ];
    for (why, object) in wrong {
        let head = stage.log_head();
        let response = send_join(&stage, &room_id, object).await;
        assert!(response.status().is_client_error(), "{why}: {} {:?}", response.status(), response.body());
        assert!(!String::from_utf8_lossy(response.body()).contains("ed25519:test"), "{why}");
        assert_eq!(stage.log_head(), head, "{why}");
    }
    let response = send_join(&stage, &room_id, template).await;
    assert_eq!(response.status(), 200, "{:?}", response.body());
    let event = body_of(&response)["event"].clone();
    assert_eq!(event["signatures"].as_object().unwrap().len(), 2, "{event}");
    assert!(event["signatures"]["test"]["ed25519:test"].is_string(), "{event}");
    assert_eq!(stage.membership(&room_id, &bob).await.as_deref(), Some("join"));
}

#[tokio::test]
async fn a_server_that_cannot_tell_or_may_not_invite_says_so() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let bob = stage.remote.user("bob");
    let unknown = RoomId::parse("!elsewhere:elsewhere").unwrap();
    let room_id = restricted(&stage, &alice, RoomVersionId::V11, &rule("restricted", &unknown)).await;
    let answer = make_join(&stage, &room_id, &bob).await;
    assert_eq!((answer.status().as_u16(), errcode(&answer).as_str()), (400, "M_UNABLE_TO_AUTHORISE_JOIN"));

    let space = space(&stage, &alice).await;
    stage.remote.join(&stage.name, &space, &bob).await.unwrap();
    set_state(&stage, &alice, &room_id, "m.room.join_rules", &rule("restricted", &space)).await;
    for power in [100, 50] {
        let levels = json!({"users": {"@alice:test": power}, "invite": 100});
        set_state(&stage, &alice, &room_id, "m.room.power_levels", &levels).await;
    }
    let answer = make_join(&stage, &room_id, &bob).await;
    assert_eq!((answer.status().as_u16(), errcode(&answer).as_str()), (400, "M_UNABLE_TO_GRANT_JOIN"));
}

#[tokio::test]
async fn our_user_joins_by_the_server_that_can_authorise_it() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let space = Room::create(&stage.remote, &stage.remote.user("rita"), &RoomSettings::default());
    let settings = RoomSettings { join_rules: rule("restricted", &space.id), ..RoomSettings::default() };
    let room = Room::create(&stage.remote, &stage.remote.user("rita"), &settings);
    let unable = stage.network.add_fake("unable");
    unable.on("/_matrix/federation/v1/make_join", |_| {
        fake_homeserver::json(400, &json!({"errcode": "M_UNABLE_TO_AUTHORISE_JOIN", "error": "no"}))
    });
    let via = [unable.name().to_owned(), stage.remote.name().to_owned()];
    stage.engine.join(&alice, &room.id, &via, None).await.unwrap();
    assert_eq!(stage.network.recorded_to(unable.name(), "make_join").len(), 1);
    let member = stage.current(&room.id, "m.room.member", alice.user_id.as_str()).await.unwrap();
    let event = stage.stored(&member).await;
    assert_eq!(event["content"]["join_authorised_via_users_server"], "@rita:remote");
    assert_eq!(event["signatures"].as_object().unwrap().len(), 2, "{event}");
}

#[tokio::test]
async fn in_a_room_of_ours_too_another_server_may_have_to_authorise() {
    let stage = Stage::new().await;
    let (alice, bob) = (stage.user("alice").await, stage.user("bob").await);
    let rita = stage.remote.user("rita");
    let space = Room::create(&stage.remote, &rita, &RoomSettings::default());
    let levels = json!({"users": {"@rita:remote": 100}, "invite": 50});
    let settings = RoomSettings { power_levels: Some(levels), ..RoomSettings::default() };
    let room = Room::create(&stage.remote, &rita, &settings);
    stage.join(&alice, &room.id).await.unwrap();
    let rules = room.send_state(&stage.remote, &rita, "m.room.join_rules", "", rule("restricted", &space.id));
    stage.receive(&[&rules]).await;
    // We do not know the space, and nobody of ours may invite: its server has to be asked, which is ahead of us.
    let ahead = room.send_message(&stage.remote, &rita, "not yet sent to you");
    stage.engine.join(&bob, &room.id, &[], None).await.unwrap();
    assert_eq!(stage.membership(&room.id, &bob.user_id).await.as_deref(), Some("join"));
    assert!(stage.sees(&bob, &room.id, &ahead.event_id).await);
    stage.network.cut(stage.remote.name());
    let carol = stage.user("carol").await;
    stage.engine.join(&carol, &room.id, &[], None).await.unwrap_err();
}
