//! Push rules, notifications and unread counts, as a client sees them.

mod everyone;

use engine::{NotificationsQuery, Requester, SendCommand};
use ruma::{
    OwnedEventId, RoomId,
    events::{TimelineEventType, receipt::ReceiptType},
    push::{NewPatternedPushRule, NewPushRule, NewSimplePushRule, RuleKind},
};
use serde_json::{Value, json};

use crate::stage::{Stage, raw, token};

async fn send(stage: &Stage, user: &Requester, room_id: &RoomId, content: Value) -> OwnedEventId {
    let command = SendCommand {
        room_id: room_id.to_owned(),
        event_type: TimelineEventType::RoomMessage,
        content: raw(&content),
        transaction_id: None,
    };
    stage.engine.send(user, command).await.unwrap()
}

fn in_thread(root: &OwnedEventId, body: &str) -> Value {
    json!({"msgtype": "m.text", "body": body, "m.relates_to": {"rel_type": "m.thread", "event_id": root}})
}

/// All, highlights, and the same for each thread.
async fn unread(stage: &Stage, user: &Requester, room_id: &RoomId) -> (u64, u64, Vec<(u64, u64)>) {
    let unread = stage.engine.unread(&user.user_id, room_id).await.unwrap();
    let threads = unread.threads.values().map(|counts| (counts.notifications, counts.highlights));
    (unread.main.notifications, unread.main.highlights, threads.collect())
}

#[tokio::test]
async fn counts_by_thread_as_receipts_move() {
    let stage = Stage::new().await;
    let (alice, bob) = (stage.user("alice").await, stage.user("bob").await);
    let room_id = stage.room(&alice, "shared").await;
    stage.join(&bob, &room_id).await;
    let start = token(&stage.sync(&bob, None).await);
    let root = send(&stage, &alice, &room_id, json!({"msgtype": "m.text", "body": "Hello world!"})).await;
    let in_the_thread = send(&stage, &alice, &room_id, in_thread(&root, "one")).await;
    send(&stage, &alice, &room_id, in_thread(&root, "to @bob:test")).await;
    let to_bob = send(&stage, &alice, &room_id, json!({"msgtype": "m.text", "body": "Hello @bob:test!"})).await;
    send(&stage, &alice, &room_id, in_thread(&root, "the end")).await;
    let reference = json!({"msgtype": "m.text", "body": "Reference!", "m.relates_to": {"rel_type": "m.reference", "event_id": root}});
    send(&stage, &alice, &room_id, reference).await;

    let threads = json!({"room": {"timeline": {"unread_thread_notifications": true}}});
    let shown = async |filter: &Value| {
        let sync = stage.sync_with(&bob, Some(&start), filter).await;
        let told = &sync["rooms"]["join"][room_id.as_str()];
        (told["unread_notifications"].clone(), told["unread_thread_notifications"].clone())
    };
    let count = |all: u64, loud: u64| json!({"notification_count": all, "highlight_count": loud});
    let mark = async |event_id: &OwnedEventId, thread: Option<&str>| {
        let thread = thread.map(ToOwned::to_owned);
        stage.engine.receipt(&bob, &room_id, ReceiptType::ReadPrivate, event_id, thread).await.unwrap();
    };
    assert_eq!(shown(&json!({})).await, (count(6, 2), Value::Null));
    assert_eq!(shown(&threads).await, (count(3, 1), json!({root.as_str(): count(3, 1)})));
    mark(&root, Some("main")).await;
    assert_eq!(shown(&threads).await, (count(2, 1), json!({root.as_str(): count(3, 1)})));
    mark(&in_the_thread, Some(root.as_str())).await;
    assert_eq!(shown(&json!({})).await, (count(4, 2), Value::Null));
    mark(&to_bob, None).await;
    assert_eq!(shown(&json!({})).await, (count(2, 0), Value::Null));
    assert_eq!(shown(&threads).await, (count(1, 0), json!({root.as_str(): count(1, 0)})));
    // Who answers in the thread has read it, but not the rest.
    send(&stage, &bob, &room_id, in_thread(&root, "thanks")).await;
    assert_eq!(shown(&threads).await, (count(1, 0), Value::Null));
    send(&stage, &bob, &room_id, json!({"msgtype": "m.text", "body": "thanks"})).await;
    assert_eq!(unread(&stage, &bob, &room_id).await, (0, 0, vec![]));
}

