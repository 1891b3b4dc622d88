//! Secrets that a user keeps in the account data.

use std::collections::BTreeMap;

use machine::{DEFAULT_KEY, STORED_SECRETS, SecretStorageError, SecretStorageKey, default_key_id};
use serde_json::{Value, json};

use crate::party::{Party, world};
use crate::server::Object;

fn object(value: Value) -> Object {
    let Value::Object(object) = value else { panic!("{value} is no object") };
    object
}

/// Alice with an identity and a backup, and what she stored.
fn stored(key: &SecretStorageKey) -> (Party, BTreeMap<String, Object>) {
    let mut party = Party::new(&["alice", "bob"]);
    party.bootstrap(0);
    let client = &mut party.clients[0];
    let held = client.machine.create_backup();
    client.keep(held);
    party.pump();
    let stored = party.clients[0].machine.store_secrets(key, &BTreeMap::new()).unwrap();
    (party, stored)
}

fn offer_backup(party: &mut Party, who: usize) {
    let (version, auth_data) = party.server.backup.clone().unwrap();
    let client = &mut party.clients[who];
    let held = client.machine.use_backup(&version, "m.megolm_backup.v1.curve25519-aes-sha2", &auth_data);
    client.keep(held);
}

#[test]
fn a_new_device_opens_the_storage_and_is_verified_by_that() {
    let (world, _) = world();
    let made = SecretStorageKey::new(&world);
    let (mut party, stored) = stored(&made);
    let laptop = party.add("alice/LAPTOP");
    party.pump();
    let id = default_key_id(&stored[DEFAULT_KEY]).unwrap();
    let description = &stored[&format!("m.secret_storage.key.{id}")];
    let key = SecretStorageKey::open_by_recovery_key(id, description, &made.recovery_key()).unwrap();

    let open = |party: &mut Party, stored: &BTreeMap<String, Object>| {
        let client = &mut party.clients[laptop];
        let held = client.machine.open_secrets(&key, stored);
        client.keep(held)
    };
    assert_eq!(open(&mut party, &stored), STORED_SECRETS[..3], "no backup was offered");
    offer_backup(&mut party, laptop);
    let backup = BTreeMap::from([(STORED_SECRETS[3].to_owned(), stored[STORED_SECRETS[3]].clone())]);
    assert_eq!(open(&mut party, &backup), STORED_SECRETS[3..]);
    party.pump();
    party.restart(laptop);
    let machine = &party.clients[laptop].machine;
    let status = machine.cross_signing_status();
    assert!(status.has_master && status.has_self_signing && status.has_user_signing && status.is_trusted);
    assert!(machine.backup_version().is_some());
    let (user_id, device_id) = party.clients[laptop].place.clone();
    assert!(party.clients[0].machine.is_device_verified(&user_id, &device_id));
}

#[test]
fn what_other_keys_sealed_stays() {
    let (world, _) = world();
    let (first, second) = (SecretStorageKey::new(&world), SecretStorageKey::new(&world));
    let (party, mut stored) = stored(&first);
    let machine = &party.clients[0].machine;
    let again = machine.store_secrets(&second, &stored).unwrap();
    assert_eq!(default_key_id(&again[DEFAULT_KEY]), Some(second.id()), "it opens everything");
    for name in STORED_SECRETS {
        assert_eq!(first.open(name, &again[name]), second.open(name, &again[name]), "{name}");
        assert!(first.open(name, &again[name]).is_ok(), "{name}");
    }
    let elsewhere = first.seal(&world, "org.other", "a secret of another client");
    stored.insert("org.other".to_owned(), object(json!({ "encrypted": { first.id(): elsewhere } })));
    let beside = machine.store_secrets(&second, &stored).unwrap();
    assert!(!beside.contains_key(DEFAULT_KEY), "only the first opens all: {beside:?}");
    // One that nothing tells from others would lock the user out.
    let mut unchecked = first.description().clone();
    unchecked.remove("mac");
    let any = SecretStorageKey::open_by_recovery_key(first.id(), &unchecked, &second.recovery_key()).unwrap();
    assert_eq!(machine.store_secrets(&any, &stored), Err(SecretStorageError::Unchecked));
}

