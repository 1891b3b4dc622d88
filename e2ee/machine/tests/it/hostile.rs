//! Servers and devices that lie.

use machine::{Answer, DecryptError, DeviceError, Notice, OlmError, RequestBody, Store, Table};
use ruma::to_device::DeviceIdOrAllDevices;
use serde_json::{Value, json};
use vodozemac::megolm::{GroupSession, SessionConfig as MegolmConfig};
use vodozemac::olm::{Account, Session, SessionConfig};

use crate::party::{Party, room, user};
use crate::server::Place;

/// A device that does as a test wants.
struct Stranger {
    account: Account,
    place: Place,
    session: Option<Session>,
}

impl Stranger {
    fn new(party: &mut Party, name: &str) -> Self {
        let stranger = Self { account: Account::new(), place: (user(name), "EVIL".into()), session: None };
        let keys = stranger.signed(json!({
            "user_id": stranger.place.0,
            "device_id": "EVIL",
            "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
            "keys": { "curve25519:EVIL": stranger.account.curve25519_key().to_base64(), "ed25519:EVIL": stranger.account.ed25519_key().to_base64() },
        }));
        party.server.device_keys.insert(stranger.place.clone(), keys);
        party.server.announce(&stranger.place.0);
        stranger
    }

    fn signed(&self, mut value: Value) -> Value {
        let text = serde_json::to_string(&value).unwrap();
        let signature = self.account.sign(text).to_base64();
        value["signatures"] = json!({ self.place.0.as_str(): { "ed25519:EVIL": signature } });
        value
    }

    /// What an honest device would put around an event.
    fn payload(&self, party: &Party, to: usize, event_type: &str, content: &Value) -> Value {
        let machine = &party.clients[to].machine;
        json!({
            "type": event_type,
            "content": content,
            "sender": self.place.0,
            "recipient": machine.user_id(),
            "recipient_keys": { "ed25519": machine.ed25519_key() },
            "keys": { "ed25519": self.account.ed25519_key().to_base64() },
        })
    }

    fn send(&mut self, party: &mut Party, to: usize, payload: &Value) {
        let place = party.clients[to].place.clone();
        let machine = &party.clients[to].machine;
        let identity = vodozemac::Curve25519PublicKey::from_base64(&machine.curve25519_key()).unwrap();
        let server = &mut party.server;
        let account = &self.account;
        let session = self.session.get_or_insert_with(|| {
            let (_, key) = server.one_time_keys.get_mut(&place).unwrap().pop_front().unwrap();
            let key = vodozemac::Curve25519PublicKey::from_base64(key["key"].as_str().unwrap()).unwrap();
            account.create_outbound_session(SessionConfig::version_1(), identity, key).unwrap()
        });
        let (kind, body) = session.encrypt(payload.to_string()).unwrap().to_parts();
        let content = json!({
            "algorithm": "m.olm.v1.curve25519-aes-sha2",
            "sender_key": self.account.curve25519_key().to_base64(),
            "ciphertext": { identity.to_base64(): { "type": kind, "body": vodozemac::base64_encode(body) } },
        });
        server.deliver(&self.place, &place.0, &DeviceIdOrAllDevices::DeviceId(place.1), "m.room.encrypted", &content);
        party.pump();
    }
}

fn room_key(session: &GroupSession, room_id: &str) -> Value {
    json!({
        "algorithm": "m.megolm.v1.aes-sha2",
        "room_id": room_id,
        "session_id": session.session_id(),
        "session_key": session.session_key().to_base64(),
    })
}

fn encrypted(party: &mut Party, session: &mut GroupSession, sender: &str, payload: &Value) -> crate::server::Object {
    let content = json!({
        "algorithm": "m.megolm.v1.aes-sha2",
        "session_id": session.session_id(),
        "ciphertext": session.encrypt(payload.to_string()).to_base64(),
    });
    let mut event = party.event(0, content.as_object().unwrap());
    event["sender"] = json!(user(sender));
    event
}

fn refusals(party: &Party, who: usize) -> Vec<OlmError> {
    let reason = |notice: &Notice| match notice {
        Notice::OlmRefused { reason, .. } => Some(*reason),
        _ => None,
    };
    party.clients[who].notices.iter().filter_map(reason).collect()
}

