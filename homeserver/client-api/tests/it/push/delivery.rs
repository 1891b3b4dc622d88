//! What gateways are told of what.

use std::time::Duration;

use push_gateway::PushGateways;
use serde_json::{Value, json};

use super::{GATEWAY, Stage, pusher, server, set, shared_room};
use crate::server::Session;

#[tokio::test]
async fn a_message_and_a_mention() {
    let stage = Stage::new().await;
    set(&stage.server, &stage.bob, pusher("key", GATEWAY)).await.ok();
    stage.say("before").await;
    let first = stage.told().await;
    assert_eq!(first.len(), 1, "what came after it was set");
    let event_id = stage.say("hello").await;
    stage.server.clock.advance(Duration::from_secs(3));
    let told = stage.told().await;
    assert_eq!(told.len(), 1);
    let notification = &told[0].notification;
    let expected = json!({
        "event_id": event_id,
        "room_id": stage.room_id,
        "type": "m.room.message",
        "sender": stage.alice.user_id,
        "sender_display_name": "alice",
        "room_name": "Plans",
        "content": { "msgtype": "m.text", "body": "hello" },
        "counts": { "unread": 2 },
    });
    for (name, value) in expected.as_object().unwrap() {
        // Whether people have a display name from the beginning is not what this is about.
        if name != "sender_display_name" || !notification[name].is_null() {
            assert_eq!(&notification[name], value, "{name}");
        }
    }
    let device = &notification["devices"][0];
    assert_eq!((&device["app_id"], &device["pushkey"]), (&json!("org.example.app"), &json!("key")));
    assert_eq!(device["data"], json!({ "custom": { "a": 1 } }));
    assert_eq!(device["pushkey_ts"], 1_700_000_000);
    let mention = json!({ "msgtype": "m.text", "body": "look", "m.mentions": { "user_ids": [stage.bob.user_id] } });
    stage.send("m.room.message", mention).await;
    let told = stage.told().await;
    assert_eq!(told[0].notification["prio"], "high");
    let tweaks = &told[0].notification["devices"][0]["tweaks"];
    assert_eq!(tweaks, &json!({ "highlight": true, "sound": "default" }));
    // Who speaks is not told of it, and to be told twice is too much.
    set(&stage.server, &stage.alice, pusher("own", GATEWAY)).await.ok();
    stage.say("own words").await;
    let told = stage.told().await;
    assert_eq!(told.iter().map(push_gateway::Told::pushkey).collect::<Vec<_>>(), ["key"]);
    assert!(stage.told().await.is_empty());
}

