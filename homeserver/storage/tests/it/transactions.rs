//! What must not be done twice.

use rules::Change;
use ruma::{device_id, owned_device_id, server_name};

use crate::stage::{event_id, on_each_database, user};

#[tokio::test]
async fn a_clients_transaction_is_told_from_others() {
    on_each_database(async |stage| {
        let alice = user("@alice:here");
        let change = Change::TransactionId {
            user_id: alice.clone(),
            device_id: owned_device_id!("A"),
            scope: "send".to_owned(),
            transaction_id: "1".to_owned(),
            event_id: event_id("$e"),
            ts: 1_000,
        };
        stage.commit_unguarded(vec![change]).await.unwrap();
        let known = async |device: &str, scope: &str, id: &str| {
            stage.storage.transaction(&alice, device.into(), scope, id).await.unwrap()
        };
        assert_eq!(known("A", "send", "1").await, Some(event_id("$e")));
        assert_eq!(known("B", "send", "1").await, None);
        assert_eq!(known("A", "redact", "1").await, None);
        assert_eq!(known("A", "send", "2").await, None);
        let bob = stage.storage.transaction(&user("@bob:here"), device_id!("A"), "send", "1").await.unwrap();
        assert_eq!(bob, None);
        assert_eq!(stage.storage.prune_client_transactions(1_000, 10).await.unwrap(), 0);
        assert_eq!(stage.storage.prune_client_transactions(1_001, 10).await.unwrap(), 1);
        assert_eq!(known("A", "send", "1").await, None);
    })
    .await;
}

#[tokio::test]
async fn the_first_answer_to_a_server_stands_until_it_is_pruned() {
    on_each_database(async |stage| {
        let (storage, far) = (&stage.storage, server_name!("far"));
        assert_eq!(storage.received_transaction(far, "t").await.unwrap(), None);
        storage.record_received_transaction(far, "t", "{}", 1000).await.unwrap();
        storage.record_received_transaction(far, "t", "other", 2000).await.unwrap();
        storage.record_received_transaction(far, "u", "{}", 3000).await.unwrap();
        assert_eq!(storage.received_transaction(far, "t").await.unwrap().as_deref(), Some("{}"));
        assert_eq!(storage.received_transaction(server_name!("near"), "t").await.unwrap(), None);
        assert_eq!(storage.prune_received_transactions(1000).await.unwrap(), 0);
        assert_eq!(storage.prune_received_transactions(1001).await.unwrap(), 1);
        assert_eq!(storage.received_transaction(far, "t").await.unwrap(), None);
        assert!(storage.received_transaction(far, "u").await.unwrap().is_some());
    })
    .await;
}
