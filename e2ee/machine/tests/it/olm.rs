//! Messages between devices: lost, doubled, out of order, and sessions that break.

use std::collections::BTreeMap;

use crate::party::{Party, user};

const HOUR_MS: u64 = 60 * 60 * 1000;

#[test]
fn messages_that_come_twice_or_in_another_order_do_no_harm() {
    let mut party = Party::new(&["alice", "bob"]);
    let bob = party.clients[1].place.clone();
    let mut events = Vec::new();
    let mut waiting = Vec::new();
    for _ in 0..5 {
        let audience = party.audience();
        let client = &mut party.clients[0];
        let held = client.machine.discard_session(&audience.room_id);
        client.keep(held);
        // Bob hears nothing meanwhile.
        let inbox = party.server.inboxes.remove(&bob).unwrap();
        party.server.inboxes.insert(bob.clone(), std::collections::VecDeque::new());
        waiting.extend(inbox);
        let mut event = None;
        for _ in 0..10 {
            if let Ok(content) = party.encrypt(0, &audience, "x") {
                event = Some(party.event(0, &content));
                break;
            }
            let client = &mut party.clients[0];
            let held = client.machine.prepare(&audience).unwrap();
            client.keep(held);
            party.send_requests(0);
        }
        events.push(event.unwrap());
    }
    waiting.extend(party.server.inboxes.remove(&bob).unwrap());
    assert_eq!(waiting.len(), 5);
    waiting.reverse();
    let doubled = waiting.iter().chain(&waiting).cloned().collect();
    party.server.inboxes.insert(bob, doubled);
    let claims = party.server.claims;
    party.pump();
    for event in &events {
        assert_eq!(party.read(1, event).as_deref(), Some("x"));
    }
    assert_eq!(party.server.claims, claims, "no session was made anew");
    assert!(!party.clients[1].notices.iter().any(|notice| matches!(notice, machine::Notice::OlmRefused { .. })));
}

#[test]
fn a_broken_session_is_made_anew_but_not_more_often_than_hourly() {
    let mut party = Party::new(&["alice", "bob"]);
    party.meet(0);
    party.meet(1);
    let store = party.clients[1].store.clone();
    // Bob's device is set back to an old copy, time and again: his side of the session is not what alice has.
    let set_back = |party: &mut Party| {
        for _ in 0..3 {
            rotate(party, 0);
            party.meet(0);
            rotate(party, 1);
            party.meet(1);
        }
        party.clients[1].store = store.clone();
        party.restart(1);
    };
    set_back(&mut party);
    let claims = party.server.claims;
    rotate(&mut party, 0);
    let lost = party.send(0, "lost");
    assert!(party.read(1, &lost).is_none());
    assert_eq!(party.server.claims, claims + 1, "bob began a new session");
    rotate(&mut party, 0);
    let next = party.send(0, "next");
    assert_eq!(party.read(1, &next).as_deref(), Some("next"));

    // Broken again within the hour, in the state that remembers the first time: nothing is done, and then it is.
    let hurt = |party: &mut Party| {
        let fake = BTreeMap::from([(
            party.clients[1].machine.curve25519_key(),
            serde_json::json!({ "type": 1, "body": body() }),
        )]);
        let content = serde_json::json!({
            "algorithm": "m.olm.v1.curve25519-aes-sha2",
            "sender_key": party.clients[0].machine.curve25519_key(),
            "ciphertext": fake,
        });
        let alice = party.clients[0].place.clone();
        let to = ruma::to_device::DeviceIdOrAllDevices::AllDevices;
        party.server.deliver(&alice, &user("bob"), &to, "m.room.encrypted", &content);
        party.pump();
    };
    let claims = party.server.claims;
    hurt(&mut party);
    assert_eq!(party.server.claims, claims);
    party.clock.advance(HOUR_MS);
    hurt(&mut party);
    assert_eq!(party.server.claims, claims + 1);
    hurt(&mut party);
    assert_eq!(party.server.claims, claims + 1);
}

/// A message of a session that nobody has.
fn body() -> String {
    use vodozemac::olm::{Account, OlmMessage, SessionConfig};
    let (us, mut them) = (Account::new(), Account::new());
    them.generate_one_time_keys(1);
    let key = *them.one_time_keys().values().next().unwrap();
    let mut session = us.create_outbound_session(SessionConfig::version_1(), them.curve25519_key(), key).unwrap();
    let OlmMessage::PreKey(first) = session.encrypt("x").unwrap() else { panic!("the first is one") };
    let mut created = them.create_inbound_session(SessionConfig::version_1(), us.curve25519_key(), &first).unwrap();
    let message = created.session.encrypt("y").unwrap();
    vodozemac::base64_encode(message.to_parts().1)
}

fn rotate(party: &mut Party, who: usize) {
    let client = &mut party.clients[who];
    let held = client.machine.discard_session(&crate::party::room());
    client.keep(held);
}

#[test]
fn a_device_without_one_time_keys_is_told_once_and_asked_again_later() {
    let mut party = Party::new(&["alice", "bob"]);
    let bob = party.clients[1].place.clone();
    let keys = party.server.one_time_keys.remove(&bob).unwrap();
    let fallback = party.server.fallback_keys.remove(&bob).unwrap();
    let inbox = party.server.inboxes.remove(&bob).unwrap();
    let before = party.send(0, "before");
    party.send(0, "still before");
    let withheld: Vec<_> = party.server.sent.iter().filter(|(kind, _)| kind == "m.room_key.withheld").collect();
    assert_eq!(withheld.len(), 1);
    assert_eq!(withheld[0].1["code"], "m.no_olm");
    assert_eq!(party.server.claims, 1, "not asked again at once");
    party.server.inboxes.insert(bob.clone(), inbox);
    party.server.one_time_keys.insert(bob.clone(), keys);
    party.server.fallback_keys.insert(bob, fallback);
    party.clock.advance(5 * 60 * 1000);
    let after = party.send(0, "after");
    assert_eq!(party.read(1, &after).as_deref(), Some("after"));
    assert!(party.read(1, &before).is_none());
}

#[test]
fn who_could_begin_no_session_with_us_is_met_with_one() {
    let mut party = Party::new(&["alice", "bob"]);
    let client = &mut party.clients[1];
    let held = client.machine.follow(&user("alice"));
    client.keep(held);
    party.pump();
    let bob = party.clients[1].place.clone();
    party.server.one_time_keys.get_mut(&bob).unwrap().clear();
    party.server.fallback_keys.remove(&bob);
    let (claims, before) = (party.server.claims, party.server.sent.len());
    party.send(0, "for those who can");
    assert_eq!(party.server.claims, claims + 2, "alice asked for a key of bob's, and bob for one of hers");
    let sent: Vec<_> = party.server.sent[before..].iter().map(|(kind, _)| kind.as_str()).collect();
    assert!(sent.contains(&"m.room_key.withheld"), "{sent:?}");
    let after = party.send(0, "for him, too");
    assert_eq!(party.read(1, &after).as_deref(), Some("for him, too"));
}
