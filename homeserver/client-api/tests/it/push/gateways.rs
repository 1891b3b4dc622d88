//! Gateways that fail.

use std::time::Duration;

use push_gateway::Answer;
use serde_json::json;

use super::{GATEWAY, Stage, list, pusher, set};

const FAILURES: [Answer; 7] = [
    Answer::Status(500),
    Answer::Status(429),
    Answer::Status(404),
    Answer::Redirect,
    Answer::Slow,
    Answer::Huge,
    Answer::Gone,
];

#[tokio::test]
async fn s_095_after_every_failure_all_arrives_once() {
    for failure in FAILURES {
        let stage = Stage::new().await;
        set(&stage.server, &stage.bob, pusher("key", GATEWAY)).await.ok();
        set(&stage.server, &stage.bob, pusher("other", "good.test")).await.ok();
        stage.gateways.answer(GATEWAY, failure.clone());
        let sent = [stage.say("one").await, stage.say("two").await, stage.say("three").await];
        let told = stage.told().await;
        assert!(told.len() == 3 && told.iter().all(|told| told.host == "good.test"), "{failure:?}: others get on");
        stage.gateways.take_calls();
        assert!(stage.told().await.is_empty() && stage.gateways.take_calls().is_empty(), "{failure:?}: too early");
        stage.gateways.answer(GATEWAY, Answer::Delivered);
        stage.server.clock.advance(Duration::from_secs(10));
        let told = stage.told().await;
        assert_eq!(told.iter().map(|told| told.event_id().unwrap()).collect::<Vec<_>>(), sent, "{failure:?}");
        assert!(stage.told().await.is_empty());
    }
}

#[tokio::test]
async fn after_an_hour_everything_due_arrives_once() {
    let stage = Stage::new().await;
    let desk = stage.server.log_in(&stage.bob.user_id).await;
    set(&stage.server, &stage.bob, pusher("key", GATEWAY)).await.ok();
    stage.gateways.answer(GATEWAY, Answer::Gone);
    let read = stage.say("read elsewhere meanwhile").await;
    let mut due = Vec::new();
    for minute in 0..60 {
        if minute == 1 {
            stage.read(&desk, &read).await;
        }
        if minute % 6 == 0 && minute > 0 {
            due.push(stage.say(&format!("minute {minute}")).await);
        }
        stage.server.clock.advance(Duration::from_mins(1));
        assert!(stage.told().await.is_empty());
    }
    let calls = stage.gateways.take_calls().len();
    assert!((5..=15).contains(&calls), "the pauses grow up to ten minutes: {calls}");
    stage.gateways.answer(GATEWAY, Answer::Delivered);
    stage.server.clock.advance(Duration::from_mins(15));
    let told = stage.told().await;
    assert_eq!(told.iter().map(|told| told.event_id().unwrap()).collect::<Vec<_>>(), due);
    stage.server.clock.advance(Duration::from_hours(1));
    assert!(stage.told().await.is_empty());
}

#[tokio::test]
async fn what_is_a_day_old_is_not_told_any_more() {
    let stage = Stage::new().await;
    set(&stage.server, &stage.bob, pusher("key", GATEWAY)).await.ok();
    stage.gateways.answer(GATEWAY, Answer::Gone);
    stage.say("old news").await;
    assert!(stage.told().await.is_empty());
    stage.server.clock.advance(Duration::from_hours(24));
    let fresh = stage.say("fresh").await;
    stage.gateways.answer(GATEWAY, Answer::Delivered);
    let told = stage.told().await;
    assert_eq!((told.len(), told[0].event_id(), told[0].unread()), (1, Some(&*fresh), Some(2)), "it still counts");
}

#[tokio::test]
async fn what_a_gateway_refuses_for_good_does_not_hold_up_the_rest() {
    let stage = Stage::new().await;
    set(&stage.server, &stage.bob, pusher("key", GATEWAY)).await.ok();
    stage.gateways.answer(GATEWAY, Answer::Status(400));
    stage.say("unwanted").await;
    for _ in 0..4 {
        assert!(stage.told().await.is_empty());
        stage.server.clock.advance(Duration::from_mins(15));
    }
    stage.told().await;
    assert_eq!(stage.gateways.take_calls().len(), 5);
    stage.gateways.answer(GATEWAY, Answer::Delivered);
    let next = stage.say("wanted").await;
    let told = stage.told().await;
    assert_eq!(told.iter().map(|told| told.event_id()).collect::<Vec<_>>(), [Some(&*next)]);
}

#[tokio::test]
async fn s_095_a_rejected_pushkey_is_gone_at_once_and_others_stay() {
    let stage = Stage::new().await;
    set(&stage.server, &stage.bob, pusher("key", GATEWAY)).await.ok();
    set(&stage.server, &stage.bob, pusher("other", GATEWAY)).await.ok();
    stage.gateways.answer(GATEWAY, Answer::Rejected(vec!["key".to_owned(), "somebody else's".to_owned()]));
    stage.say("one").await;
    assert_eq!(stage.told().await.len(), 2);
    let left = list(&stage.server, &stage.bob).await;
    assert_eq!((left.as_array().unwrap().len(), &left[0]["pushkey"]), (1, &json!("other")));
    stage.gateways.answer(GATEWAY, Answer::Garbage);
    stage.say("two").await;
    let told = stage.told().await;
    assert_eq!(told.iter().map(push_gateway::Told::pushkey).collect::<Vec<_>>(), ["other"], "and 200 is 200");
    assert!(stage.told().await.is_empty());
}

#[tokio::test]
async fn a_dead_gateway_costs_one_attempt_however_many_use_it() {
    let stage = Stage::new().await;
    for number in 0..20 {
        set(&stage.server, &stage.bob, pusher(&number.to_string(), GATEWAY)).await.ok();
    }
    stage.gateways.answer(GATEWAY, Answer::Gone);
    stage.say("hello").await;
    assert!(stage.told().await.is_empty());
    assert_eq!(stage.gateways.take_calls().len(), 1);
    stage.gateways.answer(GATEWAY, Answer::Delivered);
    stage.server.clock.advance(Duration::from_secs(10));
    assert_eq!(stage.told().await.len(), 20);
}

#[tokio::test]
async fn who_sets_a_pusher_again_is_told_at_once() {
    let stage = Stage::new().await;
    set(&stage.server, &stage.bob, pusher("key", GATEWAY)).await.ok();
    stage.gateways.answer(GATEWAY, Answer::Gone);
    let event_id = stage.say("hello").await;
    assert!(stage.told().await.is_empty());
    set(&stage.server, &stage.bob, pusher("key", "moved.test")).await.ok();
    let told = stage.told().await;
    assert_eq!((told[0].host.as_str(), told[0].event_id()), ("moved.test", Some(&*event_id)));
}
