//! Whatever moment the process dies at, nothing is encrypted twice with the same state of a ratchet, and life goes on.

use std::collections::BTreeMap;

use serde_json::Value;
use vodozemac::megolm::MegolmMessage;

use crate::party::{Party, room};

/// Enough that every kind of crash comes in every state; each step is a few hundred microseconds.
const STEPS: u64 = 200;

#[test]
fn after_any_crash_no_state_of_a_ratchet_is_used_twice_and_messages_are_read() {
    let mut party = Party::new(&["alice", "bob"]);
    let mut megolm: BTreeMap<(String, u32), String> = BTreeMap::new();
    let mut read = 0;
    for step in 0..STEPS {
        let who = (step % 2) as usize;
        match step.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 61 {
            // A crash after something was encrypted and before it was stored: the value never leaves.
            0 => {
                let audience = party.audience();
                let content = serde_json::json!({ "body": format!("lost {step}") });
                let held =
                    party.clients[who].machine.encrypt(&audience, "m.room.message", content.as_object().unwrap());
                drop(held);
                party.restart(who);
            }
            // A crash with requests stored and not sent.
            1 => {
                let audience = party.audience();
                let client = &mut party.clients[who];
                let held = client.machine.discard_session(&room());
                client.keep(held);
                let held = client.machine.prepare(&audience).unwrap();
                client.keep(held);
                let held = client.machine.requests();
                client.keep(held);
                party.restart(who);
            }
            // A crash with requests made and neither stored nor sent.
            2 => {
                let audience = party.audience();
                let client = &mut party.clients[who];
                let held = client.machine.discard_session(&room());
                client.keep(held);
                drop(client.machine.prepare(&audience).unwrap());
                drop(client.machine.requests());
                party.restart(who);
            }
            _ => {
                let event = party.send(who, &format!("message {step}"));
                let ciphertext = event["content"]["ciphertext"].as_str().unwrap().to_owned();
                let index = MegolmMessage::from_base64(&ciphertext).unwrap().message_index();
                let session = event["content"]["session_id"].as_str().unwrap().to_owned();
                assert_eq!(megolm.insert((session, index), ciphertext), None, "step {step}");
                assert_eq!(party.read(1 - who, &event), Some(format!("message {step}")), "step {step}");
                read += 1;
            }
        }
    }
    assert!(read > STEPS / 3, "{read}");
    assert_olm_is_unique(&party);
}

/// No two Olm messages of a chain have the same index.
fn assert_olm_is_unique(party: &Party) {
    use vodozemac::olm::OlmMessage;
    let mut seen: BTreeMap<(String, u64), Value> = BTreeMap::new();
    for (kind, content) in party.server.sent.iter().filter(|(kind, _)| kind == "m.room.encrypted") {
        for ciphertext in content["ciphertext"].as_object().unwrap().values() {
            let number = usize::try_from(ciphertext["type"].as_u64().unwrap()).unwrap();
            let body = vodozemac::base64_decode(ciphertext["body"].as_str().unwrap()).unwrap();
            let message = OlmMessage::from_parts(number, &body).unwrap();
            let message = match &message {
                OlmMessage::Normal(message) => message,
                OlmMessage::PreKey(message) => message.message(),
            };
            let place = (message.ratchet_key().to_base64(), message.chain_index());
            assert_eq!(seen.insert(place, content.clone()), None, "{kind}");
        }
    }
    assert!(seen.len() > 10, "{}", seen.len());
}

#[test]
fn a_restart_loses_nothing_that_was_known() {
    let mut party = Party::new(&["alice", "bob"]);
    let first = party.send(0, "first");
    let answer = party.send(1, "answer");
    let (uploads, claims) = (party.server.uploads, party.server.claims);
    party.restart(0);
    party.restart(1);
    let second = party.send(0, "second");
    assert_eq!(first["content"]["session_id"], second["content"]["session_id"], "the session goes on");
    for event in [&first, &second] {
        assert!(party.read(1, event).is_some());
    }
    assert_eq!(party.read(0, &answer).as_deref(), Some("answer"));
    assert_eq!((party.server.uploads, party.server.claims), (uploads, claims));
}
