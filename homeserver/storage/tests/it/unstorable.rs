//! What one of the databases cannot keep has the same outcome on both.

use homeserver_storage::{CommitError, StorageError};
use rules::Change;
use ruma::{events::StateEventType, owned_device_id};
use serde_json::json;

use crate::stage::{
    event, event_ids, extremities, live, message, on_each_database, room, set_state, state_event, user,
};

#[tokio::test]
async fn a_state_key_with_nul_is_kept_as_it_is() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let odd = event(
            "$odd",
            json!({ "type": "odd\0type", "state_key": "nul\0key", "content": { "body": "nul\0body" },
                "prev_events": ["$alice_joins"], "auth_events": ["$create"] }),
        );
        stage.commit(vec![live(&odd), set_state(&[&odd]), extremities(&["$odd"])]).await;
        let stage = stage.reopen().await;
        let stored = stage.stored("$odd").await.unwrap();
        assert_eq!(stored.pdu.json, odd.json);
        assert_eq!(stored.pdu.state_key.as_deref(), Some("nul\0key"));
        let head = stage.storage.head();
        let event_type = StateEventType::from("odd\0type");
        let entry = stage.storage.state_entry_at(&room(), &event_type, "nul\0key", head).await.unwrap().unwrap();
        assert_eq!((entry.event_type, entry.state_key.as_str()), (event_type, "nul\0key"));
        stage.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn references_that_cannot_be_kept_are_left_out() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let long = format!("${}", "x".repeat(5000));
        let odd = json!({ "prev_events": ["$alice_joins", "$nul\0", long], "auth_events": ["$create", "$nul\0"] });
        stage.commit(vec![live(&event("$odd", odd)), extremities(&["$odd"])]).await;
        assert!(stage.storage.missing_prev_events(&room()).await.unwrap().is_empty());
        let known = stage.storage.event_ids_known(&event_ids(&["$odd", "$nul\0", &long])).await.unwrap();
        assert_eq!(known.len(), 1);
        assert!(stage.stored("$nul\0").await.is_none());
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_kept_is_refused() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let data = |event_type: &str| Change::AccountData {
            user_id: user("@alice:here"),
            room_id: None,
            event_type: event_type.to_owned(),
            content: serde_json::value::to_raw_value(&json!({ "nul": "\0" })).unwrap(),
        };
        let transaction = Change::TransactionId {
            user_id: user("@alice:here"),
            device_id: owned_device_id!("A"),
            scope: "send".to_owned(),
            transaction_id: "nul\0".to_owned(),
            event_id: ruma::owned_event_id!("$e"),
            ts: 1_000,
        };
        let long_name = state_event("$long", "t", &"x".repeat(900), json!({}));
        for change in
            [data("nul\0"), data(&"x".repeat(900)), transaction, live(&long_name), live(&message("$\0", "$x"))]
        {
            let outcome = stage.commit_unguarded(vec![change]).await;
            assert!(matches!(outcome, Err(CommitError::Storage(StorageError::Unstorable(_)))), "{outcome:?}");
        }
        stage.commit_unguarded(vec![data("fine")]).await.unwrap();
        let looked_up = stage.storage.account_data(&user("@alice:here"), None, "nul\0").await;
        assert!(matches!(looked_up, Err(StorageError::Unstorable(_))));
    })
    .await;
}

#[tokio::test]
async fn texts_that_are_only_shown_lose_what_cannot_be_kept() {
    on_each_database(async |stage| {
        let alice = user("@alice:here");
        let account = homeserver_storage::NewAccount {
            user_id: alice.clone(),
            password_hash: None,
            display_name: None,
            created_ts: 1,
            guest: false,
            admin: false,
        };
        stage.storage.create_account(account, None).await.unwrap();
        stage.storage.set_display_name(&alice, Some("a\0b'; DROP TABLE events; --%_")).await.unwrap();
        let name = stage.storage.profile(&alice).await.unwrap().unwrap().display_name;
        assert_eq!(name.as_deref(), Some("a\u{fffd}b'; DROP TABLE events; --%_"));
        stage.assert_sound().await;
    })
    .await;
}
