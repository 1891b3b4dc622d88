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
async fn the_second_bot_answers_the_human_too_and_not_the_first_bot() {
    let stage = Stage::new(|_| ()).await;
    with_bots(&stage, &[FRIENDLY, CASUAL]).await;
    stage.tell("1", &[message("$who", "who are you?")]).await;
    stage.until("both answers", |known| known.answers("$who").len() == 2).await;
    let known = stage.known.lock().unwrap();
    for (bot, name) in [(FRIENDLY, "I am Friendly Assistant"), (CASUAL, "I am Casual Friend")] {
        let said = known.timeline.iter().find(|event| event["sender"] == bot).unwrap();
        assert!(said["content"]["body"].as_str().unwrap().contains(name), "{said}");
    }
}

#[tokio::test]
async fn what_wants_a_model_is_not_pretended_without_one() {
    let stage = Stage::new(|_| ()).await;
    with_bots(&stage, &[CASUAL]).await;
    stage.tell("1", &[message("$summary", "!ai summary")]).await;
    stage.until("the answer", |known| known.answers("$summary") == [CASUAL]).await;
    let known = stage.known.lock().unwrap();
    let said = known.timeline.last().unwrap();
    assert!(said["content"]["body"].as_str().unwrap().contains("language model"), "{said}");
}

#[tokio::test]
async fn a_bot_that_two_people_invite_is_listed_as_no_person() {
    let stage = Stage::new(|_| ()).await;
    stage.empower(CASUAL);
    stage.join("@bob:test");
    with_bots(&stage, &[CASUAL, FRIENDLY]).await;
    stage.until("the list", |known| !known.set.is_empty()).await;
    stage.tell("last", &[message("$last", "hello")]).await;
    stage.until("both answers", |known| known.answers("$last").len() == 2).await;
    let known = stage.known.lock().unwrap();
    let listed = serde_json::json!({ "service_members": [CASUAL] });
    // The other one has no power to.
    assert_eq!(known.set, [("io.element.functional_members".to_owned(), listed)]);
}

#[tokio::test]
async fn the_limits_of_a_user_and_of_a_bot_hold_beside_that_of_the_room() {
    for (to_user, of_bot, expected) in [(Some(3), None, 3), (None, Some(1), 2)] {
        let stage = Stage::new(|configuration| {
            configuration.conversation.replies_per_minute_to_user = to_user;
            configuration.conversation.replies_per_minute_of_bot = of_bot;
        })
        .await;
        with_bots(&stage, &[FRIENDLY, CASUAL]).await;
        for (id, event_id) in [("1", "$1"), ("2", "$2")] {
            stage.tell(id, &[message(event_id, "hello")]).await;
            // Each bot answers, or says that there is no more for a minute.
            stage.until("both", |known| known.answers(event_id).len() == 2).await;
        }
        let known = stage.known.lock().unwrap();
        let answers = known.timeline.iter().filter(|event| event["sender"] != ALICE);
        // What is shown while it grows is one answer still.
        let answers = answers.filter(|event| event["content"]["m.relates_to"]["rel_type"] != "m.replace");
        let answers = answers.filter(|event| event["content"]["msgtype"] == "m.text").count();
        assert_eq!(answers, expected, "{:#?}", known.timeline);
    }
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
    let events = [message("$4", "hello"), message("$help", "!ai help"), invitation("$next", FRIENDLY)];
    stage.tell("last", &events).await;
    stage.until("what came before is decided", |known| known.is_joined(FRIENDLY)).await;
    let known = stage.known.lock().unwrap();
    let kind = |event_id: &str| {
        let is_it = |event: &&serde_json::Value| event["content"]["chat.nudge.ai"]["in_reply_to"] == event_id;
        known.timeline.iter().find(is_it).map(|event| event["content"]["msgtype"].clone())
    };
    assert!(known.answers("$help").is_empty(), "commands have the same limit");
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

#[tokio::test]
async fn nothing_is_said_in_the_clear_in_a_room_that_becomes_encrypted() {
    let stage = Stage::new(|_| ()).await;
    with_bots(&stage, &[CASUAL]).await;
    stage.tell("1", &[message("$1", "hello")]).await;
    stage.until("the answer", |known| known.answers("$1") == [CASUAL]).await;
    let encrypted = stage.encrypt();
    stage.tell("2", &[encrypted, message("$2", "hello?")]).await;
    stage.until("the message is read", |known| known.receipts.iter().any(|event_id| event_id == "$2")).await;
    stage.tell("3", &[message("$3", "hello??")]).await;
    stage.until("it is not tried for ever", |known| known.receipts.iter().any(|event_id| event_id == "$3")).await;
    stage.tell("4", &[message("$4", "!ai help"), invitation("$next", FRIENDLY)]).await;
    stage.until("what came before is decided", |known| known.is_joined(FRIENDLY)).await;
    let known = stage.known.lock().unwrap();
    assert!(known.answers("$2").is_empty() && known.answers("$4").is_empty(), "{:#?}", known.timeline);
}

#[tokio::test]
async fn what_a_proxy_refuses_says_nothing_of_the_room() {
    let only =
        |configuration: &mut aibots::Configuration| configuration.bots.retain(|bot| CASUAL.contains(&bot.localpart));
    let stage = Stage::new(only).await;
    with_bots(&stage, &[CASUAL]).await;
    stage.known.lock().unwrap().shut = 1;
    let mut topic = invitation("$topic", "");
    topic["type"] = "m.room.topic".into();
    stage.tell("1", &[topic, message("$1", "hello")]).await;
    stage.until("the answer", |known| known.answers("$1") == [CASUAL]).await;
    assert_eq!(stage.known.lock().unwrap().shut, 0);
}

#[tokio::test]
async fn strangers_get_neither_into_the_lobby_nor_an_answer() {
    let stage = Stage::new(|configuration| configuration.conversation.lobby = true).await;
    stage.until("the lobby", |known| !known.made.is_empty()).await;
    assert_eq!(stage.known.lock().unwrap().made[0]["creation_content"]["m.federate"], false);
    with_bots(&stage, &[CASUAL]).await;
    let mut stranger = message("$stranger", "!ai summary");
    stranger["sender"] = "@mallory:elsewhere".into();
    stage.tell("1", &[stranger]).await;
    stage.tell("2", &[message("$1", "hello")]).await;
    stage.until("the answer to a user", |known| !known.answers("$1").is_empty()).await;
    assert!(stage.known.lock().unwrap().answers("$stranger").is_empty());
}