#[tokio::test]
async fn a_receipt_alone_changes_the_counts_that_sync_tells() {
    let stage = Stage::new().await;
    let (alice, bob) = (stage.user("alice").await, stage.user("bob").await);
    let room_id = stage.room(&alice, "shared").await;
    stage.join(&bob, &room_id).await;
    let event_id = stage.send(&alice, &room_id, "hello").await;
    let since = token(&stage.sync(&bob, None).await);
    stage.engine.receipt(&bob, &room_id, ReceiptType::ReadPrivate, &event_id, None).await.unwrap();
    let filter = json!({"room": {"ephemeral": {"types": []}}});
    let sync = stage.sync_with(&bob, Some(&since), &filter).await;
    let room = &sync["rooms"]["join"][room_id.as_str()];
    assert_eq!(room["unread_notifications"]["notification_count"], 0, "{sync}");
    assert!(stage.sync_with(&alice, Some(&since), &filter).await["rooms"]["join"].is_null());
}

#[tokio::test]
async fn joining_profiles_and_redactions() {
    let stage = Stage::new().await;
    let (alice, bob) = (stage.user("alice").await, stage.user("bob").await);
    let room_id = stage.room_with(&alice, |command| command.invite = vec![bob.user_id.clone()]).await;
    let invited = stage.engine.storage().unread_total(&bob.user_id).await.unwrap();
    assert_eq!(invited.notifications, 1);
    stage.join(&bob, &room_id).await;
    assert_eq!(unread(&stage, &bob, &room_id).await, (0, 0, vec![]));
    let event_id = stage.send(&alice, &room_id, "bob").await;
    stage.send(&alice, &room_id, "hello").await;
    assert_eq!(unread(&stage, &bob, &room_id).await, (2, 1, vec![]));
    stage.engine.set_display_name(&bob, Some("Bobby".to_owned())).await.unwrap();
    assert_eq!(unread(&stage, &bob, &room_id).await, (2, 1, vec![]));
    stage.engine.redact(&alice, &room_id, &event_id, None, None).await.unwrap();
    assert_eq!(unread(&stage, &bob, &room_id).await, (1, 0, vec![]));
    stage.send(&alice, &room_id, "ask bobby").await;
    assert_eq!(unread(&stage, &bob, &room_id).await, (2, 1, vec![]));
}

#[tokio::test]
async fn rules_and_ignored_users_count_at_once() {
    let stage = Stage::new().await;
    let (alice, bob) = (stage.user("alice").await, stage.user("bob").await);
    let room_id = stage.room(&alice, "shared").await;
    stage.join(&bob, &room_id).await;
    let mute = NewPushRule::Room(NewSimplePushRule::new(room_id.clone(), vec![]));
    stage.engine.set_push_rule(&bob, mute, None, None).await.unwrap();
    stage.send(&alice, &room_id, "hello").await;
    assert_eq!(unread(&stage, &bob, &room_id).await, (0, 0, vec![]));
    stage.engine.enable_push_rule(&bob, RuleKind::Room, room_id.as_str(), false).await.unwrap();
    stage.send(&alice, &room_id, "hello").await;
    assert_eq!(unread(&stage, &bob, &room_id).await, (1, 0, vec![]));
    let ignored = raw(&json!({"ignored_users": {alice.user_id.as_str(): {}}}));
    stage.engine.set_account_data(&bob, None, "m.ignored_user_list", ignored).await.unwrap();
    stage.send(&alice, &room_id, "bob").await;
    assert_eq!(unread(&stage, &bob, &room_id).await, (1, 0, vec![]));
}

