//! Messages in rooms: who reads them, and when their keys are changed.

use machine::{DecryptError, Notice, Verdict};
use serde_json::json;

use crate::party::{Party, room, user};
use crate::server::Object;

fn session(event: &Object) -> &str {
    event["content"]["session_id"].as_str().unwrap()
}

#[test]
fn two_users_write_to_each_other() {
    let mut party = Party::new(&["alice", "bob"]);
    let first = party.send(0, "hello");
    let answer = party.send(1, "good day");
    let read = party.decrypt(1, &first).unwrap();
    assert_eq!(read.content["body"], "hello");
    assert_eq!((read.event_type.as_str(), read.verdict), ("m.room.message", Verdict::UnsignedDevice));
    assert_eq!(party.read(0, &answer).as_deref(), Some("good day"));
    assert_eq!(party.decrypt(0, &first).unwrap().verdict, Verdict::Verified, "our own");
}

#[test]
fn a_relation_stands_outside_and_is_found_inside() {
    let mut party = Party::new(&["alice", "bob"]);
    party.meet(0);
    let audience = party.audience();
    let content = json!({ "body": "yes", "m.relates_to": { "rel_type": "m.thread", "event_id": "$x" } });
    let client = &mut party.clients[0];
    let held = client.machine.encrypt(&audience, "m.room.message", content.as_object().unwrap()).unwrap();
    let encrypted = client.keep(held);
    assert_eq!(encrypted["m.relates_to"]["event_id"], "$x");
    let event = party.event(0, &encrypted);
    assert_eq!(party.decrypt(1, &event).unwrap().content["m.relates_to"]["rel_type"], "m.thread");
}

#[test]
fn a_device_that_comes_later_reads_what_comes_after_it() {
    let mut party = Party::new(&["alice", "bob"]);
    let before = party.send(0, "before");
    let late = party.add("bob/LAPTOP");
    party.pump();
    let after = party.send(0, "after");
    assert_eq!(session(&before), session(&after), "nobody left");
    assert_eq!(party.read(late, &after).as_deref(), Some("after"));
    assert!(matches!(party.decrypt(late, &before), Err(DecryptError::KeyFromLater { first_known_index: 1, .. })));
}

#[test]
fn a_session_is_changed_after_its_messages_its_time_or_a_change_of_visibility() {
    let mut party = Party::new(&["alice", "bob"]);
    let settings =
        json!({ "algorithm": "m.megolm.v1.aes-sha2", "rotation_period_msgs": 3, "rotation_period_ms": 7_200_000 });
    let client = &mut party.clients[0];
    let held = client.machine.set_room_encryption(&room(), settings.as_object().unwrap());
    assert!(client.keep(held));
    let sent: Vec<_> = (0..4).map(|_| party.send(0, "x")).collect();
    assert_eq!(session(&sent[0]), session(&sent[2]));
    assert_ne!(session(&sent[2]), session(&sent[3]), "three messages");
    party.clock.advance(7_199_999);
    let in_time = party.send(0, "x");
    assert_eq!(session(&in_time), session(&sent[3]));
    party.clock.advance(1);
    let later = party.send(0, "x");
    assert_ne!(session(&in_time), session(&later), "two hours");
    let mut audience = party.audience();
    audience.history_visibility = "joined".to_owned();
    let narrower = party.send_to(0, &audience, "x");
    assert_ne!(session(&later), session(&narrower), "visibility");
    for event in sent.iter().chain([&in_time, &later, &narrower]) {
        assert_eq!(party.read(1, event).as_deref(), Some("x"));
    }
}

#[test]
fn who_left_or_was_logged_out_reads_nothing_more() {
    let mut party = Party::new(&["alice", "bob", "carol", "bob/LAPTOP"]);
    let all = party.send(0, "all");
    let mut audience = party.audience();
    audience.members.remove(&user("carol"));
    let without_carol = party.send_to(0, &audience, "without carol");
    assert_ne!(session(&all), session(&without_carol));
    assert!(party.read(2, &all).is_some() && party.read(1, &without_carol).is_some());
    assert!(matches!(party.decrypt(2, &without_carol), Err(DecryptError::MissingKey { .. })));

    let laptop = party.clients[3].place.clone();
    party.server.remove(&laptop);
    party.sync(0);
    let without_laptop = party.send_to(0, &audience, "without the laptop");
    assert_ne!(session(&without_carol), session(&without_laptop));
    assert!(party.read(1, &without_laptop).is_some() && party.read(3, &without_laptop).is_none());
}