#[test]
fn secrets_of_another_identity_are_not_taken() {
    let (world, _) = world();
    let key = SecretStorageKey::new(&world);
    let (mut party, stored) = stored(&key);
    party.bootstrap(0);
    let laptop = party.add("alice/LAPTOP");
    party.pump();
    let client = &mut party.clients[laptop];
    let held = client.machine.open_secrets(&key, &stored);
    assert!(client.keep(held).is_empty());
    assert!(!client.machine.cross_signing_status().is_trusted);
}

#[test]
fn a_key_opens_what_it_sealed_and_nothing_else() {
    let (world, _) = world();
    let key = SecretStorageKey::new(&world);
    let content = |sealed: &Object| object(json!({ "encrypted": { key.id(): sealed } }));
    let sealed = key.seal(&world, "m.some", "a secret");
    assert_eq!(*key.open("m.some", &content(&sealed)).unwrap(), "a secret");
    assert_eq!(key.open("m.other", &content(&sealed)), Err(SecretStorageError::Sealed), "sealed under its name");
    for (field, value) in [("mac", json!("AAAA")), ("iv", json!("AAAA")), ("ciphertext", json!("AAAA"))] {
        let mut damaged = sealed.clone();
        damaged.insert(field.to_owned(), value);
        assert_eq!(key.open("m.some", &content(&damaged)), Err(SecretStorageError::Sealed), "{field}");
        damaged.remove(field);
        assert_eq!(key.open("m.some", &content(&damaged)), Err(SecretStorageError::Sealed), "{field}");
    }
    let padded = sealed.iter().map(|(field, value)| {
        let text = value.as_str().unwrap();
        (field.clone(), json!(format!("{text}{}", "=".repeat((4 - text.len() % 4) % 4))))
    });
    assert!(key.open("m.some", &content(&padded.collect())).is_ok(), "others write padding");
    assert_eq!(key.open("m.some", &Object::new()), Err(SecretStorageError::Sealed));
}

#[test]
fn only_the_right_key_is_taken() {
    let (world, _) = world();
    let (key, other) = (SecretStorageKey::new(&world), SecretStorageKey::new(&world));
    let open = |description: &Object, text: &str| {
        SecretStorageKey::open_by_recovery_key(key.id(), description, text).map(|key| key.id().to_owned())
    };
    assert_eq!(open(key.description(), &key.recovery_key()), Ok(key.id().to_owned()));
    assert_eq!(open(key.description(), &other.recovery_key()), Err(SecretStorageError::OtherKey));
    assert_eq!(open(key.description(), "nothing"), Err(SecretStorageError::OtherKey));
    let mut unchecked = key.description().clone();
    unchecked.remove("mac");
    assert!(open(&unchecked, &other.recovery_key()).is_ok(), "there is nothing to tell it by");
    let mut strange = key.description().clone();
    strange.insert("algorithm".into(), json!("m.secret_storage.v2"));
    assert_eq!(open(&strange, &key.recovery_key()), Err(SecretStorageError::OtherKind));
    let by_passphrase = |key: &SecretStorageKey, text: &str| {
        SecretStorageKey::open_by_passphrase(key.id(), key.description(), text).map(|key| key.recovery_key())
    };
    assert_eq!(by_passphrase(&key, "a secret phrase"), Err(SecretStorageError::NoPassphrase));
    let thought_up = SecretStorageKey::from_new_passphrase(&world, "a secret phrase");
    assert_eq!(by_passphrase(&thought_up, "a secret phrase"), Ok(thought_up.recovery_key()));
    assert_eq!(by_passphrase(&thought_up, "another phrase"), Err(SecretStorageError::OtherKey));
}