#[test]
fn an_olm_message_says_inside_from_whom_and_for_whom_it_is() {
    let lies: [(&str, Value); 5] = [
        ("sender", json!("@alice:example.org")),
        ("recipient", json!("@carol:example.org")),
        ("recipient_keys", json!({ "ed25519": vodozemac::Ed25519Keypair::new().public_key().to_base64() })),
        ("keys", json!({ "ed25519": vodozemac::Ed25519Keypair::new().public_key().to_base64() })),
        ("sender_device_keys", json!({ "user_id": "@mallory:example.org", "device_id": "EVIL" })),
    ];
    for (field, lie) in lies {
        let mut party = Party::new(&["alice"]);
        let mut stranger = Stranger::new(&mut party, "mallory");
        let honest = stranger.payload(&party, 0, "org.example.note", &json!({ "body": "hi" }));
        stranger.send(&mut party, 0, &honest);
        assert_eq!(refusals(&party, 0), []);
        assert!(
            party.clients[0]
                .notices
                .iter()
                .any(|notice| matches!(notice, Notice::ToDevice(event) if event.event_type == "org.example.note"))
        );
        let mut payload = honest;
        payload[field] = lie;
        stranger.send(&mut party, 0, &payload);
        assert_eq!(refusals(&party, 0), [OlmError::Mismatch], "{field}");
    }
}

#[test]
fn who_has_a_session_cannot_pass_it_off_as_theirs_nor_move_it_to_another_room() {
    let mut party = Party::new(&["alice", "bob"]);
    let mut mallory = Stranger::new(&mut party, "mallory");
    party.meet(0);
    let mut session = GroupSession::new(MegolmConfig::version_1());
    for place in ["!room:example.org", "!elsewhere:example.org"] {
        let key = mallory.payload(&party, 1, "m.room_key", &room_key(&session, place));
        mallory.send(&mut party, 1, &key);
    }
    let payload = |room_id: &str| json!({ "type": "m.room.message", "room_id": room_id, "content": { "body": "x" } });
    let good = encrypted(&mut party, &mut session, "mallory", &payload("!room:example.org"));
    assert_eq!(party.read(1, &good).as_deref(), Some("x"));
    let as_alice = encrypted(&mut party, &mut session, "alice", &payload("!room:example.org"));
    assert_eq!(party.decrypt(1, &as_alice), Err(DecryptError::Mismatch));
    let elsewhere = encrypted(&mut party, &mut session, "mallory", &payload("!elsewhere:example.org"));
    assert_eq!(party.decrypt(1, &elsewhere), Err(DecryptError::Mismatch));
}

#[test]
fn a_session_that_is_given_twice_is_read_as_each_sender_made_it() {
    // Mallory, who has alice's session, gives it to bob as hers before alice does.
    let mut party = Party::new(&["alice", "bob"]);
    let mut mallory = Stranger::new(&mut party, "mallory");
    let mut alice = Stranger::new(&mut party, "anna");
    let mut session = GroupSession::new(MegolmConfig::version_1());
    let key = mallory.payload(&party, 1, "m.room_key", &room_key(&session, "!room:example.org"));
    mallory.send(&mut party, 1, &key);
    let key = alice.payload(&party, 1, "m.room_key", &room_key(&session, "!room:example.org"));
    alice.send(&mut party, 1, &key);
    let payload = json!({ "type": "m.room.message", "room_id": room(), "content": { "body": "from anna" } });
    let event = encrypted(&mut party, &mut session, "anna", &payload);
    assert_eq!(party.read(1, &event).as_deref(), Some("from anna"));
}

#[test]
fn room_keys_in_the_clear_and_forwarded_ones_from_strangers_are_not_taken() {
    let mut party = Party::new(&["alice", "bob"]);
    let mut mallory = Stranger::new(&mut party, "mallory");
    let session = GroupSession::new(MegolmConfig::version_1());
    let key = room_key(&session, "!room:example.org");
    let place = party.clients[1].place.clone();
    for kind in ["m.room_key", "m.forwarded_room_key", "m.secret.send"] {
        party.server.deliver(&mallory.place, &place.0, &DeviceIdOrAllDevices::AllDevices, kind, &key);
    }
    let exported = vodozemac::megolm::InboundGroupSession::from(&session).export_at_first_known_index().to_base64();
    let mut forwarded = key;
    forwarded["session_key"] = json!(exported);
    forwarded["sender_key"] = json!(mallory.account.curve25519_key().to_base64());
    let payload = mallory.payload(&party, 1, "m.forwarded_room_key", &forwarded);
    mallory.send(&mut party, 1, &payload);
    assert!(
        !party.clients[1].notices.iter().any(|notice| matches!(notice, Notice::RoomKey { .. } | Notice::ToDevice(_)))
    );
}

