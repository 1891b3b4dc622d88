//! Pushers, how far they have got, and what is due to them.

use homeserver_storage::{PusherKey, PusherQueue, PusherRecord};
use rules::{
    Change,
    change::{Notice, Notified},
};
use ruma::{MilliSecondsSinceUnixEpoch, UInt};
use serde_json::{json, value::to_raw_value};

use crate::stage::{
    Stage, event_id, extremities, live, member, membership, message, on_each_database, room, set_state, user,
};

const ALICE: &str = "@alice:here";
const BOB: &str = "@bob:here";
const CAROL: &str = "@carol:here";
const DAVE: &str = "@dave:here";

fn pusher(name: &str, pushkey: &str) -> PusherRecord {
    PusherRecord {
        key: PusherKey { user_id: user(name), app_id: "app".to_owned(), pushkey: pushkey.to_owned() },
        device_id: "PHONE".into(),
        kind: "http".to_owned(),
        gateway: "push.test:443".to_owned(),
        app_display_name: "App\0".to_owned(),
        device_display_name: "Phone".to_owned(),
        profile_tag: None,
        lang: "en".to_owned(),
        data: to_raw_value(&json!({ "url": "https://push.test/" })).unwrap(),
        secret: format!("{name} {pushkey}"),
        set_ts: 5,
    }
}

async fn keys(stage: &Stage, name: &str) -> Vec<String> {
    stage.storage.pushers(&user(name)).await.unwrap().into_iter().map(|pusher| pusher.key.pushkey).collect()
}

/// What everyone is notified of, but for one.
async fn say(stage: &Stage, id: &str, after: &str, except: Option<&str>) -> i64 {
    let nothing = |name: &str| Notified { user_id: user(name), notice: None };
    let notification = Change::Notification {
        room_id: room(),
        event_id: event_id(id),
        sender: user(CAROL),
        thread_root: None,
        ts: MilliSecondsSinceUnixEpoch(UInt::from(1_000_u32)),
        actions: vec![to_raw_value(&json!(["notify"])).unwrap()],
        everyone: Some(Notice { highlight: false, actions: 0 }),
        notified: except.into_iter().map(nothing).collect(),
    };
    let changes = vec![live(&message(id, after)), extremities(&[id]), notification];
    stage.commit(changes).await.positions[0].1
}

async fn people(stage: &Stage) {
    for (id, after, name) in [("$a", vec![], ALICE), ("$b", vec!["$a"], BOB), ("$c", vec!["$b"], CAROL)] {
        let pdu = member(id, name, "join", &after);
        stage.commit(vec![live(&pdu), set_state(&[&pdu]), extremities(&[id]), membership(name, "join", id)]).await;
    }
}

