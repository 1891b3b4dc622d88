//! Keys that are handed out once.

use std::collections::BTreeSet;

use homeserver_storage::{KeyClaim, NewOneTimeKey, NewSession, OneTimeKeysUpload, Storage};
use ruma::{DeviceId, UserId, device_id, user_id};

use crate::stage::on_each_database;

fn alice() -> (&'static UserId, &'static DeviceId) {
    (user_id!("@alice:a"), device_id!("PHONE"))
}

fn key(id: usize, json: &str) -> NewOneTimeKey {
    NewOneTimeKey {
        algorithm: "signed_curve25519".to_owned(),
        key_id: format!("K{id:04}"),
        key: serde_json::from_str(json).unwrap(),
    }
}

fn claim() -> KeyClaim {
    let (user_id, device_id) = alice();
    let algorithm = "signed_curve25519".to_owned();
    KeyClaim { user_id: user_id.to_owned(), device_id: device_id.to_owned(), algorithm }
}

async fn log_in(storage: &Storage) {
    let (user_id, device_id) = alice();
    let session = NewSession {
        user_id: user_id.to_owned(),
        device_id: device_id.to_owned(),
        display_name: None,
        access_token_hash: [7; 32],
        access_token_expires_ts: None,
        refresh_token_hash: None,
        now_ts: 1,
    };
    storage.create_session(session).await.unwrap();
}

async fn add(storage: &Storage, keys: &[NewOneTimeKey], fallback: &[NewOneTimeKey]) -> OneTimeKeysUpload {
    let (user_id, device_id) = alice();
    storage.add_one_time_keys(user_id, device_id, keys, fallback, 100).await.unwrap()
}

async fn take(storage: &Storage) -> Option<String> {
    storage.claim_one_time_keys(&[claim()]).await.unwrap().pop().map(|claimed| claimed.key_id)
}

#[tokio::test]
async fn s_081_each_key_is_handed_out_once_ever() {
    on_each_database(async |stage| {
        assert_eq!(add(&stage.storage, &[key(0, "{}")], &[]).await, OneTimeKeysUpload::NoDevice);
        log_in(&stage.storage).await;
        let keys: Vec<NewOneTimeKey> = (0..100).map(|id| key(id, "{}")).collect();
        assert_eq!(add(&stage.storage, &keys, &[]).await, OneTimeKeysUpload::Stored);
        assert_eq!(add(&stage.storage, &[key(100, "{}")], &[]).await, OneTimeKeysUpload::TooMany);
        let claims = (0..200).map(|_| {
            let storage = stage.storage.clone();
            tokio::spawn(async move { take(&storage).await })
        });
        let mut claimed = Vec::new();
        for claim in claims.collect::<Vec<_>>() {
            claimed.extend(claim.await.unwrap());
        }
        assert_eq!(claimed.len(), 100);
        assert_eq!(claimed.iter().collect::<BTreeSet<_>>().len(), 100);
        // The client repeats its upload, because the answer was lost; and the server was restarted.
        let stage = stage.reopen().await;
        assert_eq!(add(&stage.storage, &keys, &[]).await, OneTimeKeysUpload::Stored);
        assert_eq!(take(&stage.storage).await, None);
    })
    .await;
}

#[tokio::test]
async fn keys_come_in_the_order_of_their_upload_and_then_the_fallback() {
    on_each_database(async |stage| {
        log_in(&stage.storage).await;
        for id in [2, 0, 1] {
            add(&stage.storage, &[key(id, "{}")], &[]).await;
        }
        let conflict = add(&stage.storage, &[key(5, "{}"), key(1, "{\"other\":1}")], &[]).await;
        assert_eq!(conflict, OneTimeKeysUpload::Conflict("signed_curve25519:K0001".to_owned()));
        add(&stage.storage, &[], &[key(9, "{}")]).await;
        let (user_id, device_id) = alice();
        let counts = stage.storage.key_counts(user_id, device_id).await.unwrap();
        assert_eq!(counts.one_time_keys["signed_curve25519"], 3);
        assert_eq!(counts.unused_fallback_algorithms, ["signed_curve25519"]);
        for expected in ["K0002", "K0000", "K0001", "K0009", "K0009"] {
            assert_eq!(take(&stage.storage).await.as_deref(), Some(expected));
        }
        let counts = stage.storage.key_counts(user_id, device_id).await.unwrap();
        assert_eq!(counts, homeserver_storage::KeyCounts::default());
        // The same fallback key again is as used as before; another one is not.
        add(&stage.storage, &[], &[key(9, "{}")]).await;
        assert!(stage.storage.key_counts(user_id, device_id).await.unwrap().unused_fallback_algorithms.is_empty());
        add(&stage.storage, &[], &[key(10, "{}")]).await;
        assert_eq!(stage.storage.key_counts(user_id, device_id).await.unwrap().unused_fallback_algorithms.len(), 1);
        stage.log_out(user_id, &[device_id.as_str()]).await;
        assert_eq!(take(&stage.storage).await, None);
    })
    .await;
}

