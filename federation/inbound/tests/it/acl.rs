//! Servers that a room has banned.

use fake_homeserver::{Room, body_of};
use http::Method;
use rules::room::create::Preset;
use serde_json::{Value, json};

use crate::stage::{Stage, Verdict, encode, errcode, initial_state};

async fn closed_room(stage: &Stage, alice: &engine::Requester, content: &Value) -> ruma::OwnedRoomId {
    stage
        .local_room(alice, |command| {
            command.preset = Some(Preset::PublicChat);
            command.initial_state.push(initial_state("m.room.server_acl", content));
        })
        .await
}

#[tokio::test]
async fn s_068_a_banned_server_is_outside() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let closed = [
        json!({"allow": ["*"], "deny": ["remote"]}),
        json!({"allow": ["*"], "deny": ["REMOTE"]}),
        json!({"allow": ["*"], "deny": ["r?m*te"]}),
        json!({"allow": ["test"]}),
        json!({"deny": []}),
    ];
    for acl in closed {
        let room_id = closed_room(&stage, &alice, &acl).await;
        let bob = stage.remote.user("bob");
        let target = format!("/_matrix/federation/v1/make_join/{}/{}?ver=11", encode(&room_id), encode(&bob));
        let response = stage.remote.get(&stage.name, &target).await;
        assert_eq!(response.status(), 403, "{acl}: {:?}", response.body());
    }
    let open = [json!({"allow": ["*"], "deny": ["remot", "remotes", "*.remote"]}), json!({"allow": ["re*"]})];
    for acl in open {
        let room_id = closed_room(&stage, &alice, &acl).await;
        stage.remote.join(&stage.name, &room_id, &stage.remote.user("bob")).await.map_err(|r| body_of(&r)).unwrap();
    }
}

#[tokio::test]
async fn s_068_a_server_that_gets_banned_is_not_heard_any_more() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room_id = stage.local_room(&alice, |command| command.preset = Some(Preset::PublicChat)).await;
    let other = stage.network.add_fake("other");
    let (bob, oscar) = (stage.remote.user("bob"), other.user("oscar"));
    stage.remote.join(&stage.name, &room_id, &bob).await.map_err(|r| body_of(&r)).unwrap();
    let room: Room = other.join(&stage.name, &room_id, &oscar).await.map_err(|r| body_of(&r)).unwrap();
    let content = serde_json::value::to_raw_value(&json!({"allow": ["*"], "deny": ["other"]})).unwrap();
    let acl = stage.engine.set_state(&alice, &room_id, "m.room.server_acl".into(), "", &content).await.unwrap();
    let (acl, _) = rules::event::read_pdu(&stage.stored(&acl).await.to_string(), &room.rules).unwrap();
    room.accept(acl);
    let message = room.send_message(&other, &oscar, "poison");
    let typing = json!({"edu_type": "m.typing", "content": {"room_id": room_id, "user_id": oscar, "typing": true}});
    let head = stage.log_head();
    other.send_transaction(&stage.name, &[message.to_raw_json()], &[typing]).await;
    // By a carrier that is not banned.
    stage.receive(&[&message]).await;
    assert_eq!(stage.verdict(&message.event_id).await, Verdict::Unknown);
    assert_eq!(stage.log_head(), head);
    assert!(!stage.sync(&alice).await.to_string().contains("m.typing"));
    // Nor is the banned one a carrier.
    let fine = room.send_message(&stage.remote, &bob, "fine");
    other.send_transaction(&stage.name, &[fine.to_raw_json()], &[]).await;
    assert_eq!(stage.verdict(&fine.event_id).await, Verdict::Unknown);
    let event = stage.send(&alice, &room_id, "secret").await;
    let about_the_room = [
        format!("/_matrix/federation/v1/state_ids/{}?event_id={}", encode(&room_id), encode(&event)),
        format!("/_matrix/federation/v1/backfill/{}?v={}&limit=9", encode(&room_id), encode(&event)),
        format!("/_matrix/federation/v1/state/{}?event_id={}", encode(&room_id), encode(&event)),
        format!("/_matrix/federation/v1/event_auth/{}/{}", encode(&room_id), encode(&event)),
    ];
    for target in about_the_room {
        let response = other.ask(&stage.name, Method::GET, &target, None).await;
        assert_eq!((response.status().as_u16(), &*errcode(&response)), (403, "M_FORBIDDEN"), "{target}");
    }
    let targets = [
        format!("/_matrix/federation/v1/event/{}", encode(&event)),
        format!("/_matrix/federation/v1/make_leave/{}/{}", encode(&room_id), encode(&oscar)),
    ];
    for target in targets {
        let status = other.ask(&stage.name, Method::GET, &target, None).await.status().as_u16();
        assert!([403, 404].contains(&status), "{target}: {status}");
    }
}
