//! Account data, global and per room.

use homeserver_storage::Mute;
use rules::Change;
use ruma::{OwnedRoomId, owned_room_id};
use serde_json::json;

use crate::stage::{on_each_database, room, user};

fn set(user_id: &str, room_id: Option<OwnedRoomId>, event_type: &str, value: &str) -> Change {
    let content = serde_json::value::to_raw_value(&json!({ "value": value })).unwrap();
    Change::AccountData { user_id: user(user_id), room_id, event_type: event_type.to_owned(), content }
}

#[tokio::test]
async fn each_user_room_and_type_has_its_own() {
    on_each_database(async |stage| {
        let (alice, bob) = ("@alice:here", "@bob:here");
        let (a, b) = (owned_room_id!("!a:here"), owned_room_id!("!b:here"));
        let changes = vec![
            set(alice, None, "t", "global"),
            set(alice, Some(a.clone()), "t", "in a, first"),
            set(bob, Some(a.clone()), "t", "of bob"),
            set(alice, Some(a.clone()), "t", "in a"),
        ];
        stage.commit_unguarded(changes).await.unwrap();
        stage.commit_unguarded(vec![set(alice, None, "other", "other")]).await.unwrap();
        let value = async |user_id: &str, room: Option<&OwnedRoomId>, event_type| {
            let room = room.map(|room| &**room);
            let found = stage.storage.account_data(&user(user_id), room, event_type).await.unwrap();
            found.map(|record| (record.room_id, record.position, record.content.get().to_owned()))
        };
        assert_eq!(value(alice, None, "t").await, Some((None, 1, r#"{"value":"global"}"#.to_owned())));
        let in_a = Some((Some(a.clone()), 4, r#"{"value":"in a"}"#.to_owned()));
        assert_eq!(value(alice, Some(&a), "t").await, in_a);
        assert_eq!(value(alice, Some(&b), "t").await, None, "not the global one");
        assert_eq!(value(bob, None, "t").await, None);
        assert_eq!(stage.storage.account_data_count(&user(alice)).await.unwrap(), 3);
        assert_eq!(stage.storage.account_data_count(&user("@nobody:here")).await.unwrap(), 0);
        assert_eq!(value(bob, Some(&a), "t").await.unwrap().1, 3);

        let since = async |since, until| {
            let records = stage.storage.account_data_since(&user(alice), since, until).await.unwrap();
            records.iter().map(|record| (record.position, record.event_type.clone())).collect::<Vec<_>>()
        };
        let all = [(1, "t"), (4, "t"), (5, "other")].map(|(position, name)| (position, name.to_owned()));
        assert_eq!(since(0, 9).await, all);
        assert_eq!(since(1, 4).await, all[1..2]);
    })
    .await;
}

#[tokio::test]
async fn mutes_are_known_until_their_time_has_come() {
    on_each_database(async |stage| {
        let storage = &stage.storage;
        let (alice, bob) = (user("@alice:here"), user("@bob:here"));
        let other = ruma::RoomId::parse("!other:here").unwrap();
        let until = |until_ts| Mute { until_ts, is_own: false };
        storage.set_mute(&alice, &room(), until(50)).await.unwrap();
        storage.set_mute(&alice, &room(), until(100)).await.unwrap();
        storage.set_mute(&bob, &other, until(70)).await.unwrap();
        assert_eq!(storage.mute(&alice, &room()).await.unwrap(), Some(until(100)), "the latest");
        storage.own_mute(&alice, &room()).await.unwrap();
        storage.own_mute(&alice, &other).await.unwrap();
        assert_eq!(storage.mute(&alice, &room()).await.unwrap(), Some(Mute { until_ts: 100, is_own: true }));
        assert_eq!(storage.mute(&alice, &other).await.unwrap(), None);
        assert_eq!(storage.due_mutes(69, 10).await.unwrap(), vec![]);
        assert_eq!(storage.due_mutes(100, 1).await.unwrap(), vec![(bob.clone(), other.clone())], "the earliest");
        assert_eq!(storage.due_mutes(100, 10).await.unwrap().len(), 2);
        assert!(storage.forget_mute(&bob, &other).await.unwrap() && !storage.forget_mute(&bob, &other).await.unwrap());
        assert_eq!(storage.due_mutes(u64::MAX, 10).await.unwrap(), vec![(alice, room())]);
    })
    .await;
}
