//! Devices that nobody is logged in with.

use homeserver_storage::DehydratedDevice;
use ruma::{OwnedDeviceId, UserId, owned_device_id, user_id};

use crate::stage::on_each_database;

fn alice() -> &'static UserId {
    user_id!("@alice:a")
}

fn device(device_id: OwnedDeviceId, data: &str) -> DehydratedDevice {
    DehydratedDevice { device_id, device_data: serde_json::from_str(data).unwrap() }
}

#[tokio::test]
async fn a_user_has_one_dehydrated_device_at_most() {
    on_each_database(async |stage| {
        let storage = &stage.storage;
        assert!(storage.dehydrated_device(alice()).await.unwrap().is_none());
        let first = device(owned_device_id!("SLEEPER"), r#"{"algorithm":"a","key":"\u0001"}"#);
        assert!(storage.create_dehydrated_device(alice(), &first, Some("Dehydrated\0device")).await.unwrap());
        let again = device(owned_device_id!("SLEEPER"), "{}");
        assert!(!storage.create_dehydrated_device(alice(), &again, None).await.unwrap(), "the id is taken");
        let second = device(owned_device_id!("OTHER"), "{}");
        assert!(!storage.create_dehydrated_device(alice(), &second, None).await.unwrap(), "there is one already");
        let devices = storage.devices(alice()).await.unwrap();
        assert_eq!(devices.len(), 1, "what was refused left nothing behind: {devices:?}");
        assert!(storage.create_dehydrated_device(user_id!("@bob:a"), &second, None).await.unwrap());

        let stage = stage.reopen().await;
        let storage = &stage.storage;
        let kept = storage.dehydrated_device(alice()).await.unwrap().unwrap();
        assert_eq!((kept.device_id.as_str(), kept.device_data.get()), ("SLEEPER", first.device_data.get()));
        assert!(storage.is_dehydrated(alice(), &first.device_id).await.unwrap());
        assert!(!storage.is_dehydrated(alice(), &second.device_id).await.unwrap());
        storage.update_dehydrated_device(alice(), &device(owned_device_id!("OTHER"), r#"{"b":1}"#)).await.unwrap();
        assert_eq!(
            storage.dehydrated_device(alice()).await.unwrap().unwrap().device_data.get(),
            kept.device_data.get()
        );
        storage.update_dehydrated_device(alice(), &device(owned_device_id!("SLEEPER"), r#"{"b":1}"#)).await.unwrap();
        assert_eq!(storage.dehydrated_device(alice()).await.unwrap().unwrap().device_data.get(), r#"{"b":1}"#);
    })
    .await;
}