#[test]
fn s077_what_a_query_answers_is_checked() {
    let mut party = Party::new(&["alice", "bob"]);
    party.meet(0);
    let (alice, bob) = (user("alice"), user("bob"));
    let honest = party.server.device_keys[&(bob.clone(), "PHONE".into())].clone();
    let mut renamed = honest.clone();
    renamed["device_id"] = json!("OTHER");
    let mut unsigned = honest.clone();
    unsigned["algorithms"] = json!(["m.none"]);
    let mallory = Stranger::new(&mut party, "bob");
    let mut swapped = party.server.device_keys.remove(&mallory.place).unwrap();
    swapped["device_id"] = json!("PHONE");
    swapped["keys"] = json!({ "curve25519:PHONE": swapped["keys"]["curve25519:EVIL"], "ed25519:PHONE": swapped["keys"]["ed25519:EVIL"] });
    swapped.as_object_mut().unwrap().remove("signatures");
    let text = serde_json::to_string(&swapped).unwrap();
    swapped["signatures"] = json!({ bob.as_str(): { "ed25519:PHONE": mallory.account.sign(text).to_base64() } });
    for (lie, reason) in [
        (renamed, DeviceError::OtherDevice),
        (unsigned, DeviceError::Signature),
        (json!([]), DeviceError::Keys),
        (swapped, DeviceError::KeysChanged),
    ] {
        party.server.device_keys.insert((bob.clone(), "PHONE".into()), lie);
        party.server.announce(&bob);
        party.pump();
        let refused = party.clients[0].notices.iter().rev().find_map(|notice| match notice {
            Notice::DeviceRefused { reason, .. } => Some(*reason),
            _ => None,
        });
        assert_eq!(refused, Some(reason));
        let known = party.clients[0].machine.device(&bob, "PHONE".into()).unwrap();
        assert_eq!(known.curve25519.to_base64(), honest["keys"]["curve25519:PHONE"].as_str().unwrap());
    }
    // A user that nobody asked for.
    let mut party = Party::new(&["alice", "bob"]);
    party.server.announce(&alice);
    party.sync(0);
    let client = &mut party.clients[0];
    let held = client.machine.requests();
    for request in client.keep(held) {
        if let RequestBody::KeysQuery(_) = &request.body {
            let mut query = ruma::api::client::keys::get_keys::v3::Request::new();
            query.device_keys.insert(bob.clone(), Vec::new());
            let answer = Answer::KeysQuery(party.server.query(&query));
            let held = client.machine.answer(&request.id, &answer).unwrap();
            client.keep(held);
        }
    }
    assert!(party.clients[0].machine.devices(&bob).is_empty());
}

#[test]
fn s080_a_one_time_key_of_low_order_or_without_a_signature_makes_no_session() {
    for is_signed in [true, false] {
        let mut party = Party::new(&["alice"]);
        let stranger = Stranger::new(&mut party, "mallory");
        let key = if is_signed {
            stranger.signed(json!({ "key": vodozemac::base64_encode([0; 32]) }))
        } else {
            json!({ "key": Account::new().curve25519_key().to_base64() })
        };
        let keys = std::collections::VecDeque::from([("signed_curve25519:AAAA".to_owned(), key)]);
        party.server.one_time_keys.insert(stranger.place.clone(), keys);
        let mut audience = party.audience();
        audience.members.insert(stranger.place.0.clone());
        party.send_to(0, &audience, "secret");
        let kinds: Vec<_> = party.server.sent.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(kinds, ["m.room_key.withheld"]);
    }
}

