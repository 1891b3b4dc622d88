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
    say_to(stage, id, after, except.into_iter().map(nothing).collect()).await
}

async fn say_to(stage: &Stage, id: &str, after: &str, notified: Vec<Notified>) -> i64 {
    let notification = Change::Notification {
        room_id: room(),
        event_id: event_id(id),
        sender: user(CAROL),
        thread_root: None,
        ts: MilliSecondsSinceUnixEpoch(UInt::from(1_000_u32)),
        is_call: false,
        actions: vec![to_raw_value(&json!(["notify"])).unwrap()],
        everyone: Some(Notice { highlight: false, actions: 0 }),
        notified,
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
        let queue = async || storage.pusher_queue(&pusher(ALICE, "two").key).await.unwrap().unwrap();
        let older = queue().await;
        storage.set_pusher(&pusher(ALICE, "two"), false).await.unwrap();
        storage.delete_rejected_pusher(&older).await.unwrap();
        assert!(keys(&stage, ALICE).await.contains(&"two".to_owned()), "it was set again before it was rejected");
        storage.delete_rejected_pusher(&queue().await).await.unwrap();
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
            generation: storage.pusher_queue(&key).await.unwrap().unwrap().generation,
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
        // It is set again while an attempt is under way, and begins as it was set.
        let under_way = PusherQueue { failures: 7, retry_at_ts: Some(1_000), ..kept };
        storage.set_pusher(&pusher(ALICE, "one"), false).await.unwrap();
        storage.save_pusher_queues(&[under_way]).await.unwrap();
        let kept = storage.pusher_queue(&key).await.unwrap().unwrap();
        assert_eq!((kept.failures, kept.retry_at_ts), (0, None));
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
        let concerned = storage.concerned_pushers(before, first).await.unwrap();
        let users: Vec<_> = concerned.iter().map(|pusher| pusher.key.user_id.as_str()).collect();
        assert_eq!(users, [ALICE], "who muted the room is not woken by what is said there");
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
async fn whoever_is_fewer_is_looked_at_and_all_are_found() {
    on_each_database(async |stage| {
        let storage = &stage.storage;
        people(&stage).await;
        assert!(storage.concerned_pushers(0, storage.head()).await.unwrap().is_empty(), "nobody has a pusher");
        let told = async |id: &str, after: &str| {
            let before = storage.head();
            say(&stage, id, after, None).await;
            let concerned = storage.concerned_pushers(before, storage.head()).await.unwrap();
            concerned.into_iter().map(|pusher| pusher.key.user_id.to_string()).collect::<Vec<_>>()
        };
        // One with a pusher, three in the room; then more with pushers than there are in the room, of whom one is unknown
        // to all tables but that of pushers.
        storage.set_pusher(&pusher(BOB, "b"), false).await.unwrap();
        assert_eq!(told("$1", "$c").await, [BOB]);
        for number in 0..5 {
            storage.set_pusher(&pusher(&format!("@other{number}:here"), "x"), true).await.unwrap();
        }
        storage.set_pusher(&pusher(ALICE, "a"), false).await.unwrap();
        assert_eq!(told("$2", "$1").await, [ALICE, BOB]);
        storage.delete_pusher(&pusher(BOB, "b").key).await.unwrap();
        assert_eq!(told("$3", "$2").await, [ALICE]);
        // Who had no number comes into the room.
        let pdu = member("$o", "@other3:here", "join", &["$3"]);
        let joined = membership("@other3:here", "join", "$o");
        stage.commit(vec![live(&pdu), set_state(&[&pdu]), extremities(&["$o"]), joined]).await;
        assert_eq!(told("$4", "$o").await, [ALICE, "@other3:here"]);
    })
    .await;
}

#[tokio::test]
async fn what_is_due_is_found_however_far_apart() {
    on_each_database(async |stage| {
        let storage = &stage.storage;
        people(&stage).await;
        let first = say(&stage, "$1", "$c", None).await;
        for number in 0..1_500 {
            let data = Change::AccountData {
                user_id: user(BOB),
                room_id: None,
                event_type: format!("t{}", number % 10),
                content: to_raw_value(&json!({})).unwrap(),
            };
            stage.commit_unguarded(vec![data]).await.unwrap();
        }
        let second = say(&stage, "$2", "$1", None).await;
        let due = async |limit| {
            let due = storage.due_notifications(&user(ALICE), 0, storage.head(), limit).await.unwrap();
            due.into_iter().map(|record| record.position).collect::<Vec<_>>()
        };
        assert!(second > first + 1_500);
        assert_eq!(
            (due(1).await, due(2).await, due(50).await),
            (vec![first], vec![first, second], vec![first, second])
        );
    })
    .await;
}

#[tokio::test]
async fn calls_that_are_not_read_count() {
    on_each_database(async |stage| {
        people(&stage).await;
        let mut notification = Change::Notification {
            room_id: room(),
            event_id: event_id("$call"),
            sender: user(CAROL),
            thread_root: None,
            ts: MilliSecondsSinceUnixEpoch(UInt::from(1_000_u32)),
            is_call: true,
            actions: vec![to_raw_value(&json!(["notify"])).unwrap()],
            everyone: Some(Notice { highlight: false, actions: 0 }),
            notified: Vec::new(),
        };
        stage.commit(vec![live(&message("$call", "$c")), extremities(&["$call"]), notification.clone()]).await;
        if let Change::Notification { event_id: id, is_call, .. } = &mut notification {
            (*id, *is_call) = (event_id("$talk"), false);
        }
        stage.commit(vec![live(&message("$talk", "$call")), extremities(&["$talk"]), notification]).await;
        let calls = async |name: &str, ms: u32| {
            let before = MilliSecondsSinceUnixEpoch(UInt::from(ms));
            stage.storage.unread_calls(&user(name), before).await.unwrap()
        };
        assert_eq!((calls(ALICE, 1_001).await, calls(ALICE, 1_000).await, calls(CAROL, 1_001).await), (1, 0, 0));
        let read = Change::Read { room_id: room(), user_id: user(ALICE), thread_id: None, up_to: None };
        stage.commit_unguarded(vec![read]).await.unwrap();
        assert_eq!((calls(ALICE, 1_001).await, calls(BOB, 1_001).await), (0, 1));
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
            is_call: false,
            actions: vec![to_raw_value(&json!(["notify"])).unwrap()],
            everyone: None,
            notified: vec![Notified { user_id: user(DAVE), notice: Some(Notice { highlight: false, actions: 0 }) }],
        };
        let pdu = member("$d", DAVE, "invite", &["$c"]);
        let membership_change = membership(DAVE, "invite", "$d");
        stage.commit(vec![live(&pdu), set_state(&[&pdu]), extremities(&["$d"]), membership_change, notification]).await;
        say(&stage, "$1", "$d", None).await;
        assert_eq!(inviters().await, [user(CAROL)]);
        let loud = Notified { user_id: user(DAVE), notice: Some(Notice { highlight: true, actions: 0 }) };
        say_to(&stage, "$2", "$1", vec![loud]).await;
        assert_eq!(inviters().await, [user(CAROL)], "nothing else of the room is looked at");
        assert!(storage.unread_invitations(&user(ALICE), 10).await.unwrap().is_empty());
        let pdu = member("$j", DAVE, "join", &["$2"]);
        stage.commit(vec![live(&pdu), set_state(&[&pdu]), extremities(&["$j"]), membership(DAVE, "join", "$j")]).await;
        assert!(inviters().await.is_empty(), "what is answered");
    })
    .await;
}
