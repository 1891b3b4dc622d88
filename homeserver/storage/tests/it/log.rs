//! The log: what it tells, from memory and from the database, and that it wakes who waits.

use homeserver_storage::LogKind;
use rules::Change;
use ruma::{MilliSecondsSinceUnixEpoch, events::receipt::ReceiptType, owned_room_id, uint};
use serde_json::json;

use crate::stage::{event_id, live, membership, message, on_each_database, room, user};

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
        assert_eq!(*head.borrow_and_update(), 3);
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
