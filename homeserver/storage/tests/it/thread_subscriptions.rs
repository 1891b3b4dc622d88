//! Which threads users follow.

use rules::Change;
use ruma::{OwnedEventId, owned_room_id};

use crate::stage::{on_each_database, user};

#[tokio::test]
async fn the_last_of_each_thread_is_kept() {
    on_each_database(async |stage| {
        let room_id = owned_room_id!("!a:here");
        let root = |name: &str| OwnedEventId::try_from(format!("${name}")).unwrap();
        let change = |user_id: &str, name: &str, subscribed, automatic| Change::ThreadSubscription {
            user_id: user(user_id),
            room_id: room_id.clone(),
            thread_root: root(name),
            subscribed,
            automatic,
        };
        let (alice, bob) = ("@alice:here", "@bob:here");
        let changes = vec![
            change(alice, "one", true, true),
            change(bob, "one", true, false),
            change(alice, "two", true, false),
            change(alice, "one", false, false),
        ];
        stage.commit_unguarded(changes).await.unwrap();
        let storage = &stage.storage;
        let one = storage.thread_subscription(&user(alice), &room_id, &root("one")).await.unwrap().unwrap();
        assert_eq!((one.subscribed, one.automatic, one.position), (false, false, 4));
        assert!(storage.thread_subscription(&user(bob), &room_id, &root("two")).await.unwrap().is_none());
        let told = async |since, until, limit| {
            let records = storage.thread_subscriptions(&user(alice), since, until, limit).await.unwrap();
            records.into_iter().map(|record| (record.thread_root, record.position)).collect::<Vec<_>>()
        };
        assert_eq!(told(0, 9, 9).await, [(root("one"), 4), (root("two"), 3)]);
        assert_eq!(told(0, 9, 1).await, [(root("one"), 4)]);
        assert_eq!(told(0, 3, 9).await, [(root("two"), 3)]);
        assert_eq!(told(3, 9, 9).await, [(root("one"), 4)]);
    })
    .await;
}
