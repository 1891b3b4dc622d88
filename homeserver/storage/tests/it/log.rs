//! The log: what it tells, from memory and from the database, and that it wakes who waits.

use homeserver_storage::{Direction, LogKind, Submission, TimelineRange};
use rules::Change;
use ruma::{MilliSecondsSinceUnixEpoch, device_id, events::receipt::ReceiptType, owned_room_id, uint};
use serde_json::json;
use tokio::sync::mpsc;

use crate::stage::{
    Stage, entries, event_id, live, member, membership, message, on_each_database, room, set_state, state_event, user,
};

#[tokio::test]
async fn each_kind_of_change_is_told_of() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let receipt = |receipt_type: ReceiptType, user_id: &str| Change::Receipt {
            room_id: room(),
            user_id: user(user_id),
            receipt_type,
            thread_id: None,
            event_id: event_id("$unknown"),
            ts: MilliSecondsSinceUnixEpoch(uint!(1)),
        };
        let changes = vec![
            receipt(ReceiptType::Read, "@alice:here"),
            receipt(ReceiptType::Read, "@bob:there"),
            receipt(ReceiptType::ReadPrivate, "@alice:here"),
            Change::AccountData {
                user_id: user("@alice:here"),
                room_id: Some(owned_room_id!("!unknown:there")),
                event_type: "test".to_owned(),
                content: serde_json::value::to_raw_value(&json!({})).unwrap(),
            },
            membership("@alice:here", "leave", "$alice_leaves"),
        ];
        stage.commit_unguarded(changes).await.unwrap();
        let check = async |stage: &crate::stage::Stage| {
            let log = stage.storage.log_since(1, 100).await.unwrap();
            let told: Vec<_> = log.iter().map(|entry| (entry.position, entry.kind, entry.outbound)).collect();
            let expected = vec![
                (2, LogKind::Event, true),
                (3, LogKind::Membership, false),
                (4, LogKind::Receipt, true),
                (5, LogKind::Receipt, false),
                (6, LogKind::Receipt, false),
                (7, LogKind::AccountData, false),
                (8, LogKind::Membership, false),
            ];
            assert_eq!(told, expected);
            assert_eq!(log[0].user_id, Some(user("@alice:here")), "the sender");
            assert_eq!(log[2].event_id, Some(event_id("$unknown")));
            assert_eq!(log[5].room_id, Some(owned_room_id!("!unknown:there")));
            assert_eq!(log[6].membership, Some("leave".into()));
            let part = stage.storage.log_since(3, 2).await.unwrap();
            assert_eq!(part.iter().map(|entry| entry.position).collect::<Vec<_>>(), [4, 5]);
            assert!(stage.storage.log_since(8, 10).await.unwrap().is_empty());
        };
        check(&stage).await;
        check(&stage.reopen().await).await;
    })
    .await;
}

#[tokio::test]
async fn who_waits_is_woken_by_the_commit() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let mut head = stage.storage.subscribe();
        head.wait_for(|head| *head == 3).await.unwrap();
        let position = stage.send("$one", "$alice_joins").await;
        head.changed().await.unwrap();
        assert_eq!(*head.borrow_and_update(), position);
        let seen = stage.storage.log_since(3, 10).await.unwrap();
        assert_eq!(seen.len(), 1, "who is woken finds the entry");
        stage.commit_unguarded(vec![]).await.unwrap();
        assert!(!head.has_changed().unwrap(), "nothing happened");
    })
    .await;
}

/// A client that is told of its own event by `/sync` before it is told that it was sent takes it for another's.
#[tokio::test]
async fn who_changes_something_hears_of_it_before_those_who_wait() {
    on_each_database(async |stage| {
        let (tell, mut told) = mpsc::unbounded_channel();
        let (mut head, waiter) = (stage.storage.subscribe(), tell.clone());
        tokio::spawn(async move {
            head.changed().await.unwrap();
            waiter.send("who waits").unwrap();
        });
        let storage = stage.storage.clone();
        tokio::spawn(async move {
            let changes = vec![membership("@alice:here", "leave", "$alice_leaves")];
            storage.commit(Submission { room: None, changes }).await.unwrap();
            tell.send("who changes").unwrap();
        });
        assert_eq!((told.recv().await, told.recv().await), (Some("who changes"), Some("who waits")));
    })
    .await;
}

