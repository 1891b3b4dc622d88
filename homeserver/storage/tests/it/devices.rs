//! Devices, access tokens, refresh tokens.

use homeserver_storage::{NewSession, RefreshOutcome, Storage, Submission};
use rules::Change;
use ruma::{OwnedDeviceId, device_id, owned_device_id};
use tokio::task::JoinSet;

use crate::stage::{on_each_database, user};

fn session(device_id: OwnedDeviceId, access: u8, refresh: Option<u8>) -> NewSession {
    NewSession {
        user_id: user("@alice:here"),
        device_id,
        display_name: Some(format!("device {access}")),
        access_token_hash: [access; 32],
        access_token_expires_ts: Some(5000),
        refresh_token_hash: refresh.map(|refresh| [refresh; 32]),
        now_ts: 1000,
    }
}

async fn works(storage: &Storage, access: u8) -> bool {
    storage.access_token(&[access; 32]).await.unwrap().is_some()
}

async fn refresh(storage: &Storage, refresh: u8, access: u8, next: u8) -> RefreshOutcome {
    storage.refresh(&[refresh; 32], [access; 32], Some(9000), [next; 32], 2000).await.unwrap()
}

fn refreshed() -> RefreshOutcome {
    RefreshOutcome::Refreshed { user_id: user("@alice:here"), device_id: owned_device_id!("PHONE") }
}

