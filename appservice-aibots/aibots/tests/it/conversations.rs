//! Conversations with the offline buddies.

use axum::http::StatusCode;

use crate::double::{ALICE, ROOM, Stage, invitation, message};

const FRIENDLY: &str = "@friendly-assistant:test";
const CASUAL: &str = "@casual-friend:test";

async fn with_bots(stage: &Stage, bots: &[&str]) {
    stage.join(ALICE);
    for (index, bot) in bots.iter().enumerate() {
        let id = format!("invite-{index}");
        stage.tell(&id, &[invitation(&format!("${id}"), bot)]).await;
        stage.until("the bot joins", |known| known.is_joined(bot)).await;
    }
}

#[tokio::test]
async fn a_message_is_answered_once_however_often_it_is_told() {
    let mut stage = Stage::new(|_| ()).await;
    with_bots(&stage, &[CASUAL]).await;
    let hello = message("$hello", "hello");
    stage.tell("1", std::slice::from_ref(&hello)).await;
    stage.tell_again("1", std::slice::from_ref(&hello)).await;
    stage.until("the answer", |known| known.answers("$hello") == [CASUAL]).await;
    stage.tell_again("2", std::slice::from_ref(&hello)).await;
    stage.stop().await;
    stage.start().await;
    stage.tell_again("1", std::slice::from_ref(&hello)).await;
    stage.tell_again("3", &[hello]).await;
    stage.tell("4", &[message("$more", "and more")]).await;
    stage.until("the next answer", |known| known.answers("$more") == [CASUAL]).await;
    let known = stage.known.lock().unwrap();
    assert_eq!(known.answers("$hello"), [CASUAL]);
    assert!(known.receipts.iter().any(|event_id| event_id == "$hello"));
    assert!(known.typing.contains(&(CASUAL.to_owned(), true)));
}

#[tokio::test]
async fn what_is_said_before_a_bot_has_come_is_answered_too() {
    let stage = Stage::new(|_| ()).await;
    stage.join(ALICE);
    let hello = message("$hello", "hello");
    stage.known.lock().unwrap().timeline.push(hello.clone());
    stage.tell("1", &[invitation("$invite", CASUAL)]).await;
    stage.until("the answer", |known| known.answers("$hello") == [CASUAL]).await;
    stage.tell_again("2", &[hello]).await;
    stage.tell("3", &[message("$model", "!ai model huge")]).await;
    stage.until("the refusal", |known| known.answers("$model") == [CASUAL]).await;
    let known = stage.known.lock().unwrap();
    assert_eq!(known.answers("$hello"), [CASUAL]);
    let refusal = known.timeline.last().unwrap();
    assert!(refusal["content"]["body"].as_str().unwrap().contains("operator"), "{refusal}");
}

#[tokio::test]
async fn two_bots_answer_a_human_and_not_each_other() {
    let stage = Stage::new(|_| ()).await;
    with_bots(&stage, &[FRIENDLY, CASUAL]).await;
    let hello = message("$hello", "hello everybody");
    stage.tell("1", &[hello]).await;
    stage.until("both answers", |known| known.answers("$hello").len() == 2).await;
    let said = stage.known.lock().unwrap().timeline.clone();
    stage.tell_again("2", &said).await;
    stage.tell("3", &[message("$last", "thank you")]).await;
    stage.until("both answers", |known| known.answers("$last").len() == 2).await;
    let known = stage.known.lock().unwrap();
    assert_eq!(known.timeline.len(), 6, "{:#?}", known.timeline);
}

#[tokio::test]
async fn the_limit_of_a_room_holds_and_is_told_once() {
    let stage = Stage::new(|configuration| configuration.conversation.replies_per_minute = 2).await;
    with_bots(&stage, &[CASUAL]).await;
    for number in 0..3 {
        let id = format!("${number}");
        stage.tell(&id[1..], &[message(&id, "hello")]).await;
        stage.until("an answer or a notice", |known| known.answers(&id).len() == 1).await;
    }
    stage.tell("last", &[message("$4", "hello"), message("$help", "!ai help")]).await;
    stage.until("commands are obeyed all the same", |known| known.answers("$help").len() == 1).await;
    let known = stage.known.lock().unwrap();
    let kind = |event_id: &str| {
        let is_it = |event: &&serde_json::Value| event["content"]["chat.nudge.ai"]["in_reply_to"] == event_id;
        known.timeline.iter().find(is_it).map(|event| event["content"]["msgtype"].clone())
    };
    assert_eq!((kind("$1").unwrap(), kind("$2").unwrap()), ("m.text".into(), "m.notice".into()));
}

#[tokio::test]
async fn a_homeserver_that_wants_us_to_wait_gets_the_answer_later() {
    let stage = Stage::new(|_| ()).await;
    with_bots(&stage, &[CASUAL]).await;
    stage.known.lock().unwrap().busy = 2;
    stage.tell("1", &[message("$hello", "hello")]).await;
    stage.until("the answer", |known| known.answers("$hello") == [CASUAL]).await;
}

#[tokio::test]
async fn strangers_cannot_tell_bots_anything_and_bots_do_not_stay_alone() {
    let stage = Stage::new(|_| ()).await;
    with_bots(&stage, &[CASUAL]).await;
    assert_eq!(stage.put("x", "wrong", &[message("$x", "hello")]).await, StatusCode::FORBIDDEN);
    let left = serde_json::json!({ "type": "m.room.member", "state_key": ALICE, "sender": ALICE, "room_id": ROOM,
        "event_id": "$left", "origin_server_ts": 2, "content": { "membership": "leave" } });
    stage.leave(ALICE);
    stage.tell("1", &[left]).await;
    stage.until("the bot leaves", |known| !known.is_joined(CASUAL)).await;
    assert!(stage.known.lock().unwrap().timeline.is_empty());
}