#[tokio::test]
async fn the_rooms_that_changed_are_told_from_the_others() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let position = stage.send("$one", "$alice_joins").await;
        let rooms = [owned_room_id!("!quiet:here"), room()];
        let check = async |stage: &crate::stage::Stage| {
            let changed = async |since, until| stage.storage.rooms_changed(&rooms, since, until).await.unwrap();
            assert_eq!(changed(3, position).await, [room()]);
            assert_eq!(changed(0, 1).await, [room()], "the lower end is exclusive");
            assert!(changed(position, position + 5).await.is_empty());
            assert!(changed(0, 0).await.is_empty());
            assert!(changed(2, 2).await.is_empty(), "nothing is between a position and itself");
        };
        check(&stage).await;
        check(&stage.reopen().await).await;
    })
    .await;
}

#[tokio::test]
async fn readers_far_behind_read_the_database() {
    on_each_database(async |stage| {
        stage.create_room().await;
        // More than memory keeps.
        for _ in 0..17 {
            let changes = (0..1000).map(|_| membership("@alice:here", "join", "$alice_joins")).collect();
            stage.commit_unguarded(changes).await.unwrap();
        }
        let entries = stage.storage.log_since(0, 2).await.unwrap();
        assert_eq!(entries.iter().map(|entry| entry.position).collect::<Vec<_>>(), [1, 2]);
        let all = stage.storage.log_since(0, usize::MAX).await.unwrap();
        assert_eq!(all.len(), 17_003);
        let recent = stage.storage.log_since(10_000, usize::MAX).await.unwrap();
        assert_eq!(recent, all[10_000..]);
        assert_eq!(stage.storage.rooms_changed(&[room()], 1, 2).await.unwrap(), [room()]);
        let one = stage.commit_unguarded(vec![live(&message("$one", "$alice_joins"))]).await.unwrap();
        assert_eq!(one.position, 17_004);
    })
    .await;
}

fn to_device(device_id: &str) -> Change {
    Change::ToDevice {
        user_id: user("@alice:here"),
        device_id: device_id.into(),
        sender: user("@bob:there"),
        event_type: "m.test".to_owned(),
        content: serde_json::value::to_raw_value(&json!({})).unwrap(),
    }
}

fn device_list(user_id: &str) -> Change {
    Change::DeviceList { user_id: user(user_id), device_id: None, viewer: None, servers: Vec::new() }
}

/// What happened between all pairs of positions, by everything that memory may answer.
async fn everything_between(stage: &Stage, head: i64) -> Vec<String> {
    let storage = &stage.storage;
    let (alice, device) = (user("@alice:here"), device_id!("PHONE"));
    let mut told = Vec::new();
    for (since, until) in (0..=head).flat_map(|since| (since..=head + 1).map(move |until| (since, until))) {
        for (direction, limit) in [(Direction::Forward, 9), (Direction::Backward, 9), (Direction::Backward, 1)] {
            let range = TimelineRange { after: Some(since), until: Some(until), direction, limit };
            let events = storage.timeline(&room(), range).await.unwrap();
            told.push(format!("{since} {until} {:?}", events.iter().map(|it| &it.pdu.event_id).collect::<Vec<_>>()));
        }
        let mut changed = entries(storage.state_changes(&room(), since, until).await.unwrap());
        changed.sort();
        let members = storage.member_changes(&[room()], since, until).await.unwrap();
        let devices = storage.device_lists_changed(&alice, since, until).await.unwrap();
        let messages = storage.to_device(&alice, device, since, until, 9).await.unwrap();
        let messages: Vec<_> = messages.into_iter().map(|message| message.position).collect();
        told.push(format!("{changed:?} {members:?} {devices:?} {messages:?}"));
    }
    told
}

#[tokio::test]
async fn memory_answers_as_the_database_does() {
    on_each_database(async |stage| {
        stage.create_room().await;
        stage.send("$one", "$alice_joins").await;
        let (topic, bob) =
            (state_event("$topic", "m.room.topic", "", json!({})), member("$bob", "@bob:there", "join", &["$one"]));
        stage.commit(vec![live(&topic), set_state(&[&topic])]).await;
        stage.commit_unguarded(vec![to_device("PHONE"), to_device("TABLET")]).await.unwrap();
        stage.commit(vec![live(&bob), set_state(&[&bob])]).await;
        stage.commit_unguarded(vec![device_list("@bob:there")]).await.unwrap();
        // A merge of branches may change the state without an event of its own.
        stage.commit(vec![set_state(&[&topic])]).await;
        let head = stage.commit_unguarded(vec![membership("@carol:here", "invite", "$invite")]).await.unwrap().position;
        let reads = stage.storage.reads();
        let from_memory = everything_between(&stage, head).await;
        let read = stage.storage.reads() - reads;
        let stage = stage.reopen().await;
        let reads = stage.storage.reads();
        assert_eq!(from_memory, everything_between(&stage, head).await);
        assert!(read < (stage.storage.reads() - reads) / 2, "memory spares the database most of it");
    })
    .await;
}
