//! Which rooms are told of in which section, and what of them.

use engine::Requester;
use ruma::{OwnedRoomId, RoomId, events::receipt::ReceiptType};
use serde_json::{Value, json};

use crate::stage::{Stage, fields, ids, initial_state, nothing, query, raw, sync, token};

fn at<'a>(answer: &'a Value, section: &str, room_id: &RoomId) -> &'a Value {
    &answer["rooms"][section][room_id.as_str()]
}

fn sections(answer: &Value) -> Vec<String> {
    answer["rooms"].as_object().map(|rooms| rooms.keys().cloned().collect()).unwrap_or_default()
}

async fn two_users() -> (Stage, Requester, Requester) {
    let stage = Stage::new().await;
    let (alice, bob) = (stage.user("alice").await, stage.user("bob").await);
    (stage, alice, bob)
}

async fn shared_room() -> (Stage, Requester, Requester, OwnedRoomId) {
    let (stage, alice, bob) = two_users().await;
    let room_id = stage.room(&alice, "shared").await;
    stage.join(&bob, &room_id).await;
    (stage, alice, bob, room_id)
}

#[tokio::test]
async fn who_starts_anew_is_told_the_state_and_the_latest_events() {
    let (stage, alice, bob, room_id) = shared_room().await;
    for number in 0..15 {
        stage.send(&alice, &room_id, &number.to_string()).await;
    }
    let answer = stage.sync(&bob, None).await;
    let room = at(&answer, "join", &room_id);
    let timeline = stage.timeline(&room_id).await;
    assert_eq!(ids(&room["timeline"]["events"]), timeline[timeline.len() - 10..]);
    assert_eq!(room["timeline"]["limited"], json!(true));
    let shown = fields(&room["state"]["events"], "type");
    for event_type in ["m.room.create", "m.room.power_levels", "m.room.join_rules", "m.room.member"] {
        assert!(shown.iter().any(|found| found == event_type), "{event_type}: {shown:?}");
    }
    let summary = json!({"m.heroes": [alice.user_id], "m.joined_member_count": 2, "m.invited_member_count": 0});
    assert_eq!(room["summary"], summary);
    // Without news there is nothing.
    let answer = stage.sync(&bob, Some(&token(&answer))).await;
    assert_eq!(answer, nothing(&answer));
}