#[tokio::test]
async fn an_invitation_an_encrypted_event_and_a_call() {
    let stage = Stage::new().await;
    set(&stage.server, &stage.bob, pusher("key", GATEWAY)).await.ok();
    let elsewhere = stage.server.private_room(&stage.alice).await;
    let invite = json!({ "user_id": stage.bob.user_id });
    stage.server.post_as(&stage.alice, &format!("/_matrix/client/v3/rooms/{elsewhere}/invite"), invite).await.ok();
    let told = stage.told().await;
    let shown = &told[0].notification;
    assert_eq!((&shown["type"], &shown["user_is_target"]), (&json!("m.room.member"), &json!(true)));
    assert_eq!((&shown["room_name"], &shown["prio"]), (&json!("Plans"), &json!("high")));
    assert_eq!(shown["content"]["membership"], "invite");
    assert_eq!(told[0].unread(), Some(1));
    let sealed = json!({ "algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "abc", "session_id": "s" });
    stage.send("m.room.encrypted", sealed.clone()).await;
    let told = stage.told().await;
    assert_eq!((&told[0].notification["prio"], &told[0].notification["content"]), (&json!("high"), &sealed));
    let call = json!({ "call_id": "c", "party_id": "p", "version": "1", "lifetime": 60_000, "offer": { "type": "offer", "sdp": "" } });
    stage.send("m.call.invite", call).await;
    let told = stage.told().await;
    assert_eq!(told[0].notification["prio"], "high");
    assert_eq!(told[0].notification["devices"][0]["tweaks"]["sound"], "ring");
    assert!(told[0].notification["counts"]["missed_calls"].is_null(), "it still rings");
    stage.server.clock.advance(Duration::from_mins(2));
    stage.say("where are you").await;
    assert_eq!(stage.told().await[0].notification["counts"], json!({ "unread": 4, "missed_calls": 1 }));
}

#[tokio::test]
async fn s_095_the_event_id_alone() {
    let stage = Stage::new().await;
    let mut short = pusher("key", GATEWAY);
    short["data"]["format"] = json!("event_id_only");
    set(&stage.server, &stage.bob, short).await.ok();
    let event_id = stage.say("the secret").await;
    let told = stage.told().await;
    let text = told[0].notification.to_string();
    assert_eq!(told[0].event_id(), Some(&*event_id));
    assert!(!text.contains("secret") && !text.contains("alice") && !text.contains("Plans"), "{text}");
    assert_eq!(told[0].notification["devices"][0]["data"]["format"], "event_id_only");
}

#[tokio::test]
async fn the_badge_falls_when_another_device_reads() {
    let stage = Stage::new().await;
    let desk = stage.server.log_in(&stage.bob.user_id).await;
    set(&stage.server, &stage.bob, pusher("key", GATEWAY)).await.ok();
    let other_room = shared_room(&stage.server, &stage.alice, &stage.bob).await;
    let first = stage.say("one").await;
    let last = stage.say("two").await;
    stage.server.say(&stage.alice, &other_room, "other", "three").await;
    assert_eq!(stage.told().await.last().unwrap().unread(), Some(3), "over all rooms");
    stage.read(&desk, &first).await;
    let told = stage.told().await;
    assert_eq!((told.len(), told[0].unread(), told[0].event_id()), (1, Some(2), None));
    stage.read(&desk, &last).await;
    assert_eq!(stage.told().await[0].unread(), Some(1));
    // Answering is reading.
    stage.server.say(&desk, &other_room, "answer", "four").await;
    assert_eq!(stage.told().await[0].unread(), Some(0));
    assert!(stage.told().await.is_empty(), "zero is said once");
}

#[tokio::test]
async fn s_032_what_is_read_redacted_or_left_is_not_told() {
    let stage = Stage::new().await;
    set(&stage.server, &stage.bob, pusher("key", GATEWAY)).await.ok();
    let event_id = stage.say("read at once").await;
    stage.read(&stage.bob, &event_id).await;
    assert!(stage.told().await.is_empty());
    let event_id = stage.say("never mind").await;
    let path = format!("/_matrix/client/v3/rooms/{}/redact/{event_id}/r", stage.room_id);
    stage.server.put_as(&stage.alice, &path, json!({})).await.ok();
    let told = stage.told().await;
    assert!(told.iter().all(|told| !told.notification.to_string().contains("never mind")), "{told:?}");
    stage.say("too late").await;
    let leave = format!("/_matrix/client/v3/rooms/{}/leave", stage.room_id);
    stage.server.post_as(&stage.bob, &leave, json!({})).await.ok();
    assert!(stage.told().await.iter().all(|told| told.event_id().is_none()));
}

#[tokio::test]
async fn s_111_a_locked_user_is_told_when_the_lock_is_gone() {
    let stage = Stage::new().await;
    set(&stage.server, &stage.bob, pusher("key", GATEWAY)).await.ok();
    let bob: &ruma::UserId = (&*stage.bob.user_id).try_into().unwrap();
    stage.server.engine.storage().set_locked(bob, true).await.unwrap();
    stage.say("hello").await;
    assert!(stage.told().await.is_empty());
    stage.server.engine.storage().set_locked(bob, false).await.unwrap();
    stage.say("again").await;
    assert_eq!(stage.told().await.len(), 2);
}

#[tokio::test]
async fn a_restart_loses_nothing_and_repeats_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let gateways = PushGateways::new();
    let stage = Stage::with(gateways.clone(), Some(directory.path())).await;
    set(&stage.server, &stage.bob, pusher("key", GATEWAY)).await.ok();
    let told_before = stage.say("told before").await;
    assert_eq!(stage.told().await[0].event_id(), Some(&*told_before));
    let waiting = stage.say("not told before").await;
    stage.server.engine.storage().close().await;
    let again = server(&gateways, Some(directory.path())).await;
    again.engine.flush_pushers().await.unwrap();
    let told: Vec<Option<String>> = gateways.take().iter().map(|told| told.event_id().map(str::to_owned)).collect();
    assert_eq!(told, [Some(waiting)]);
}

/// The running server, on a clock of its own.
#[tokio::test]
async fn the_log_is_followed_by_itself() {
    let stage = Stage::new().await;
    let engine = stage.server.engine.clone();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(async move { engine.run_pushers(async { drop(stopped.await) }).await });
    set(&stage.server, &stage.bob, pusher("key", GATEWAY)).await.ok();
    set(&stage.server, &stage.bob, pusher("another", "second.test")).await.ok();
    let mut told: Vec<Value> = Vec::new();
    stage.say("hello").await;
    stage.say("again").await;
    for _ in 0..1_000 {
        told.extend(stage.gateways.take().into_iter().map(|told| told.notification["event_id"].clone()));
        if told.len() == 4 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.send(()).unwrap();
    running.await.unwrap();
    told.sort_by_key(ToString::to_string);
    assert!(told.len() == 4 && told[0] == told[1] && told[2] == told[3], "{told:?}");
}

#[tokio::test]
async fn invitations_that_a_user_does_not_want_to_see_do_not_disturb() {
    let stage = Stage::new().await;
    let carol = stage.server.register("carol").await;
    set(&stage.server, &stage.bob, pusher("key", GATEWAY)).await.ok();
    let invite = async |by: &Session| {
        let room_id = stage.server.private_room(by).await;
        let body = json!({ "user_id": stage.bob.user_id });
        stage.server.post_as(by, &format!("/_matrix/client/v3/rooms/{room_id}/invite"), body).await.ok();
    };
    invite(&carol).await;
    assert_eq!(stage.told().await[0].unread(), Some(1));
    let path = format!("/_matrix/client/v3/user/{}/account_data/m.ignored_user_list", stage.bob.user_id);
    let ignored = json!({ "ignored_users": { &carol.user_id: {} } });
    stage.server.put_as(&stage.bob, &path, ignored).await.ok();
    stage.told().await;
    invite(&carol).await;
    let told = stage.told().await;
    assert_eq!((told.len(), told[0].event_id(), told[0].unread()), (1, None, Some(0)), "the count alone, which fell");
    stage.say("hello").await;
    assert_eq!(stage.told().await[0].unread(), Some(1), "neither of the two invitations counts");
    stage.server.put_as(&stage.bob, &path, json!({ "ignored_users": {} })).await.ok();
    stage.say("hello again").await;
    assert_eq!(stage.told().await[0].unread(), Some(3), "that which notified when it came");
    invite(&stage.alice).await;
    assert_eq!(stage.told().await[0].unread(), Some(4));
}

/// The running server, while nothing can be written about pushers.
#[tokio::test]
async fn what_was_told_is_written_down_before_more_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let stage = Stage::with(PushGateways::new(), Some(directory.path())).await;
    set(&stage.server, &stage.bob, pusher("key", GATEWAY)).await.ok();
    let database =
        sqlx::SqlitePool::connect(&format!("sqlite:{}", directory.path().join("nudge.db").display())).await.unwrap();
    let refuse = "CREATE TRIGGER refuse BEFORE UPDATE ON pushers BEGIN SELECT RAISE(FAIL, 'full'); END";
    sqlx::query(refuse).execute(&database).await.unwrap();
    let engine = stage.server.engine.clone();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(async move { engine.run_pushers(async { drop(stopped.await) }).await });
    let mut expected = vec![stage.say("hello").await];
    let mut told = Vec::new();
    arrived(&stage, &mut told, 1).await;
    for number in 0..3 {
        stage.server.clock.advance(Duration::from_secs(30));
        expected.push(stage.say(&format!("message {number}")).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    sqlx::query("DROP TRIGGER refuse").execute(&database).await.unwrap();
    expected.push(stage.say("at last").await);
    arrived(&stage, &mut told, expected.len()).await;
    stop.send(()).unwrap();
    running.await.unwrap();
    assert_eq!(told, expected, "everything once");
}

async fn arrived(stage: &Stage, told: &mut Vec<String>, count: usize) {
    for _ in 0..2_000 {
        told.extend(stage.gateways.take().iter().filter_map(|told| told.event_id().map(str::to_owned)));
        if told.len() >= count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
