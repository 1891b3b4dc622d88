//! Receipts, the fully-read marker, typing, and the directory.

use engine::EngineError;
use ruma::{events::receipt::ReceiptType, owned_event_id};
use serde_json::{Value, json};

use crate::stage::{Stage, raw};

#[tokio::test]
async fn s_071_receipts_only_move_forward() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room_id = stage.room(&alice, "shared").await;
    let first = stage.send(&alice, &room_id, "first").await;
    let second = stage.send(&alice, &room_id, "second").await;
    let mark = async |event_id| {
        stage.engine.receipt(&alice, &room_id, ReceiptType::Read, event_id, None).await.unwrap();
        stage.engine.storage().head()
    };
    let head = mark(&second).await;
    assert_eq!(mark(&second).await, head);
    assert_eq!(mark(&first).await, head);
    let third = stage.send(&alice, &room_id, "third").await;
    let head = stage.engine.storage().head();
    assert!(mark(&third).await > head);
    let receipt = stage.engine.storage().receipt(&room_id, &alice.user_id, &ReceiptType::Read, None).await.unwrap();
    assert_eq!(receipt.unwrap().event_id, third);
}

#[tokio::test]
async fn s_071_many_at_once_end_at_the_last() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room_id = stage.room(&alice, "shared").await;
    let mut events = Vec::new();
    for number in 0..20 {
        events.push(stage.send(&alice, &room_id, &number.to_string()).await);
    }
    let last = events.last().unwrap().clone();
    let marks =
        events.iter().rev().map(|event_id| stage.engine.receipt(&alice, &room_id, ReceiptType::Read, event_id, None));
    for outcome in futures_util::future::join_all(marks).await {
        outcome.unwrap();
    }
    let receipt = stage.engine.storage().receipt(&room_id, &alice.user_id, &ReceiptType::Read, None).await.unwrap();
    assert_eq!(receipt.unwrap().event_id, last);
}

#[tokio::test]
async fn s_131_s_071_what_cannot_be_marked() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let (here, there) = (stage.room(&alice, "shared").await, stage.room(&alice, "shared").await);
    let elsewhere = stage.send(&alice, &there, "there").await;
    let event_id = stage.send(&alice, &here, "here").await;
    let head = stage.engine.storage().head();
    for unknown in [&elsewhere, &owned_event_id!("$unheard_of")] {
        let refused = stage.engine.receipt(&alice, &here, ReceiptType::Read, unknown, None).await.unwrap_err();
        assert!(matches!(refused, EngineError::NotFound(_)), "{refused:?}");
        let refused = stage.engine.read_markers(&alice, &here, Some(unknown.clone()), None, None).await.unwrap_err();
        assert!(matches!(refused, EngineError::NotFound(_)), "{refused:?}");
    }
    for junk in ["", "junk", "$unheard_of", elsewhere.as_str()] {
        let thread_id = Some(junk.to_owned());
        let refused = stage.engine.receipt(&alice, &here, ReceiptType::Read, &event_id, thread_id).await.unwrap_err();
        assert!(matches!(refused, EngineError::InvalidParam(_)), "{junk} {refused:?}");
    }
    let odd = ReceiptType::from("m.odd");
    assert!(stage.engine.receipt(&alice, &here, odd, &event_id, None).await.is_err());
    assert_eq!(stage.engine.storage().head(), head);
}

#[tokio::test]
async fn threads_have_receipts_of_their_own() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room_id = stage.room(&alice, "shared").await;
    let relate = async |content: Value| {
        let command = engine::SendCommand {
            room_id: room_id.clone(),
            event_type: "m.room.message".into(),
            content: raw(&content),
            transaction_id: None,
        };
        stage.engine.send(&alice, command).await.unwrap()
    };
    let root = stage.send(&alice, &room_id, "root").await;
    let threaded = relate(json!({"m.relates_to": {"rel_type": "m.thread", "event_id": root}})).await;
    let reaction = relate(json!({"m.relates_to": {"rel_type": "m.annotation", "event_id": threaded}})).await;
    let about_root = relate(json!({"m.relates_to": {"rel_type": "m.reference", "event_id": root}})).await;
    for (event_id, thread_id, allowed) in [
        (&root, "main", true),
        (&about_root, "main", true),
        (&about_root, root.as_str(), true),
        (&about_root, threaded.as_str(), false),
        (&root, root.as_str(), true),
        (&threaded, root.as_str(), true),
        (&threaded, "main", false),
        (&reaction, root.as_str(), true),
        (&reaction, "main", false),
    ] {
        let thread_id = Some(thread_id.to_owned());
        let outcome = stage.engine.receipt(&alice, &room_id, ReceiptType::Read, event_id, thread_id.clone()).await;
        assert_eq!(outcome.is_ok(), allowed, "{event_id} {thread_id:?} {outcome:?}");
    }
}

#[tokio::test]
async fn the_fully_read_marker_is_account_data() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room_id = stage.room(&alice, "shared").await;
    let first = stage.send(&alice, &room_id, "first").await;
    let second = stage.send(&alice, &room_id, "second").await;
    let (engine, later) = (&stage.engine, Some(second.clone()));
    engine.read_markers(&alice, &room_id, later.clone(), later.clone(), later).await.unwrap();
    engine.read_markers(&alice, &room_id, Some(first), None, None).await.unwrap();
    let marker = engine.account_data(&alice.user_id, Some(&room_id), "m.fully_read").await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(marker.get()).unwrap(), json!({"event_id": second}));
    let answer = stage.sync(&alice, None).await;
    let receipts = answer["rooms"]["join"][room_id.as_str()]["ephemeral"]["events"][0]["content"].to_string();
    assert!(receipts.contains("m.read.private") && receipts.contains("\"m.read\""), "{receipts}");
}

#[tokio::test]
async fn rooms_are_published_by_those_who_may() {
    let stage = Stage::new().await;
    let (alice, bob) = (stage.user("alice").await, stage.user("bob").await);
    let room_id = stage.room(&alice, "shared").await;
    stage.join(&bob, &room_id).await;
    assert!(!stage.engine.room_published(&room_id).await.unwrap());
    let refused = stage.engine.set_room_published(&bob, &room_id, true).await.unwrap_err();
    assert!(matches!(refused, EngineError::Forbidden(_)));
    stage.engine.set_room_published(&alice, &room_id, true).await.unwrap();
    assert!(stage.engine.room_published(&room_id).await.unwrap());
    let unknown = ruma::room_id!("!unknown:test");
    for error in [
        stage.engine.room_published(unknown).await.unwrap_err(),
        stage.engine.set_room_published(&alice, unknown, true).await.unwrap_err(),
    ] {
        assert!(matches!(error, EngineError::NotFound(_)), "{error:?}");
    }
}
