//! Who waits is woken by what concerns them, and by nothing else.

use std::time::{Duration, Instant};

use ruma::events::receipt::ReceiptType;
use serde_json::{Value, json};

use crate::stage::{PATIENCE, Stage, ids, nothing, query, raw, sync, token};

/// Starts a sync that waits, and gives it the time to do so.
async fn wait(stage: &Stage, user: &engine::Requester, since: &str) -> tokio::task::JoinHandle<Value> {
    let (engine, user) = (stage.engine.clone(), user.clone());
    let mut asked = query(Some(since), &json!({}));
    asked.timeout_ms = 60_000;
    let waiting = tokio::spawn(async move { sync(&engine, &user, asked).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!waiting.is_finished());
    waiting
}

async fn woken(waiting: tokio::task::JoinHandle<Value>) -> Value {
    tokio::time::timeout(PATIENCE, waiting).await.expect("the sync is woken").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_16_messages_wake() {
    let stage = Stage::new().await;
    let (alice, bob) = (stage.user("alice").await, stage.user("bob").await);
    let room_id = stage.room(&alice, "shared").await;
    stage.join(&bob, &room_id).await;
    let since = token(&stage.sync(&bob, None).await);
    let waiting = wait(&stage, &bob, &since).await;
    let start = Instant::now();
    let event_id = stage.send(&alice, &room_id, "hello").await;
    let answer = woken(waiting).await;
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert_eq!(ids(&answer["rooms"]["join"][room_id.as_str()]["timeline"]["events"]), [event_id.as_str()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_concerns_a_user_wakes() {
    let stage = Stage::new().await;
    let (alice, bob) = (stage.user("alice").await, stage.user("bob").await);
    let room_id = stage.room(&alice, "shared").await;
    let mut since = token(&stage.sync(&bob, None).await);
    let at = |answer: &Value, section: &str| answer["rooms"][section][room_id.as_str()].clone();

    let waiting = wait(&stage, &bob, &since).await;
    stage.engine.invite(&alice, &room_id, &bob.user_id, None).await.unwrap();
    let answer = woken(waiting).await;
    assert!(at(&answer, "invite").is_object(), "{answer}");

    since = token(&answer);
    let waiting = wait(&stage, &bob, &since).await;
    stage.join(&bob, &room_id).await;
    let answer = woken(waiting).await;
    assert!(at(&answer, "join").is_object(), "{answer}");

    since = token(&stage.sync(&bob, Some(&token(&answer))).await);
    let waiting = wait(&stage, &bob, &since).await;
    stage.engine.typing(&alice, &room_id, Some(10_000)).await.unwrap();
    let answer = woken(waiting).await;
    assert_eq!(at(&answer, "join")["ephemeral"]["events"][0]["content"]["user_ids"], json!([alice.user_id]));

    let waiting = wait(&stage, &bob, &token(&answer)).await;
    let event_id = stage.send(&alice, &room_id, "read this").await;
    since = token(&woken(waiting).await);
    let waiting = wait(&stage, &bob, &since).await;
    stage.engine.receipt(&alice, &room_id, ReceiptType::Read, &event_id, None).await.unwrap();
    let answer = woken(waiting).await;
    assert!(at(&answer, "join")["ephemeral"]["events"][0]["content"][event_id.as_str()].is_object(), "{answer}");

    let waiting = wait(&stage, &bob, &token(&answer)).await;
    stage.engine.set_account_data(&bob, None, "a.type", raw(&json!({"a": 1}))).await.unwrap();
    let answer = woken(waiting).await;
    assert_eq!(answer["account_data"]["events"][0], json!({"type": "a.type", "content": {"a": 1}}));

    let waiting = wait(&stage, &bob, &token(&answer)).await;
    stage.engine.kick(&alice, &room_id, &bob.user_id, None).await.unwrap();
    let answer = woken(waiting).await;
    assert!(at(&answer, "leave").is_object(), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_concerns_others_does_not_end_the_wait() {
    let stage = Stage::new().await;
    let (alice, bob) = (stage.user("alice").await, stage.user("bob").await);
    let room_id = stage.room(&alice, "shared").await;
    let shared = stage.room(&alice, "shared").await;
    stage.join(&bob, &shared).await;
    let event_id = stage.send(&alice, &shared, "read this").await;
    let since = token(&stage.sync(&bob, None).await);
    let waiting = wait(&stage, &bob, &since).await;
    stage.send(&alice, &room_id, "not for bob").await;
    stage.engine.set_account_data(&alice, Some(&shared), "a.type", raw(&json!({}))).await.unwrap();
    stage.engine.receipt(&alice, &shared, ReceiptType::ReadPrivate, &event_id, None).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    stage.engine.stop();
    let answer = woken(waiting).await;
    assert_eq!(answer, nothing(&answer));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_ends() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let since = token(&stage.sync(&alice, None).await);
    let mut asked = query(Some(&since), &json!({}));
    asked.timeout_ms = 200;
    let start = Instant::now();
    let answer = sync(&stage.engine, &alice, asked.clone()).await;
    assert_eq!(answer, nothing(&answer));
    assert!(start.elapsed() >= Duration::from_millis(200));
    // Once the server stops, nobody waits at all.
    stage.engine.stop();
    asked.timeout_ms = 60_000;
    let start = Instant::now();
    sync(&stage.engine, &alice, asked).await;
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ones_own_doings_are_in_the_next_answer() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room_id = stage.room(&alice, "shared").await;
    let mut since = token(&stage.sync(&alice, None).await);
    for number in 0..50 {
        let event_id = stage.send(&alice, &room_id, &number.to_string()).await;
        let answer = stage.sync(&alice, Some(&since)).await;
        assert_eq!(ids(&answer["rooms"]["join"][room_id.as_str()]["timeline"]["events"]), [event_id.as_str()]);
        since = token(&answer);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_141_tokens_of_nowhere() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room_id = stage.room(&alice, "shared").await;
    // From a time that was lost with the database: the client starts anew.
    let answer = stage.sync(&alice, Some("s999999_5")).await;
    assert_eq!(answer["rooms"]["join"][room_id.as_str()]["summary"]["m.joined_member_count"], json!(1));
    for junk in ["", "s", "s1", "junk", "s-1_0", "t5"] {
        let refused = stage.engine.sync(&alice, &query(Some(junk), &json!({}))).await;
        assert!(matches!(refused, Err(engine::EngineError::InvalidParam(_))), "{junk}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typing_runs_out_and_that_wakes() {
    let stage = Stage::new().await;
    let (alice, bob) = (stage.user("alice").await, stage.user("bob").await);
    let room_id = stage.room(&alice, "shared").await;
    stage.join(&bob, &room_id).await;
    stage.engine.typing(&alice, &room_id, Some(1_500)).await.unwrap();
    let since = token(&stage.sync(&bob, None).await);
    let waiting = wait(&stage, &bob, &since).await;
    stage.clock.advance(Duration::from_secs(2));
    let answer = woken(waiting).await;
    let events = &answer["rooms"]["join"][room_id.as_str()]["ephemeral"]["events"];
    assert_eq!(*events, json!([{"type": "m.typing", "content": {"user_ids": []}}]));
}