#[test]
fn s083_an_identity_is_refused_when_its_keys_are_not_what_they_should_be() {
    let mut party = Party::new(&["alice", "bob"]);
    party.bootstrap(1);
    party.meet(0);
    let bob = user("bob");
    let honest = party.server.cross_signing[&bob].clone();
    let event = party.send(1, "hello");
    assert_eq!(party.decrypt(0, &event).unwrap().verdict, machine::Verdict::SignedByOwner);
    // A self-signing key that the master key did not sign signs no devices.
    let mut other = honest["self_signing"].clone();
    other.as_object_mut().unwrap().remove("signatures");
    let mut of_another = honest["master"].clone();
    of_another["user_id"] = json!("@carol:example.org");
    let lies = [
        ("self_signing", other, machine::Verdict::UnsignedDevice),
        ("master", of_another, machine::Verdict::SignedByOwner),
    ];
    for (which, lie, verdict) in lies {
        let keys = party.server.cross_signing.get_mut(&bob).unwrap();
        *keys = honest.clone();
        party.server.announce(&bob);
        party.pump();
        party.server.cross_signing.get_mut(&bob).unwrap().insert(which, lie);
        party.server.announce(&bob);
        party.pump();
        assert_eq!(party.decrypt(0, &event).unwrap().verdict, verdict, "{which}");
    }
    // A master key that is called like a device: whoever may sign for the device could sign for the user.
    let mut party = Party::new(&["alice", "bob"]);
    party.bootstrap(1);
    let master =
        party.server.cross_signing[&bob]["master"]["keys"].as_object().unwrap().values().next().unwrap().clone();
    let device = party.server.device_keys[&(bob.clone(), "PHONE".into())].clone();
    party.server.device_keys.insert((bob.clone(), master.as_str().unwrap().into()), device);
    let event = party.send(1, "hello");
    party.meet(0);
    assert_eq!(party.decrypt(0, &event).unwrap().verdict, machine::Verdict::UnsignedDevice);
}

#[test]
fn nonsense_to_a_device_is_passed_over() {
    let mut party = Party::new(&["alice"]);
    let place = party.clients[0].place.clone();
    let nonsense = [
        json!({}),
        json!({ "algorithm": 1, "ciphertext": [] }),
        json!({ "algorithm": "m.olm.v1.curve25519-aes-sha2", "sender_key": "x", "ciphertext": {} }),
        json!({ "transaction_id": {}, "key": [] }),
        json!({ "transaction_id": "t", "from_device": 7, "timestamp": -1 }),
        json!({ "action": "request", "body": "x", "requesting_device_id": "Y" }),
    ];
    let kinds = [
        "m.room.encrypted",
        "m.room_key_request",
        "m.secret.request",
        "m.room_key.withheld",
        "m.key.verification.start",
        "m.key.verification.mac",
        "m.key.verification.request",
    ];
    for content in nonsense {
        for kind in kinds {
            party.server.deliver(&place, &place.0, &DeviceIdOrAllDevices::AllDevices, kind, &content);
        }
    }
    party.pump();
    let events = [
        json!({}),
        json!({ "event_id": "$a", "sender": "@a:b", "origin_server_ts": 1, "content": { "algorithm": "m.megolm.v1.aes-sha2", "session_id": "x", "ciphertext": "AwgA" } }),
    ];
    for event in events {
        assert_eq!(party.decrypt(0, event.as_object().unwrap()), Err(DecryptError::Malformed));
    }
}

#[test]
fn strangers_sessions_are_only_so_many_and_push_out_nobody_elses() {
    let mut party = Party::new(&["alice", "bob"]);
    party.meet(0);
    party.meet(1);
    let kept = |party: &Party| {
        let records = party.clients[0].store.records().unwrap();
        records.iter().filter(|record| record.table == Table::OlmSessions).count()
    };
    let friends = kept(&party);
    for _ in 0..203 {
        // A device that nobody can ask for.
        let mut mallory = Stranger { account: Account::new(), place: (user("mallory"), "EVIL".into()), session: None };
        let payload = mallory.payload(&party, 0, "org.example.note", &json!({}));
        mallory.send(&mut party, 0, &payload);
    }
    assert_eq!(kept(&party), friends + 200);
    let claims = party.server.claims;
    let event = party.send(1, "still here");
    assert_eq!(party.read(0, &event).as_deref(), Some("still here"));
    assert_eq!(party.server.claims, claims, "bob's session is still there");
}
