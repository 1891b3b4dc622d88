//! Filters.

use crate::stage::{on_each_database, user};

#[tokio::test]
async fn the_same_filter_is_stored_once() {
    on_each_database(async |stage| {
        let (storage, alice, bob) = (&stage.storage, user("@alice:here"), user("@bob:here"));
        let store = async |json: &str, now_ms| storage.store_filter(&alice, json, now_ms, 2).await.unwrap();
        let text = async |filter_id: &str| storage.filter(&alice, filter_id).await.unwrap().map(|(json, _)| json);
        let first = store(r#"{"room":{}}"#, 1).await;
        let second = store("{}", 2).await;
        assert_ne!(first, second);
        assert_eq!(store(r#"{"room":{}}"#, 3).await, first);
        assert_eq!(text(&first).await.as_deref(), Some(r#"{"room":{}}"#));
        assert_eq!(text(&second).await.as_deref(), Some("{}"));
        assert_eq!(storage.filter(&bob, &first).await.unwrap(), None, "nobody sees another's");
        for nonsense in ["", "x", "1 OR 1=1", "99999999999999999999", "nul\0"] {
            assert_eq!(storage.filter(&alice, nonsense).await.unwrap(), None);
        }
    })
    .await;
}

#[tokio::test]
async fn the_filter_that_was_not_used_for_longest_goes() {
    on_each_database(async |stage| {
        let (storage, alice) = (&stage.storage, user("@alice:here"));
        let mut filter_ids = Vec::new();
        for number in 0..3 {
            filter_ids.push(storage.store_filter(&alice, &number.to_string(), number, 3).await.unwrap());
        }
        storage.note_filter_used(&alice, &filter_ids[0], 10).await.unwrap();
        let newest = storage.store_filter(&alice, "newest", 11, 3).await.unwrap();
        assert!(!filter_ids.contains(&newest));
        let mut kept = Vec::new();
        for filter_id in filter_ids.iter().chain([&newest]) {
            kept.push(storage.filter(&alice, filter_id).await.unwrap().map(|(_, used_ms)| used_ms));
        }
        assert_eq!(kept, [Some(10), None, Some(2), Some(11)]);
        // A clock that was set back makes the newest no victim: its id would be given out again.
        let last = storage.store_filter(&alice, "of yesterday", 1, 3).await.unwrap();
        assert!(storage.filter(&alice, &last).await.unwrap().is_some());
        assert!(storage.filter(&alice, &filter_ids[2]).await.unwrap().is_none());
    })
    .await;
}