#[tokio::test]
async fn pushers_are_kept_apart_and_end_by_their_secret() {
    on_each_database(async |stage| {
        let storage = &stage.storage;
        storage.set_pusher(&pusher(ALICE, "one"), false).await.unwrap();
        storage.set_pusher(&pusher(ALICE, "two"), false).await.unwrap();
        storage.set_pusher(&pusher(BOB, "one"), true).await.unwrap();
        assert_eq!((keys(&stage, ALICE).await.len(), keys(&stage, BOB).await.len()), (2, 1));
        let kept = storage.pusher(&pusher(ALICE, "one").key).await.unwrap().unwrap();
        assert_eq!((kept.app_display_name.as_str(), kept.set_ts), ("App\u{fffd}", 5));
        storage.set_pusher(&pusher(BOB, "one"), false).await.unwrap();
        assert_eq!(keys(&stage, ALICE).await, ["two"]);
        let other_secret = PusherRecord { secret: "another".to_owned(), ..pusher(BOB, "one") };
        storage.set_pusher(&other_secret, false).await.unwrap();
        assert!(!storage.delete_pusher_by_secret("another").await.unwrap(), "the first one stays");
        assert!(storage.delete_pusher_by_secret(&pusher(BOB, "one").secret).await.unwrap());
        let older = PusherRecord { set_ts: pusher(ALICE, "two").set_ts - 1, ..pusher(ALICE, "two") };
        storage.delete_rejected_pusher(&older).await.unwrap();
        assert!(keys(&stage, ALICE).await.contains(&"two".to_owned()), "it was set again before it was rejected");
        storage.delete_rejected_pusher(&pusher(ALICE, "two")).await.unwrap();
        assert_eq!(keys(&stage, ALICE).await, [""; 0]);
        storage.set_pusher(&pusher(ALICE, "two"), false).await.unwrap();
        storage.delete_pusher(&pusher(ALICE, "two").key).await.unwrap();
        assert_eq!(keys(&stage, ALICE).await, [""; 0]);
        assert!(storage.set_pusher(&pusher(ALICE, "nul\0"), false).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn queues_go_forward_only_and_say_who_waits() {
    on_each_database(async |stage| {
        let storage = &stage.storage;
        let key = pusher(ALICE, "one").key;
        storage.set_pusher(&pusher(ALICE, "one"), false).await.unwrap();
        let queue = PusherQueue {
            key: key.clone(),
            cursor: 7,
            badge: Some(3),
            failures: 2,
            retry_at_ts: Some(99),
            throttle_ms: 1_000,
        };
        storage.save_pusher_queues(std::slice::from_ref(&queue)).await.unwrap();
        assert_eq!(storage.pusher_queue(&key).await.unwrap(), Some(queue.clone()));
        let waiting = storage.waiting_pushers().await.unwrap();
        assert_eq!((waiting[0].key.clone(), waiting[0].retry_at_ts), (key.clone(), Some(99)));
        let back = PusherQueue { cursor: 5, badge: None, retry_at_ts: None, ..queue };
        storage.save_pusher_queues(&[back]).await.unwrap();
        let kept = storage.pusher_queue(&key).await.unwrap().unwrap();
        assert_eq!((kept.cursor, kept.badge), (7, None));
        assert!(storage.waiting_pushers().await.unwrap().is_empty());
        storage.save_pushers_read(12).await.unwrap();
        assert_eq!(storage.pushers_read().await.unwrap(), 12);
    })
    .await;
}

#[tokio::test]
async fn those_are_concerned_who_are_notified_and_due_is_what_is_not_read() {
    on_each_database(async |stage| {
        let storage = &stage.storage;
        people(&stage).await;
        let before = storage.head();
        assert!(storage.concerned_pushers(0, before).await.unwrap().is_empty());
        for name in [ALICE, BOB] {
            storage.set_pusher(&pusher(name, name), false).await.unwrap();
        }
        let first = say(&stage, "$1", "$c", Some(BOB)).await;
        let second = say(&stage, "$2", "$1", None).await;
        let concerned = storage.concerned_pushers(before, storage.head()).await.unwrap();
        let users: Vec<_> = concerned.iter().map(|pusher| pusher.key.user_id.as_str()).collect();
        assert_eq!(users, [ALICE, BOB]);
        let due = async |name: &str, since: i64| {
            let due = storage.due_notifications(&user(name), since, storage.head(), 10).await.unwrap();
            due.into_iter().map(|record| record.position).collect::<Vec<_>>()
        };
        assert_eq!(due(ALICE, before).await, [first, second]);
        assert_eq!(due(ALICE, first).await, [second]);
        assert_eq!(due(BOB, before).await, [second]);
        assert!(due(CAROL, before).await.is_empty(), "who sent them");
        assert_eq!(storage.due_notifications(&user(ALICE), before, first, 10).await.unwrap().len(), 1);
        assert_eq!(storage.due_notifications(&user(ALICE), before, second, 1).await.unwrap()[0].position, first);
        let read = Change::Read { room_id: room(), user_id: user(ALICE), thread_id: None, up_to: Some(first) };
        stage.commit(vec![read]).await;
        assert_eq!(due(ALICE, before).await, [second]);
        let now = MilliSecondsSinceUnixEpoch(UInt::from(2_000_u32));
        assert_eq!(storage.unread_calls(&user(ALICE), now).await.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn invitations_that_are_neither_read_nor_answered() {
    on_each_database(async |stage| {
        people(&stage).await;
        let storage = &stage.storage;
        let inviters = async || storage.unread_invitations(&user(DAVE), 10).await.unwrap();
        let notification = Change::Notification {
            room_id: room(),
            event_id: event_id("$d"),
            sender: user(CAROL),
            thread_root: None,
            ts: MilliSecondsSinceUnixEpoch(UInt::from(1_000_u32)),
            actions: vec![to_raw_value(&json!(["notify"])).unwrap()],
            everyone: None,
            notified: vec![Notified { user_id: user(DAVE), notice: Some(Notice { highlight: false, actions: 0 }) }],
        };
        let pdu = member("$d", DAVE, "invite", &["$c"]);
        let membership_change = membership(DAVE, "invite", "$d");
        stage.commit(vec![live(&pdu), set_state(&[&pdu]), extremities(&["$d"]), membership_change, notification]).await;
        say(&stage, "$1", "$d", None).await;
        assert_eq!(inviters().await, [user(CAROL)]);
        assert!(storage.unread_invitations(&user(ALICE), 10).await.unwrap().is_empty());
        let pdu = member("$j", DAVE, "join", &["$1"]);
        stage.commit(vec![live(&pdu), set_state(&[&pdu]), extremities(&["$j"]), membership(DAVE, "join", "$j")]).await;
        assert!(inviters().await.is_empty(), "what is answered");
    })
    .await;
}
