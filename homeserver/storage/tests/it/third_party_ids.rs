//! Addresses of people, and how they show that an address is theirs.

use homeserver_storage::{AddressValidation, ThirdPartyId};

use crate::stage::{on_each_database, user};

fn id(address: &str, name: &str, ts: u64) -> ThirdPartyId {
    ThirdPartyId {
        medium: "email".to_owned(),
        address: address.to_owned(),
        user_id: user(&format!("@{name}:here")),
        validated_ts: ts,
        added_ts: ts,
    }
}

fn validation(session_id: &str, secret: &str, hash: u8) -> AddressValidation {
    AddressValidation {
        session_id: session_id.to_owned(),
        purpose: "add".to_owned(),
        medium: "email".to_owned(),
        address: "a@mail.example".to_owned(),
        client_secret: secret.to_owned(),
        send_attempt: 1,
        token_hash: [hash; 32],
        next_link: None,
        expires_ts: 1000,
        validated_ts: None,
    }
}

#[tokio::test]
async fn an_address_belongs_to_one_account() {
    on_each_database(async |stage| {
        let storage = &stage.storage;
        assert!(storage.add_third_party_id(&id("a@mail.example", "alice", 1)).await.unwrap());
        assert!(!storage.add_third_party_id(&id("a@mail.example", "bob", 2)).await.unwrap());
        assert!(storage.add_third_party_id(&id("a@mail.example", "alice", 3)).await.unwrap());
        assert!(storage.add_third_party_id(&id("b@mail.example", "alice", 4)).await.unwrap());
        let alice = user("@alice:here");
        let addresses = storage.third_party_ids(&alice).await.unwrap();
        let addresses: Vec<_> = addresses.iter().map(|id| (&*id.address, id.validated_ts, id.added_ts)).collect();
        assert_eq!(addresses, [("a@mail.example", 3, 1), ("b@mail.example", 4, 4)]);
        storage.delete_third_party_id(&user("@bob:here"), "email", "a@mail.example").await.unwrap();
        assert!(storage.third_party_id("email", "a@mail.example").await.unwrap().is_some(), "not bob's to take away");
        storage.delete_third_party_id(&alice, "email", "a@mail.example").await.unwrap();
        assert_eq!(storage.third_party_id("email", "a@mail.example").await.unwrap(), None);
        storage.deactivate_account(&alice, false).await.unwrap();
        assert!(storage.third_party_ids(&alice).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn s_116_only_the_last_letter_counts_and_only_once() {
    on_each_database(async |stage| {
        let storage = &stage.storage;
        storage.put_address_validation(&validation("one", "secret", 1), 1).await.unwrap();
        storage.put_address_validation(&validation("two", "secret", 2), 1).await.unwrap();
        assert_eq!(storage.address_validation("one").await.unwrap(), None, "the same client asked again");
        let of = storage.address_validation_of("add", "email", "a@mail.example", "secret").await.unwrap();
        assert_eq!(of, Some(validation("two", "secret", 2)));
        assert!(!storage.spend_address_validation("two").await.unwrap(), "nobody has followed the link yet");
        assert!(!storage.validate_address("two", "secret", &[1; 32], 2).await.unwrap());
        assert!(!storage.validate_address("two", "another", &[2; 32], 2).await.unwrap());
        assert!(!storage.validate_address("two", "secret", &[2; 32], 1000).await.unwrap(), "too late");
        assert!(storage.validate_address("two", "secret", &[2; 32], 5).await.unwrap());
        assert!(storage.validate_address("two", "secret", &[2; 32], 6).await.unwrap(), "who follows it twice is fine");
        assert_eq!(storage.address_validation("two").await.unwrap().unwrap().validated_ts, Some(5));
        assert!(storage.spend_address_validation("two").await.unwrap());
        assert!(!storage.spend_address_validation("two").await.unwrap());
    })
    .await;
}
