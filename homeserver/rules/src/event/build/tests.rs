//! What building makes, and what it refuses to sign.

use ruma::{
    RoomVersionId, UInt, owned_event_id, owned_room_id, owned_server_name, owned_user_id,
    serde::Base64,
    signatures::{PublicKeyMap, PublicKeySet, Verified, hash_and_sign_event, verify_event},
};
use serde_json::{Value, json};

use super::*;
use crate::event::{MAX_PDU_BYTES, read_json};

fn rules(version: u8) -> RoomVersionRules {
    RoomVersionId::try_from(version.to_string()).unwrap().rules().unwrap()
}

fn key(server: &str) -> ServerKey {
    let seed: [u8; 32] = std::array::from_fn(|index| server.as_bytes()[0].wrapping_add(index as u8));
    ServerKey::from_seed(server.try_into().unwrap(), "test", &seed).unwrap()
}

fn keys(keys: &[&ServerKey]) -> PublicKeyMap {
    let set =
        |key: &ServerKey| PublicKeySet::from([(key.key_id().to_string(), Base64::new(key.public_key().to_vec()))]);
    keys.iter().map(|key| (key.server_name().to_string(), set(key))).collect()
}

fn object(value: Value) -> CanonicalJsonObject {
    serde_json::from_value(value).unwrap()
}

fn draft(content: Value) -> Draft {
    Draft {
        room_id: Some(owned_room_id!("!room:a.test")),
        sender: owned_user_id!("@alice:a.test"),
        event_type: TimelineEventType::RoomMessage,
        state_key: None,
        content: object(content),
        redacts: None,
        prev_events: vec![owned_event_id!("$one:a.test")],
        auth_events: vec![owned_event_id!("$two:a.test")],
        depth: 7,
        origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::new(1_000).unwrap()),
        legacy: Some(LegacyParts {
            id_seed: "seed".to_owned(),
            reference_hashes: BTreeMap::from([(owned_event_id!("$one:a.test"), "aGFzaA".to_owned())]),
        }),
    }
}

#[test]
fn s_015_a_sender_of_another_server_is_refused() {
    let foreign = ["@alice:b.test", "@alice:a.test:8448", "@alice:a.tes", "@alice:xa.test", "@alice:sub.a.test"];
    for sender in foreign {
        let draft = Draft { sender: sender.try_into().unwrap(), ..draft(json!({})) };
        assert!(matches!(build(draft, &rules(11), &key("a.test")), Err(BuildError::ForeignSender(_))), "{sender}");
    }
    assert!(build(draft(json!({})), &rules(11), &key("a.test")).is_ok());
}

#[test]
fn every_version_gets_events_of_its_form() {
    for version in 1..=12 {
        let key = key("a.test");
        let pdu = build(draft(json!({ "body": "hello" })), &rules(version), &key).unwrap();
        let object = read_json(&pdu.json).unwrap();
        assert_eq!(verify_event(&keys(&[&key]), &object, &rules(version)).unwrap(), Verified::All);
        let paired = json!([["$one:a.test", { "sha256": "aGFzaA" }]]);
        let plain = json!(["$one:a.test"]);
        let expected = if version < 3 { paired } else { plain };
        assert_eq!(serde_json::to_value(&object["prev_events"]).unwrap(), expected, "version {version}");
        assert_eq!(object.contains_key("event_id"), version < 3);
        assert_eq!(pdu.event_id == "$seed:a.test", version < 3);
        assert_eq!((pdu.depth, pdu.prev_events.len(), pdu.auth_events.len()), (7, 1, 1));
        assert_eq!(crate::event::event_id(&object, &rules(version)).unwrap(), pdu.event_id);
    }
}

#[test]
fn s_038_the_largest_event_is_built_and_one_byte_more_is_not() {
    for version in [1, 6, 10, 11, 12] {
        let empty = build(draft(json!({ "body": "" })), &rules(version), &key("a.test")).unwrap().json.len();
        let with_body =
            |length: usize| build(draft(json!({ "body": "x".repeat(length) })), &rules(version), &key("a.test"));
        let largest = with_body(MAX_PDU_BYTES - empty).unwrap();
        assert_eq!(largest.json.len(), MAX_PDU_BYTES, "version {version}");
        let verified = verify_event(&keys(&[&key("a.test")]), &read_json(&largest.json).unwrap(), &rules(version));
        assert_eq!(verified.unwrap(), Verified::All);
        assert!(matches!(with_body(MAX_PDU_BYTES - empty + 1), Err(BuildError::Unfit(_))), "version {version}");
        assert!(with_body(MAX_PDU_BYTES).is_err());
    }
}

#[test]
fn s_039_our_own_events_obey_the_limits_too() {
    for (length, fits) in [(255, true), (256, false)] {
        let long = "x".repeat(length);
        let of_type = Draft { event_type: long.as_str().into(), ..draft(json!({})) };
        let of_key = Draft { state_key: Some(long), ..draft(json!({})) };
        for draft in [of_type, of_key] {
            assert_eq!(build(draft, &rules(11), &key("a.test")).is_ok(), fits, "{length} bytes");
        }
    }
}

