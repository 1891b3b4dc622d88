//! What was said before, for somebody who is invited.

use machine::{AttachmentKey, DecryptError, Notice, Verdict, decrypt_attachment, encrypt_attachment};
use serde_json::json;

use crate::party::{Party, room, user, world};
use crate::server::Object;

/// Lets a device look up a user's devices.
fn follow(party: &mut Party, who: usize, name: &str) {
    let client = &mut party.clients[who];
    let held = client.machine.follow(&user(name));
    client.keep(held);
    party.pump();
}

fn share(party: &mut Party, who: usize, name: &str, file: &Object) -> usize {
    let client = &mut party.clients[who];
    let held = client.machine.share_room_key_bundle(&room(), &user(name), file);
    let told = client.keep(held);
    party.pump();
    told
}

fn bundles(party: &Party, who: usize) -> Vec<Object> {
    let content = |notice: &Notice| match notice {
        Notice::ToDevice(event) if event.event_type == "m.room_key_bundle" => Some(event.content.clone()),
        _ => None,
    };
    party.clients[who].notices.iter().filter_map(content).collect()
}

#[test]
fn who_is_invited_reads_what_was_said_before_as_far_as_it_is_for_them() {
    let mut party = Party::new(&["alice", "bob"]);
    let mut audience = party.audience();
    let (hers, his) = (party.send(0, "from alice"), party.send(1, "from bob"));
    audience.history_visibility = "joined".to_owned();
    let hidden = party.send_to(0, &audience, "not for those who come later");
    let carol = party.add("carol/PHONE");
    party.pump();
    follow(&mut party, 0, "carol");

    let mut file = party.clients[0].machine.room_key_bundle(&room());
    let (world, _clock) = world();
    let key = encrypt_attachment(&world, &mut file);
    let mut content = serde_json::to_value(&key).unwrap();
    content["url"] = json!("mxc://example.org/bundle");
    let content = content.as_object().unwrap().clone();
    assert_eq!(share(&mut party, 0, "carol", &content), 0, "she has not signed her device");
    party.bootstrap(carol);
    follow(&mut party, 0, "carol");
    assert_eq!(share(&mut party, 0, "carol", &content), 1);

    let [told] = bundles(&party, carol).try_into().unwrap();
    assert_eq!(told["room_id"], room().as_str());
    let key: AttachmentKey = serde_json::from_value(told["file"].clone()).unwrap();
    decrypt_attachment(&key, &mut file).unwrap();
    let client = &mut party.clients[carol];
    let elsewhere = ruma::owned_room_id!("!elsewhere:example.org");
    let held = client.machine.import_room_key_bundle(&elsewhere, &user("alice"), &file).unwrap();
    assert_eq!(client.keep(held), 0, "keys of another room");
    let held = client.machine.import_room_key_bundle(&room(), &user("alice"), &file).unwrap();
    assert_eq!(client.keep(held), 2);
    assert!(client.machine.import_room_key_bundle(&room(), &user("alice"), b"junk").is_none());
    party.restart(carol);
    for (event, body) in [(&hers, "from alice"), (&his, "from bob")] {
        let read = party.decrypt(carol, event).unwrap();
        assert_eq!((read.content["body"].as_str(), read.verdict), (Some(body), Verdict::NotAuthentic));
        assert_eq!(read.shared_by, Some(user("alice")));
    }
    let Err(DecryptError::MissingKey { withheld: Some(code), .. }) = party.decrypt(carol, &hidden) else {
        panic!("withheld")
    };
    assert_eq!(code.0, "m.history_not_shared");
}

#[test]
fn a_bundle_in_the_clear_is_no_news() {
    let mut party = Party::new(&["alice", "bob"]);
    let bob = party.clients[1].place.clone();
    let content = json!({ "room_id": room(), "file": {} });
    let to = ruma::to_device::DeviceIdOrAllDevices::AllDevices;
    let alice = party.clients[0].place.clone();
    party.server.deliver(&alice, &bob.0, &to, "m.room_key_bundle", &content);
    party.pump();
    assert!(bundles(&party, 1).is_empty());
}
