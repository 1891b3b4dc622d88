//! The key backup, and encrypted files.

use machine::{AttachmentError, DecryptError, Verdict, decrypt_attachment, encrypt_attachment};
use ruma::api::client::backup::get_backup_keys;

use crate::party::{Party, world};

fn restore(party: &mut Party, who: usize) -> usize {
    let response = get_backup_keys::v3::Response::new(party.server.backup_keys.clone());
    let client = &mut party.clients[who];
    let held = client.machine.restore_backup(&response);
    client.keep(held)
}

fn offer(party: &mut Party, who: usize) -> bool {
    let (version, auth_data) = party.server.backup.clone().unwrap();
    let client = &mut party.clients[who];
    let held = client.machine.use_backup(&version, "m.megolm_backup.v1.curve25519-aes-sha2", &auth_data);
    client.keep(held)
}

#[test]
fn sessions_are_backed_up_and_restored_on_a_new_device() {
    let mut party = Party::new(&["alice", "bob"]);
    let before = party.send(1, "before the backup");
    let client = &mut party.clients[0];
    let held = client.machine.create_backup();
    let recovery_key = client.keep(held);
    party.pump();
    let during = party.send(0, "after it");
    party.pump();
    assert_eq!(party.server.backup_keys.values().map(|room| room.sessions.len()).sum::<usize>(), 2);

    let late = party.add("alice/LAPTOP");
    party.pump();
    assert!(!offer(&mut party, late), "it has no key");
    assert_eq!(restore(&mut party, late), 0);
    let client = &mut party.clients[late];
    assert!(client.machine.set_recovery_key("EsTcLW2KPGiFwKEA3As5g5c4BXwkqeeJZJV8Q9fugUMNUE4e").is_err());
    let other = client.machine.set_recovery_key("EsTcLW2KPGiFwKEA3As5g5c4BXwkqeeJZJV8Q9fugUMNUE4d").unwrap();
    assert!(!client.keep(other), "the key of another backup");
    let held = client.machine.set_recovery_key(&recovery_key).unwrap();
    assert!(client.keep(held));
    assert_eq!(restore(&mut party, late), 2);
    party.restart(late);
    let read = party.decrypt(late, &before).unwrap();
    assert_eq!((read.content["body"].as_str(), read.verdict), (Some("before the backup"), Verdict::NotAuthentic));
    assert!(party.decrypt(late, &during).is_ok());
    let session_id = before["content"]["session_id"].as_str().unwrap();
    assert!(party.clients[late].machine.is_history_shared(&party.audience().room_id, session_id));
}

#[test]
fn s084_a_session_that_begins_later_does_not_displace_a_better_one() {
    let mut party = Party::new(&["alice", "bob"]);
    let first = party.send(0, "first");
    let late = party.add("bob/LAPTOP");
    party.pump();
    let second = party.send(0, "second");
    let client = &mut party.clients[late];
    let held = client.machine.create_backup();
    let recovery_key = client.keep(held);
    party.pump();
    assert!(!offer(&mut party, 1));
    let client = &mut party.clients[1];
    let held = client.machine.set_recovery_key(&recovery_key).unwrap();
    assert!(client.keep(held));
    assert_eq!(restore(&mut party, 1), 0, "what is in the backup begins later");
    assert_eq!(party.decrypt(1, &first).unwrap().verdict, Verdict::UnsignedDevice);

    // Bob's phone adds what it has, and the laptop learns the beginning.
    party.pump();
    assert!(matches!(party.decrypt(late, &first), Err(DecryptError::KeyFromLater { .. })));
    assert_eq!(restore(&mut party, late), 1);
    assert!(party.decrypt(late, &first).is_ok() && party.decrypt(late, &second).is_ok());
}

#[test]
fn a_backup_with_another_key_is_not_added_to() {
    let mut party = Party::new(&["alice", "bob"]);
    let client = &mut party.clients[0];
    let held = client.machine.create_backup();
    client.keep(held);
    party.pump();
    party.server.backup_keys.clear();
    let (_, auth_data) = party.server.backup.as_mut().unwrap();
    auth_data["public_key"] = vodozemac::Curve25519PublicKey::from([7; 32]).to_base64().into();
    assert!(!offer(&mut party, 0));
    party.send(0, "secret");
    assert!(party.server.backup_keys.is_empty());
}

#[test]
fn a_file_is_encrypted_with_a_key_of_its_own_and_changes_are_noticed() {
    let (world, _) = world();
    let plain = b"the contents of a file, a bit longer than one block of the cipher".to_vec();
    let (mut first, mut second) = (plain.clone(), plain.clone());
    let key = encrypt_attachment(&world, &mut first);
    let other = encrypt_attachment(&world, &mut second);
    assert!(first != plain && first != second);
    let mut damaged = first.clone();
    damaged[3] ^= 1;
    assert_eq!(decrypt_attachment(&key, &mut damaged), Err(AttachmentError::Hash));
    assert_eq!(decrypt_attachment(&other, &mut first.clone()), Err(AttachmentError::Hash));
    decrypt_attachment(&key, &mut first).unwrap();
    assert_eq!(first, plain);
    let mut strange = key.clone();
    strange.v = "v1".to_owned();
    assert_eq!(decrypt_attachment(&strange, &mut second), Err(AttachmentError::Key));
    let written = serde_json::to_value(&key).unwrap();
    assert_eq!((written["v"].as_str(), written["key"]["alg"].as_str()), (Some("v2"), Some("A256CTR")));
}