#[tokio::test]
async fn s_081_claims_of_more_than_one_transaction_get_all_there_is() {
    on_each_database(async |stage| {
        log_in(&stage.storage).await;
        let keys: Vec<NewOneTimeKey> = (0..100).map(|id| key(id, "{}")).collect();
        add(&stage.storage, &keys, &[]).await;
        let mut claims = vec![KeyClaim { device_id: device_id!("NONE").to_owned(), ..claim() }; 1_150];
        claims.extend(vec![claim(); 50]);
        let (large, small) = tokio::join!(stage.storage.claim_one_time_keys(&claims), take(&stage.storage));
        let mut claimed: BTreeSet<String> = large.unwrap().into_iter().map(|claimed| claimed.key_id).collect();
        assert_eq!(claimed.len(), 50);
        assert!(claimed.insert(small.unwrap()));
    })
    .await;
}

#[tokio::test]
async fn s_081_who_gives_up_holds_up_nobody() {
    on_each_database(async |stage| {
        log_in(&stage.storage).await;
        let keys: Vec<NewOneTimeKey> = (0..100).map(|id| key(id, "{}")).collect();
        add(&stage.storage, &keys, &[]).await;
        let claims = (0..60).map(|_| {
            let storage = stage.storage.clone();
            tokio::spawn(async move { take(&storage).await })
        });
        let claims: Vec<_> = claims.collect();
        tokio::task::yield_now().await;
        claims.iter().take(20).for_each(tokio::task::JoinHandle::abort);
        let mut claimed = BTreeSet::new();
        for claim in claims.into_iter().skip(20) {
            claimed.insert(claim.await.unwrap().unwrap());
        }
        assert_eq!(claimed.len(), 40);
        assert!(!claimed.contains(&take(&stage.storage).await.unwrap()));
    })
    .await;
}

#[tokio::test]
async fn what_a_device_has_left_is_read_once_until_it_changes() {
    on_each_database(async |stage| {
        log_in(&stage.storage).await;
        let (user_id, device_id) = alice();
        let left = async || {
            let counts = stage.storage.key_counts(user_id, device_id).await.unwrap();
            counts.one_time_keys.get("signed_curve25519").copied().unwrap_or(0)
        };
        add(&stage.storage, &[key(0, "{}"), key(1, "{}")], &[]).await;
        assert_eq!(left().await, 2);
        let reads = stage.storage.reads();
        assert_eq!(left().await, 2);
        assert_eq!(stage.storage.reads(), reads);
        take(&stage.storage).await;
        assert_eq!(left().await, 1);
        stage.storage.forget_device_identity(user_id, device_id).await.unwrap();
        assert_eq!(left().await, 0);
        add(&stage.storage, &[key(2, "{}")], &[]).await;
        assert_eq!(left().await, 1);
        stage.log_out(user_id, &[device_id.as_str()]).await;
        assert_eq!(left().await, 0);
    })
    .await;
}

/// A client that goes away in the midst of an upload leaves no count behind that is no longer true.
#[tokio::test]
async fn an_upload_that_is_given_up_is_counted_if_it_was_done() {
    on_each_database(async |stage| {
        log_in(&stage.storage).await;
        let (user_id, device_id) = alice();
        for id in 0..30 {
            let keys = [key(id, "{}")];
            let mut upload = Box::pin(stage.storage.add_one_time_keys(user_id, device_id, &keys, &[], 100));
            for _ in 0..id {
                if futures_util::future::poll_immediate(&mut upload).await.is_some() {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_micros(100)).await;
            }
            drop(upload);
            // Remembered while the transaction may still be under way.
            stage.storage.key_counts(user_id, device_id).await.unwrap();
        }
        let settled = async {
            loop {
                let known = stage.storage.key_counts(user_id, device_id).await.unwrap();
                let anew = stage.another().await;
                if known == anew.key_counts(user_id, device_id).await.unwrap() {
                    return anew.close().await;
                }
                anew.close().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_mins(1), settled).await.expect("the counts are true");
    })
    .await;
}
