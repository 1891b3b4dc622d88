//! Keys of other servers.

use homeserver_storage::ServerKeyRecord;
use ruma::{OwnedServerSigningKeyId, owned_server_name, server_name};

use crate::stage::on_each_database;

fn key(id: &str, public_key: u8, valid_until_ts: u64, expired_ts: Option<u64>) -> ServerKeyRecord {
    let key_id = OwnedServerSigningKeyId::try_from(id).unwrap();
    ServerKeyRecord {
        server: owned_server_name!("far"),
        key_id,
        public_key: vec![public_key; 32],
        valid_until_ts,
        expired_ts,
    }
}

#[tokio::test]
async fn the_bytes_of_a_key_are_never_replaced() {
    on_each_database(async |stage| {
        let storage = &stage.storage;
        let far = server_name!("far");
        storage.store_server_keys(&[key("ed25519:a", 1, 1000, None), key("ed25519:b", 2, 1000, None)]).await.unwrap();
        // Other bytes and a longer life for one, a longer life and an end for the other.
        storage
            .store_server_keys(&[key("ed25519:a", 9, 9000, None), key("ed25519:b", 2, 2000, Some(1500))])
            .await
            .unwrap();
        let mut keys = storage.server_keys(far).await.unwrap();
        keys.sort_by(|a, b| a.key_id.cmp(&b.key_id));
        assert_eq!(keys, [key("ed25519:a", 1, 1000, None), key("ed25519:b", 2, 2000, Some(1500))]);
        assert!(storage.server_keys(server_name!("near")).await.unwrap().is_empty());
        storage.store_server_keys(&[key("ed25519:c", 3, u64::MAX, None)]).await.unwrap();
        assert_eq!(storage.server_keys(far).await.unwrap().len(), 3, "an absurd time does no harm");
    })
    .await;
}
