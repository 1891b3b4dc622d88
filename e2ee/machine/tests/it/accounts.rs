//! What a device publishes of itself.

use ruma::OneTimeKeyAlgorithm;
use vodozemac::{Ed25519PublicKey, Ed25519Signature};

use crate::party::{Party, is_upload};

#[test]
fn a_new_device_publishes_its_keys_fifty_one_time_keys_and_a_fallback_key_once() {
    let mut party = Party::new(&["alice"]);
    let place = party.clients[0].place.clone();
    let keys = party.server.device_keys[&place].clone();
    let key = Ed25519PublicKey::from_base64(keys["keys"]["ed25519:PHONE"].as_str().unwrap()).unwrap();
    let signature = keys["signatures"]["@alice:example.org"]["ed25519:PHONE"].as_str().unwrap();
    let mut bare = keys.as_object().unwrap().clone();
    bare.remove("signatures");
    let text = serde_json::to_string(&bare).unwrap();
    key.verify(text.as_bytes(), &Ed25519Signature::from_base64(signature).unwrap()).unwrap();
    assert_eq!(party.server.one_time_keys[&place].len(), 50);
    assert_eq!(party.server.fallback_keys[&place].1["fallback"], true);
    party.pump();
    assert_eq!(party.server.uploads, 1);
}

#[test]
fn claimed_one_time_keys_are_topped_up_and_a_used_fallback_key_is_replaced() {
    let mut party = Party::new(&["alice"]);
    let place = party.clients[0].place.clone();
    party.server.one_time_keys.get_mut(&place).unwrap().drain(..30);
    let fallback = party.server.fallback_keys[&place].clone();
    party.server.fallback_used.insert(place.clone(), true);
    party.pump();
    assert_eq!(party.server.one_time_keys[&place].len(), 50);
    assert_ne!(party.server.fallback_keys[&place], fallback);
}

#[test]
fn an_upload_whose_answer_was_lost_is_made_again_with_the_same_keys_after_a_restart() {
    let mut party = Party::new(&[]);
    party.add("alice");
    let client = &mut party.clients[0];
    let held = client.machine.requests();
    let first = client.keep(held);
    party.restart(0);
    let client = &mut party.clients[0];
    let held = client.machine.requests();
    let second = client.keep(held);
    let keys = |requests: &[machine::Request]| {
        let body = &requests.iter().find(|request| is_upload(&request.body)).unwrap().body;
        format!("{body:?}")
    };
    assert_eq!(keys(&first), keys(&second));
}

#[test]
fn an_answer_counts_once_and_only_for_its_own_endpoint() {
    let mut party = Party::new(&[]);
    party.add("alice");
    let client = &mut party.clients[0];
    let held = client.machine.requests();
    let requests = client.keep(held);
    let upload = requests.iter().find(|request| is_upload(&request.body)).unwrap();
    let wrong = client.machine.answer(&upload.id, &machine::Answer::Done).unwrap_err();
    assert_eq!(wrong, machine::AnswerError::OtherEndpoint);
    let answer = party.server.handle(&client.place, upload);
    let held = client.machine.answer(&upload.id, &answer).unwrap();
    client.keep(held);
    assert_eq!(client.machine.answer(&upload.id, &answer).unwrap_err(), machine::AnswerError::UnknownRequest);
}

#[test]
fn a_count_without_our_algorithm_means_that_no_keys_are_left() {
    let mut party = Party::new(&["alice"]);
    let client = &mut party.clients[0];
    let heard = machine::SyncParts {
        one_time_key_counts: Some(std::collections::BTreeMap::new()),
        unused_fallback_key_types: Some(vec![OneTimeKeyAlgorithm::SignedCurve25519]),
        next_batch: Some("s2".to_owned()),
        ..machine::SyncParts::default()
    };
    let held = client.machine.receive_sync(&heard);
    client.keep(held);
    let held = client.machine.requests();
    assert!(client.keep(held).iter().any(|request| is_upload(&request.body)));
    party.restart(0);
    assert_eq!(party.clients[0].machine.sync_token(), Some("s2"));
}

#[test]
fn a_device_that_was_logged_out_publishes_everything_again_with_its_signature() {
    let mut party = Party::new(&["alice", "bob"]);
    party.bootstrap(0);
    party.meet(1);
    let place = party.clients[0].place.clone();
    let before = party.server.device_keys.remove(&place).unwrap();
    party.server.one_time_keys.remove(&place);
    party.server.fallback_keys.remove(&place);
    party.pump();
    assert!(!party.server.device_keys.contains_key(&place), "nobody has told it");
    let client = &mut party.clients[0];
    let held = client.machine.publish_anew();
    client.keep(held);
    party.restart(0);
    party.pump();
    assert_eq!(party.server.device_keys[&place]["keys"], before["keys"]);
    let signatures = party.server.device_keys[&place]["signatures"]["@alice:example.org"].as_object().unwrap();
    assert_eq!(signatures.len(), 2, "by the device and by the identity");
    assert_eq!(party.server.one_time_keys[&place].len(), 50);
    assert!(party.server.fallback_keys.contains_key(&place));
    let event = party.send(1, "still there?");
    assert_eq!(party.read(0, &event).as_deref(), Some("still there?"));
}