#[tokio::test]
async fn s_032_what_was_notified_is_listed_until_it_is_redacted() {
    let stage = Stage::new().await;
    let (alice, bob) = (stage.user("alice").await, stage.user("bob").await);
    let room_id = stage.room(&alice, "shared").await;
    stage.join(&bob, &room_id).await;
    let secret = stage.send(&alice, &room_id, "the secret").await;
    let second = stage.send(&alice, &room_id, "bob, look").await;
    let list = async |query: NotificationsQuery| stage.engine.notifications(&bob, query).await.unwrap();
    let page = list(NotificationsQuery { limit: Some(1), ..NotificationsQuery::default() }).await;
    assert!(page.notifications[0].event.get().contains(second.as_str()) && !page.notifications[0].read);
    let page = list(NotificationsQuery { from: page.next, ..NotificationsQuery::default() }).await;
    assert!(page.notifications[0].event.get().contains("the secret") && page.next.is_none());
    let page = list(NotificationsQuery { only_highlights: true, ..NotificationsQuery::default() }).await;
    assert_eq!(page.notifications.len(), 1);
    stage.engine.redact(&alice, &room_id, &secret, None, None).await.unwrap();
    stage.engine.receipt(&bob, &room_id, ReceiptType::Read, &second, None).await.unwrap();
    let page = list(NotificationsQuery::default()).await;
    assert!(page.notifications.len() == 1 && page.notifications[0].read);
    let junk = NotificationsQuery { from: Some("x".to_owned()), ..NotificationsQuery::default() };
    assert!(stage.engine.notifications(&bob, junk).await.is_err());
}

#[tokio::test]
async fn s_135_push_rules_have_limits() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let set = async |rule_id: &str, pattern: &str| {
        let rule = NewPatternedPushRule::new(rule_id.to_owned(), pattern.to_owned(), vec![]);
        stage.engine.set_push_rule(&alice, NewPushRule::Content(rule), None, None).await
    };
    set("tea", "tea").await.unwrap();
    for rule_id in ["", ".m.rule.mine", "a/b", "a\\b", &"x".repeat(256)] {
        assert!(set(rule_id, "tea").await.is_err(), "{rule_id}");
    }
    assert!(set("long", &"x".repeat(5_000)).await.is_err());
    let huge = serde_json::from_value(json!(["notify", {"set_tweak": "sound", "value": "x".repeat(2_000)}])).unwrap();
    let refused = stage.engine.set_push_rule_actions(&alice, RuleKind::Override, ".m.rule.master", huge).await;
    assert!(refused.is_err());
    assert!(stage.engine.delete_push_rule(&alice, RuleKind::Override, ".m.rule.master").await.is_err());
    assert!(stage.engine.delete_push_rule(&alice, RuleKind::Content, "coffee").await.is_err());
    stage.engine.delete_push_rule(&alice, RuleKind::Content, "tea").await.unwrap();
}

#[tokio::test]
async fn s_033_rules_go_along_to_the_room_that_replaces_another() {
    let stage = Stage::new().await;
    let (alice, bob) = (stage.user("alice").await, stage.user("bob").await);
    let (old, forged) = (stage.room(&alice, "shared").await, stage.room(&alice, "shared").await);
    for room_id in [&old, &forged] {
        stage.join(&bob, room_id).await;
        for user in [&alice, &bob] {
            let mute = NewPushRule::Room(NewSimplePushRule::new(room_id.clone(), vec![]));
            stage.engine.set_push_rule(user, mute, None, None).await.unwrap();
        }
    }
    let replace = async |predecessor: &RoomId| {
        let predecessor = raw(&json!({"room_id": predecessor}));
        stage
            .room_with(&alice, |command| {
                command
                    .creation_content
                    .insert("predecessor".to_owned(), serde_json::from_str(predecessor.get()).unwrap());
                command.initial_state =
                    vec![crate::stage::initial_state("m.room.join_rules", &json!({"join_rule": "public"}))];
            })
            .await
    };
    let has_rule = async |user: &Requester, room_id: &RoomId| {
        stage.engine.push_rule(&user.user_id, &RuleKind::Room, room_id.as_str()).await.is_ok()
    };
    let new = replace(&old).await;
    let not_new = replace(&forged).await;
    assert!(!has_rule(&alice, &new).await);
    stage.set_state(&alice, &old, "m.room.tombstone", &json!({"body": "moved", "replacement_room": new})).await;
    assert!(has_rule(&alice, &new).await && !has_rule(&bob, &new).await);
    stage.join(&bob, &new).await;
    stage.join(&bob, &not_new).await;
    assert!(has_rule(&bob, &new).await && has_rule(&bob, &old).await);
    assert!(!has_rule(&bob, &not_new).await);
}