#[tokio::test]
async fn changes_of_the_state_are_told_once() {
    let (stage, alice, bob, room_id) = shared_room().await;
    let since = token(&stage.sync(&bob, None).await);
    let name = stage.set_state(&alice, &room_id, "m.room.name", &json!({"name": "one"})).await;
    let topic = stage.set_state(&alice, &room_id, "m.room.topic", &json!({"topic": "two"})).await;
    stage.send(&alice, &room_id, "three").await;
    let two = json!({"room": {"timeline": {"limit": 2}}});
    let answer = stage.sync_with(&bob, Some(&since), &two).await;
    let room = at(&answer, "join", &room_id);
    // The name is before the timeline, the topic within.
    assert_eq!(ids(&room["state"]["events"]), [name.as_str()]);
    assert_eq!(ids(&room["timeline"]["events"])[0], topic.as_str());
    assert_eq!(room["summary"]["m.joined_member_count"], json!(2));
    // At the end of the timeline both are.
    let mut asked = query(Some(&since), &two);
    asked.use_state_after = true;
    let answer = sync(&stage.engine, &bob, asked).await;
    let room = at(&answer, "join", &room_id);
    let mut after = ids(&room["state_after"]["events"]);
    after.sort_unstable();
    let mut expected = [name.to_string(), topic.to_string()];
    expected.sort_unstable();
    assert_eq!(after, expected);
    assert!(room["state"].is_null());
    // What the timeline's filter drops is in the state.
    let messages = json!({"room": {"timeline": {"types": ["m.room.message"]}}});
    let answer = stage.sync_with(&bob, Some(&since), &messages).await;
    assert_eq!(at(&answer, "join", &room_id)["state"]["events"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn full_state_is_told_again_when_asked_for() {
    let (stage, alice, bob, room_id) = shared_room().await;
    let since = token(&stage.sync(&bob, None).await);
    let event_id = stage.send(&alice, &room_id, "news").await;
    let mut asked = query(Some(&since), &json!({}));
    asked.full_state = true;
    asked.timeout_ms = 60_000;
    let answer = sync(&stage.engine, &bob, asked.clone()).await;
    let room = at(&answer, "join", &room_id);
    assert_eq!(ids(&room["timeline"]["events"]), [event_id.as_str()]);
    assert!(room["state"]["events"].as_array().unwrap().len() >= 6);
    // Even where nothing happened, and at once.
    asked.since = Some(token(&answer));
    let answer = sync(&stage.engine, &bob, asked).await;
    assert!(at(&answer, "join", &room_id)["state"]["events"].as_array().unwrap().len() >= 6);
}

#[tokio::test]
async fn newly_joined_rooms_come_with_everything() {
    let (stage, alice, bob) = two_users().await;
    let room_id = stage.room(&alice, "shared").await;
    stage.send(&alice, &room_id, "before").await;
    stage.engine.typing(&alice, &room_id, Some(30_000)).await.unwrap();
    let read = stage.send(&alice, &room_id, "read").await;
    stage.engine.receipt(&alice, &room_id, ReceiptType::Read, &read, None).await.unwrap();
    let since = token(&stage.sync(&bob, None).await);
    stage.join(&bob, &room_id).await;
    let answer = stage.sync(&bob, Some(&since)).await;
    let room = at(&answer, "join", &room_id);
    assert_eq!(ids(&room["timeline"]["events"]), stage.timeline(&room_id).await[..].to_vec());
    assert_eq!(fields(&room["ephemeral"]["events"], "type"), ["m.receipt", "m.typing"]);
    assert_eq!(room["summary"]["m.joined_member_count"], json!(2));
    let answer = stage.sync(&bob, Some(&token(&answer))).await;
    assert_eq!(sections(&answer), [""; 0]);
}

#[tokio::test]
async fn coming_back_tells_what_was_missed_and_nothing_twice() {
    let (stage, alice, bob, room_id) = shared_room().await;
    stage.leave(&bob, &room_id).await;
    let since = token(&stage.sync(&bob, None).await);
    stage.engine.set_account_data(&bob, Some(&room_id), "a.type", raw(&json!({"a": 1}))).await.unwrap();
    let since = token(&stage.sync(&bob, Some(&since)).await);
    let known = stage.timeline(&room_id).await.len();
    stage.send(&alice, &room_id, "missed").await;
    stage.join(&bob, &room_id).await;
    let answer = stage.sync(&bob, Some(&since)).await;
    let room = at(&answer, "join", &room_id);
    assert_eq!(ids(&room["timeline"]["events"]), stage.timeline(&room_id).await[known..].to_vec());
    assert!(fields(&room["state"]["events"], "type").iter().any(|found| found == "m.room.create"));
    assert_eq!(fields(&room["account_data"]["events"], "type"), ["a.type"]);
}

#[tokio::test]
async fn rooms_are_told_to_be_left_once_and_with_nothing_of_what_came_after() {
    let (stage, alice, bob) = two_users().await;
    for history_visibility in ["joined", "shared", "world_readable"] {
        let room_id = stage.room(&alice, history_visibility).await;
        stage.join(&bob, &room_id).await;
        told_of_leaving(&stage, &alice, &bob, &room_id).await;
        stage.engine.forget(&bob, &room_id).await.unwrap();
    }
}

async fn told_of_leaving(stage: &Stage, alice: &Requester, bob: &Requester, room_id: &RoomId) {
    let since = token(&stage.sync(bob, None).await);
    let before = stage.send(alice, room_id, "before").await;
    stage.engine.ban(alice, room_id, &bob.user_id, None).await.unwrap();
    stage.send(alice, room_id, "after").await;
    stage.set_state(alice, room_id, "m.room.topic", &json!({"topic": "after"})).await;
    let answer = stage.sync(bob, Some(&since)).await;
    assert_eq!(sections(&answer), ["leave"]);
    let room = at(&answer, "leave", room_id);
    let events = &room["timeline"]["events"];
    assert_eq!(events[0]["event_id"], json!(before));
    assert_eq!(events[1]["content"]["membership"], json!("ban"));
    assert_eq!(events.as_array().unwrap().len(), 2);
    assert!(!answer.to_string().contains("after"), "{answer}");
    let answer = stage.sync(bob, Some(&token(&answer))).await;
    assert_eq!(sections(&answer), [""; 0]);
    // Who starts anew hears of it only when asking for it.
    assert_eq!(sections(&stage.sync(bob, None).await), [""; 0]);
    let answer = stage.sync_with(bob, None, &json!({"room": {"include_leave": true}})).await;
    let room = at(&answer, "leave", room_id);
    assert!(room["timeline"]["events"].as_array().unwrap().len() > 2);
    assert!(!answer.to_string().contains("after"), "{answer}");
}

#[tokio::test]
async fn forgotten_rooms_are_not_told_of() {
    let (stage, _, bob, room_id) = shared_room().await;
    let since = token(&stage.sync(&bob, None).await);
    stage.leave(&bob, &room_id).await;
    stage.engine.forget(&bob, &room_id).await.unwrap();
    let include = json!({"room": {"include_leave": true}});
    assert_eq!(sections(&stage.sync_with(&bob, None, &include).await), [""; 0]);
    // But for the leaving itself, which the user's other devices would never hear of otherwise.
    let answer = stage.sync_with(&bob, Some(&since), &include).await;
    assert_eq!(sections(&answer), ["leave"]);
    assert_eq!(sections(&stage.sync_with(&bob, Some(&token(&answer)), &include).await), [""; 0]);
}

#[tokio::test]
async fn invitations_come_and_go() {
    let (stage, alice, bob) = two_users().await;
    let since = token(&stage.sync(&bob, None).await);
    let room_id = stage
        .room_with(&alice, |command| {
            command.invite = vec![bob.user_id.clone()];
            command.name = Some("Tea".to_owned());
            command.initial_state =
                vec![initial_state("m.room.history_visibility", &json!({"history_visibility": "joined"}))];
        })
        .await;
    for since in [None, Some(&*since)] {
        let answer = stage.sync(&bob, since).await;
        assert_eq!(sections(&answer), ["invite"]);
        let events = &at(&answer, "invite", &room_id)["invite_state"]["events"];
        let of_type = |event_type| {
            let events = events.as_array().unwrap().iter().filter(move |event| event["type"] == json!(event_type));
            events.cloned().collect::<Vec<Value>>()
        };
        assert_eq!(of_type("m.room.name")[0]["content"], json!({"name": "Tea"}));
        let mine: Vec<Value> =
            of_type("m.room.member").into_iter().filter(|event| event["state_key"] == json!(bob.user_id)).collect();
        assert_eq!(mine.len(), 1);
        assert_eq!(mine[0]["content"]["membership"], json!("invite"));
    }
    let since = token(&stage.sync(&bob, None).await);
    stage.leave(&bob, &room_id).await;
    stage.set_state(&alice, &room_id, "m.room.topic", &json!({"topic": "secret"})).await;
    let answer = stage.sync(&bob, Some(&since)).await;
    assert_eq!(sections(&answer), ["leave"]);
    let room = at(&answer, "leave", &room_id);
    assert_eq!(room["timeline"]["events"].as_array().unwrap().len(), 1);
    assert_eq!(room["timeline"]["events"][0]["content"]["membership"], json!("leave"));
    assert!(room["state"]["events"].is_null() && !answer.to_string().contains("secret"), "{answer}");
}

#[tokio::test]
async fn who_left_and_was_invited_again_is_told_of_both() {
    let (stage, alice, bob, room_id) = shared_room().await;
    let since = token(&stage.sync(&bob, None).await);
    let before = stage.send(&alice, &room_id, "before").await;
    stage.leave(&bob, &room_id).await;
    stage.send(&alice, &room_id, "after").await;
    stage.engine.invite(&alice, &room_id, &bob.user_id, None).await.unwrap();
    let answer = stage.sync(&bob, Some(&since)).await;
    assert_eq!(sections(&answer), ["invite", "leave"]);
    let events = &at(&answer, "leave", &room_id)["timeline"]["events"];
    assert_eq!(events[0]["event_id"], json!(before));
    assert_eq!(events.as_array().unwrap().len(), 2);
    // Whoever starts anew is told of the invitation.
    let anew = stage.sync_with(&bob, None, &json!({"room": {"include_leave": true}})).await;
    assert_eq!(sections(&anew), ["invite"]);
    let answer = stage.sync(&bob, Some(&token(&answer))).await;
    assert_eq!(sections(&answer), [""; 0]);
}

#[tokio::test]
async fn much_at_once_is_told_as_little_is() {
    let (stage, alice, bob, room_id) = shared_room().await;
    let quiet = stage.room(&alice, "shared").await;
    stage.join(&bob, &quiet).await;
    let since = token(&stage.sync(&bob, None).await);
    for number in 0..400 {
        stage.send(&alice, &room_id, &number.to_string()).await;
    }
    let last = stage.send(&alice, &quiet, "last").await;
    let answer = stage.sync(&bob, Some(&since)).await;
    assert_eq!(ids(&at(&answer, "join", &quiet)["timeline"]["events"]), [last.as_str()]);
    assert_eq!(at(&answer, "join", &room_id)["timeline"]["limited"], json!(true));
}

#[tokio::test]
async fn the_ignored_are_not_heard() {
    let (stage, alice, bob, room_id) = shared_room().await;
    let list = raw(&json!({"ignored_users": {alice.user_id.as_str(): {}, "junk": 1, bob.user_id.as_str(): {}}}));
    stage.engine.set_account_data(&bob, None, "m.ignored_user_list", list).await.unwrap();
    let since = token(&stage.sync(&bob, None).await);
    stage.send(&alice, &room_id, "not heard").await;
    let topic = stage.set_state(&alice, &room_id, "m.room.topic", &json!({"topic": "heard"})).await;
    let own = stage.send(&bob, &room_id, "own").await;
    stage.room_with(&alice, |command| command.invite = vec![bob.user_id.clone()]).await;
    let answer = stage.sync(&bob, Some(&since)).await;
    assert_eq!(sections(&answer), ["join"]);
    let timeline = &at(&answer, "join", &room_id)["timeline"]["events"];
    assert_eq!(ids(timeline), [topic.as_str(), own.as_str()]);
}

#[tokio::test]
async fn account_data_is_told_to_its_owner() {
    let (stage, alice, bob, room_id) = shared_room().await;
    let since = token(&stage.sync(&bob, None).await);
    for (user, room) in [(&bob, None), (&bob, Some(&*room_id)), (&alice, None), (&alice, Some(&*room_id))] {
        let content = raw(&json!({"of": user.user_id}));
        stage.engine.set_account_data(user, room, "a.type", content).await.unwrap();
    }
    let answer = stage.sync(&bob, Some(&since)).await;
    let expected = json!([{"type": "a.type", "content": {"of": bob.user_id}}]);
    assert_eq!(answer["account_data"]["events"], expected);
    let unread = json!({"highlight_count": 0, "notification_count": 0});
    let expected = json!({"account_data": {"events": expected}, "unread_notifications": unread});
    assert_eq!(*at(&answer, "join", &room_id), expected);
}

#[tokio::test]
async fn private_receipts_are_told_to_their_owner() {
    let (stage, alice, bob, room_id) = shared_room().await;
    let event_id = stage.send(&alice, &room_id, "read this").await;
    let of_alice = token(&stage.sync(&alice, None).await);
    let of_bob = token(&stage.sync(&bob, None).await);
    stage.engine.receipt(&bob, &room_id, ReceiptType::ReadPrivate, &event_id, None).await.unwrap();
    assert_eq!(sections(&stage.sync(&alice, Some(&of_alice)).await), [""; 0]);
    let answer = stage.sync(&bob, Some(&of_bob)).await;
    let content = &at(&answer, "join", &room_id)["ephemeral"]["events"][0]["content"];
    assert!(content[event_id.as_str()]["m.read.private"][bob.user_id.as_str()]["ts"].is_u64(), "{answer}");
}