#[tokio::test]
async fn a_session_is_a_device_with_a_token() {
    on_each_database(async |stage| {
        let storage = &stage.storage;
        storage.create_session(session(owned_device_id!("PHONE"), 1, None)).await.unwrap();
        let token = storage.access_token(&[1; 32]).await.unwrap().unwrap();
        assert_eq!((token.user_id, token.device_id), (user("@alice:here"), owned_device_id!("PHONE")));
        assert_eq!((token.expires_ts, token.deactivated), (Some(5000), false));
        assert!(!works(storage, 7).await);
        // The same device logs in again: its name stays, its old token goes.
        storage.create_session(session(owned_device_id!("PHONE"), 2, None)).await.unwrap();
        assert!(!works(storage, 1).await && works(storage, 2).await);
        let devices = storage.devices(&user("@alice:here")).await.unwrap();
        assert_eq!(devices.len(), 1);
        assert_eq!(devices[0].display_name.as_deref(), Some("device 1"));
        stage.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn devices_can_be_named_seen_and_deleted() {
    on_each_database(async |stage| {
        let (storage, alice) = (&stage.storage, user("@alice:here"));
        for (device, access) in [("A", 1), ("B", 2), ("C", 3), ("D", 4)] {
            storage.create_session(session(device.into(), access, Some(access + 100))).await.unwrap();
        }
        assert!(storage.set_device_display_name(&alice, device_id!("A"), Some("phone")).await.unwrap());
        assert!(!storage.set_device_display_name(&alice, device_id!("X"), Some("phone")).await.unwrap());
        storage.touch_device(&alice, device_id!("A"), 1234, "::1").await.unwrap();
        let device = storage.device(&alice, device_id!("A")).await.unwrap().unwrap();
        assert_eq!(device.display_name.as_deref(), Some("phone"));
        assert_eq!((device.last_seen_ts, device.last_seen_ip.as_deref()), (Some(1234), Some("::1")));

        assert!(works(storage, 2).await, "it is in the cache now");
        stage.log_out(&alice, &["B", "X", "no\0device"]).await;
        assert!(!works(storage, 2).await && works(storage, 1).await);
        assert_eq!(refresh(storage, 102, 9, 10).await, RefreshOutcome::Unknown);
        storage.delete_all_devices(&alice, Some(device_id!("C"))).await.unwrap();
        assert!(!works(storage, 1).await && works(storage, 3).await && !works(storage, 4).await);
        storage.delete_all_devices(&alice, None).await.unwrap();
        assert!(!works(storage, 3).await);
        assert!(storage.devices(&alice).await.unwrap().is_empty());
        assert!(storage.device(&alice, device_id!("A")).await.unwrap().is_none());
        stage.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn signatures_of_a_device_and_on_it_go_with_it() {
    on_each_database(async |stage| {
        let (storage, alice) = (&stage.storage, user("@alice:here"));
        storage.create_session(session(owned_device_id!("A"), 1, None)).await.unwrap();
        let signature = |target: &str, key_id: &str| Change::KeySignature {
            target_user_id: alice.clone(),
            target_id: target.to_owned(),
            signer: alice.clone(),
            key_id: key_id.to_owned(),
            signature: "x".to_owned(),
        };
        let signed = [("A", "ed25519:self"), ("MASTER", "ed25519:A"), ("MASTER", "ed25519:B"), ("B", "ed25519:self")];
        let changes = signed.map(|(target, key_id)| signature(target, key_id)).to_vec();
        storage.commit(Submission { room: None, changes }).await.unwrap();
        stage.log_out(&alice, &["A"]).await;
        let left = storage.key_signatures(std::slice::from_ref(&alice), None).await.unwrap();
        let mut left: Vec<_> = left.iter().map(|left| (left.target_id.as_str(), left.key_id.as_str())).collect();
        left.sort_unstable();
        assert_eq!(left, [("B", "ed25519:self"), ("MASTER", "ed25519:B")]);
    })
    .await;
}

#[tokio::test]
async fn the_old_pair_dies_on_the_first_use_of_the_new() {
    on_each_database(async |stage| {
        let storage = &stage.storage;
        storage.create_session(session(owned_device_id!("PHONE"), 1, Some(101))).await.unwrap();
        storage.create_session(session(owned_device_id!("LAPTOP"), 50, Some(150))).await.unwrap();
        assert!(works(storage, 1).await);
        assert_eq!(refresh(storage, 101, 2, 102).await, refreshed());
        assert!(works(storage, 1).await, "the answer may have been lost");
        assert!(works(storage, 2).await);
        assert!(!works(storage, 1).await);
        assert!(works(storage, 2).await);
        // The refresh token of the new pair is its use as well.
        assert_eq!(refresh(storage, 102, 3, 103).await, refreshed());
        assert_eq!(refresh(storage, 103, 4, 104).await, refreshed());
        assert!(!works(storage, 2).await && works(storage, 4).await && works(storage, 50).await);
        assert_eq!(refresh(storage, 7, 8, 9).await, RefreshOutcome::Unknown);
        stage.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn a_lost_answer_can_be_asked_for_again() {
    on_each_database(async |stage| {
        let storage = &stage.storage;
        storage.create_session(session(owned_device_id!("PHONE"), 1, Some(101))).await.unwrap();
        assert_eq!(refresh(storage, 101, 2, 102).await, refreshed());
        assert_eq!(refresh(storage, 101, 3, 103).await, refreshed());
        assert!(!works(storage, 2).await, "the pair that got lost is taken back");
        assert_eq!(refresh(storage, 102, 8, 9).await, RefreshOutcome::Unknown);
        assert!(works(storage, 3).await);
        assert!(!works(storage, 1).await);
    })
    .await;
}

#[tokio::test]
async fn a_refresh_token_that_is_spent_twice_revokes_everything_of_the_device() {
    on_each_database(async |stage| {
        let storage = &stage.storage;
        storage.create_session(session(owned_device_id!("PHONE"), 1, Some(101))).await.unwrap();
        storage.create_session(session(owned_device_id!("LAPTOP"), 50, None)).await.unwrap();
        refresh(storage, 101, 2, 102).await;
        assert!(works(storage, 2).await);
        assert_eq!(refresh(storage, 101, 3, 103).await, RefreshOutcome::Reused);
        assert!(!works(storage, 2).await && !works(storage, 3).await);
        assert_eq!(refresh(storage, 102, 4, 104).await, RefreshOutcome::Unknown);
        assert!(works(storage, 50).await, "other devices are not concerned");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refreshing_at_the_same_time_leaves_one_pair() {
    on_each_database(async |stage| {
        stage.storage.create_session(session(owned_device_id!("PHONE"), 1, Some(101))).await.unwrap();
        let mut racers = JoinSet::new();
        for racer in 2..12 {
            let storage = stage.storage.clone();
            racers.spawn(async move { refresh(&storage, 101, racer, 100 + racer).await });
        }
        assert!(racers.join_all().await.iter().all(|outcome| *outcome == refreshed()));
        let rows = stage.query("SELECT user_id FROM access_tokens").await;
        assert_eq!(rows.len(), 2, "the old one and one new one");
    })
    .await;
}