#[test]
fn a_blacklisted_device_is_told_why_it_gets_no_key() {
    let mut party = Party::new(&["alice", "bob"]);
    let before = party.send(0, "before");
    let client = &mut party.clients[0];
    let held = client.machine.set_blacklisted(&user("bob"), "PHONE".into(), true);
    assert!(client.keep(held));
    let after = party.send(0, "after");
    assert_ne!(session(&before), session(&after));
    let Err(DecryptError::MissingKey { withheld: Some(code), .. }) = party.decrypt(1, &after) else {
        panic!("withheld")
    };
    assert_eq!(code.0, "m.blacklisted");
    let told = |party: &Party| {
        party.clients[1].notices.iter().filter(|notice| matches!(notice, Notice::RoomKeyWithheld { .. })).count()
    };
    assert_eq!(told(&party), 1);
    party.send(0, "again");
    assert_eq!(told(&party), 1, "once for a session");
}

#[test]
fn only_verified_devices_get_keys_where_the_audience_says_so() {
    let mut party = Party::new(&["alice", "bob"]);
    let mut audience = party.audience();
    audience.only_verified = true;
    let event = party.send_to(0, &audience, "secret");
    let Err(DecryptError::MissingKey { withheld: Some(code), .. }) = party.decrypt(1, &event) else {
        panic!("withheld")
    };
    assert_eq!(code.0, "m.unverified");
    let client = &mut party.clients[0];
    let held = client.machine.verify_device(&user("bob"), "PHONE".into());
    assert!(client.keep(held));
    let event = party.send_to(0, &audience, "secret");
    assert_eq!(party.read(1, &event).as_deref(), Some("secret"));
}

#[test]
fn a_message_is_not_taken_for_another_event_another_sender_or_another_room() {
    let mut party = Party::new(&["alice", "bob", "carol"]);
    let event = party.send(0, "once");
    assert!(party.decrypt(1, &event).is_ok());
    assert!(party.decrypt(1, &event).is_ok(), "the same event again");
    party.restart(1);
    let mut other = event.clone();
    other["event_id"] = json!("$other");
    assert_eq!(party.decrypt(1, &other), Err(DecryptError::Replay));
    let mut other = event.clone();
    other["sender"] = json!("@carol:example.org");
    assert_eq!(party.decrypt(1, &other), Err(DecryptError::Mismatch));
    let elsewhere = ruma::RoomId::parse("!elsewhere:example.org").unwrap();
    assert!(party.clients[1].machine.decrypt(&elsewhere, &event).is_err());
}

#[test]
fn encryption_is_not_turned_off() {
    let mut party = Party::new(&["alice"]);
    let client = &mut party.clients[0];
    for content in [json!({}), json!({ "algorithm": "m.none" })] {
        let held = client.machine.set_room_encryption(&room(), content.as_object().unwrap());
        assert!(!client.keep(held));
    }
    assert_eq!(client.machine.room_settings(&room()).unwrap().algorithm, "m.megolm.v1.aes-sha2");
}

#[test]
fn our_other_device_passes_on_a_key_when_it_trusts_us_and_nobody_else_gets_one() {
    let mut party = Party::new(&["alice", "bob"]);
    let before = party.send(0, "before");
    party.read(1, &before).unwrap();
    let late = party.add("bob/LAPTOP");
    party.pump();
    party.meet(late);
    let ask = |party: &mut Party| {
        let client = &mut party.clients[late];
        let held = client.machine.request_room_key(&room(), &before);
        client.keep(held);
        party.pump();
    };
    ask(&mut party);
    assert!(party.decrypt(late, &before).is_err(), "the phone does not know the laptop");
    party.restart(late);
    for (who, other) in [(1, "LAPTOP"), (late, "PHONE")] {
        let client = &mut party.clients[who];
        let held = client.machine.verify_device(&user("bob"), other.into());
        assert!(client.keep(held));
    }
    ask(&mut party);
    let read = party.decrypt(late, &before).unwrap();
    assert_eq!(read.content["body"], "before");
    assert_eq!(read.verdict, Verdict::NotAuthentic, "the phone says so, not alice");
}

#[test]
fn a_key_says_whether_those_who_join_later_may_have_it() {
    let mut party = Party::new(&["alice", "bob"]);
    let mut audience = party.audience();
    for (visibility, is_shared) in [("shared", true), ("joined", false), ("world_readable", true), ("invited", false)] {
        audience.history_visibility = visibility.to_owned();
        let event = party.send_to(0, &audience, "x");
        for who in [0, 1] {
            let machine = &party.clients[who].machine;
            assert_eq!(machine.is_history_shared(&audience.room_id, session(&event)), is_shared, "{visibility}");
        }
    }
}
