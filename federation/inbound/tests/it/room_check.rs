//! Comparing a room with how other servers have it, and setting it right.

use fake_homeserver::Room;
use ruma::OwnedEventId;
use serde_json::json;

use crate::stage::{Stage, Verdict};

/// A topic that the remote server has set and never told us of, and a message by which it could be found out.
async fn untold_topic(stage: &Stage, room: &Room) -> OwnedEventId {
    let rita = stage.remote.user("rita");
    let before = room.extremities();
    let topic = room.send_state(&stage.remote, &rita, "m.room.topic", "", json!({"topic": "untold"}));
    let content = json!({"msgtype": "m.text", "body": "shared"});
    let draft = room.draft_after(&stage.remote, &before, &room.state(), (&rita, "m.room.message", None, content));
    let shared = stage.remote.build(draft, &room.rules);
    room.keep(shared.clone(), room.state());
    stage.receive(&[&shared]).await;
    assert_eq!(stage.verdict(&shared.event_id).await, Verdict::Accepted);
    assert_eq!(stage.current(&room.id, "m.room.topic", "").await, None);
    topic.event_id.clone()
}

#[tokio::test]
async fn what_differs_is_found_and_set_right() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let agreeing = stage.engine.check_room(&room.id).await.unwrap();
    assert!(agreeing.servers.iter().all(|server| server.outcome.as_ref().unwrap().agrees()), "{agreeing:?}");
    assert_eq!(stage.engine.repair_room(&room.id, &agreeing).await.unwrap(), None);

    let topic = untold_topic(&stage, &room).await;
    let found = stage.engine.check_room(&room.id).await.unwrap();
    let said = found.servers[0].outcome.as_ref().unwrap();
    assert_eq!(found.servers.len(), 1);
    assert_eq!((said.differences.len(), said.unknown.len()), (1, 0), "{said:?}");
    assert_eq!(said.differences[0].event_type.to_string(), "m.room.topic");
    assert_eq!((&said.differences[0].ours, &said.differences[0].theirs), (&None, &Some(topic.clone())));
    assert_eq!(stage.verdict(&topic).await, Verdict::Unknown, "looking changes nothing");

    let repaired = stage.engine.repair_room(&room.id, &found).await.unwrap().expect("there was something to do");
    assert_eq!(stage.current(&room.id, "m.room.topic", "").await, Some(topic));
    stage.flush(stage.remote.name()).await;
    assert!(room.event(&repaired).is_some());
    let after = stage.engine.check_room(&room.id).await.unwrap();
    assert!(after.servers[0].outcome.as_ref().unwrap().agrees(), "{after:?}");
    assert!(stage.engine.storage().fsck().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_server_that_claims_what_is_not_allowed_changes_nothing() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let levels = stage.current(&room.id, "m.room.power_levels", "").await;
    // Power that nobody gave, and a state without most of what there is.
    let mallory = stage.remote.user("mallory");
    let content = json!({"users": {mallory.as_str(): 100}});
    let draft = room.draft(&stage.remote, &mallory, "m.room.power_levels", Some(""), content);
    let grab = stage.remote.build(draft, &room.rules);
    room.keep(grab.clone(), room.state());
    let shared = room.send_message(&stage.remote, &stage.remote.user("rita"), "shared");
    stage.receive(&[&shared]).await;
    let create = room.state_event("m.room.create", "").unwrap().event_id.clone();
    let claim = json!({"pdu_ids": [create, grab.event_id], "auth_chain_ids": []});
    stage.remote.on("/_matrix/federation/v1/state_ids", move |_| fake_homeserver::json(200, &claim));
    let found = stage.engine.check_room(&room.id).await.unwrap();
    assert!(!found.servers[0].outcome.as_ref().unwrap().agrees());
    stage.engine.repair_room(&room.id, &found).await.unwrap();
    assert_eq!(stage.current(&room.id, "m.room.power_levels", "").await, levels);
    assert_eq!(stage.membership(&room.id, &alice.user_id).await.as_deref(), Some("join"));
}

#[tokio::test]
async fn servers_that_cannot_be_asked_are_named() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    stage.network.cut(stage.remote.name());
    let found = stage.engine.check_room(&room.id).await.unwrap();
    assert!(found.servers[0].outcome.is_err(), "{found:?}");
    assert_eq!(stage.engine.repair_room(&room.id, &found).await.unwrap(), None);
    stage.engine.check_room(ruma::room_id!("!unheard:of")).await.unwrap_err();
}
