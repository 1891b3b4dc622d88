//! Filters.

use crate::stage::{on_each_database, user};

#[tokio::test]
async fn the_same_filter_is_stored_once() {
    on_each_database(async |stage| {
        let (storage, alice, bob) = (&stage.storage, user("@alice:here"), user("@bob:here"));
        let first = storage.store_filter(&alice, r#"{"room":{}}"#, 2).await.unwrap().unwrap();
        let second = storage.store_filter(&alice, "{}", 2).await.unwrap().unwrap();
        assert_ne!(first, second);
        assert_eq!(storage.store_filter(&alice, r#"{"room":{}}"#, 2).await.unwrap().as_ref(), Some(&first));
        assert_eq!(storage.store_filter(&alice, r#"{"more":{}}"#, 2).await.unwrap(), None, "one too many");
        assert_eq!(storage.filter(&alice, &first).await.unwrap().as_deref(), Some(r#"{"room":{}}"#));
        assert_eq!(storage.filter(&alice, &second).await.unwrap().as_deref(), Some("{}"));
        assert_eq!(storage.filter(&bob, &first).await.unwrap(), None, "nobody sees another's");
        for nonsense in ["", "x", "1 OR 1=1", "99999999999999999999", "nul\0"] {
            assert_eq!(storage.filter(&alice, nonsense).await.unwrap(), None);
        }
    })
    .await;
}