/// What we send is wrapped again, in transactions and in the answers to clients, and must not break their parsers.
#[test]
fn s_043_our_own_events_are_not_nested_deeply() {
    let nested = |levels: usize| (0..levels).fold(json!("core"), |inner, _| json!({ "a": inner }));
    assert!(build(draft(nested(MAX_NESTING)), &rules(11), &key("a.test")).is_ok());
    assert!(matches!(
        build(draft(nested(MAX_NESTING + 1)), &rules(11), &key("a.test")),
        Err(BuildError::Unfit(ReadError::Format(_)))
    ));
    let lists = json!({ "a": (0..MAX_NESTING).fold(json!(1), |inner, _| json!([inner])) });
    assert!(matches!(build(draft(lists), &rules(11), &key("a.test")), Err(BuildError::Unfit(ReadError::Format(_)))));
}

#[test]
fn s_044_nul_in_keys_is_refused() {
    let of_type = Draft { event_type: "a\u{0}".into(), ..draft(json!({})) };
    let of_key = Draft { state_key: Some("\u{0}".to_owned()), ..draft(json!({})) };
    for draft in [of_type, of_key] {
        assert!(matches!(build(draft, &rules(11), &key("a.test")), Err(BuildError::Unfit(_))));
    }
}

#[test]
fn s_023_a_create_event_of_version_12_is_its_rooms_name() {
    let create = |room_id| Draft {
        room_id,
        event_type: TimelineEventType::RoomCreate,
        state_key: Some(String::new()),
        prev_events: Vec::new(),
        auth_events: Vec::new(),
        ..draft(json!({ "room_version": "12" }))
    };
    let pdu = build(create(None), &rules(12), &key("a.test")).unwrap();
    assert_eq!(pdu.room_id.as_str()[1..], pdu.event_id.as_str()[1..]);
    assert!(pdu.names_its_room());
    assert!(build(create(Some(owned_room_id!("!room:a.test"))), &rules(12), &key("a.test")).is_err());
    assert!(!build(create(Some(owned_room_id!("!room:a.test"))), &rules(11), &key("a.test")).unwrap().names_its_room());
}

#[test]
fn a_countersignature_leaves_the_first_one_and_the_id() {
    let (alice, bob) = (key("a.test"), key("b.test"));
    for version in 1..=12 {
        let pdu = build(draft(json!({ "body": "hello" })), &rules(version), &alice).unwrap();
        let mut object = read_json(&pdu.json).unwrap();
        countersign(&mut object, &rules(version), &bob).unwrap();
        assert_eq!(crate::event::event_id(&object, &rules(version)).unwrap(), pdu.event_id);
        assert_eq!(verify_event(&keys(&[&alice, &bob]), &object, &rules(version)).unwrap(), Verified::All);
        let signatures = serde_json::to_value(&object["signatures"]).unwrap();
        assert_eq!(signatures.as_object().unwrap().keys().collect::<Vec<_>>(), ["a.test", "b.test"]);
    }
}

/// <https://spec.matrix.org/v1.19/appendices/#cryptographic-test-vectors>
fn vector_key() -> ServerKey {
    let seed: Base64 = Base64::parse("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1").unwrap();
    ServerKey::from_seed(owned_server_name!("domain"), "1", seed.as_bytes().try_into().unwrap()).unwrap()
}

#[test]
fn s_045_json_is_signed_as_the_spec_shows() {
    let vectors = [
        (json!({}), "K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ"),
        (
            json!({ "one": 1, "two": "Two" }),
            "KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw",
        ),
    ];
    for (value, signature) in vectors {
        let mut object = object(value);
        vector_key().sign_json(&mut object).unwrap();
        let signatures = serde_json::to_value(&object["signatures"]).unwrap();
        assert_eq!(signatures, json!({ "domain": { "ed25519:1": signature } }));
    }
}

#[test]
fn s_045_events_are_hashed_and_signed_as_the_spec_shows() {
    let minimal = json!({
        "room_id": "!x:domain", "sender": "@a:domain", "origin": "domain", "origin_server_ts": 1_000_000,
        "signatures": {}, "hashes": {}, "type": "X", "content": {}, "prev_events": [], "auth_events": [],
        "depth": 3, "unsigned": { "age_ts": 1_000_000 },
    });
    let redactable = json!({
        "content": { "body": "Here is the message content" }, "event_id": "$0:domain", "origin": "domain",
        "origin_server_ts": 1_000_000, "type": "m.room.message", "room_id": "!r:domain", "sender": "@u:domain",
        "signatures": {}, "unsigned": { "age_ts": 1_000_000 },
    });
    let vectors = [
        (
            minimal,
            "5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos",
            "KxwGjPSDEtvnFgU00fwFz+l6d2pJM6XBIaMEn81SXPTRl16AqLAYqfIReFGZlHi5KLjAWbOoMszkwsQma+lYAg",
        ),
        (
            redactable,
            "onLKD1bGljeBWQhWZ1kaP9SorVmRQNdN5aM2JYU2n/g",
            "Wm+VzmOUOz08Ds+0NTWb1d4CZrVsJSikkeRxh6aCcUwu6pNC78FunoD7KNWzqFn241eYHYMGCA5McEiVPdhzBA",
        ),
    ];
    for (value, hash, signature) in vectors {
        let mut event = object(value);
        hash_and_sign_event("domain", &vector_key(), &mut event, &rules(1).redaction).unwrap();
        assert_eq!(serde_json::to_value(&event["hashes"]).unwrap(), json!({ "sha256": hash }));
        let signatures = serde_json::to_value(&event["signatures"]).unwrap();
        assert_eq!(signatures, json!({ "domain": { "ed25519:1": signature } }));
    }
}
