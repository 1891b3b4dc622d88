//! What we build, as another server sees it that reads and verifies it.

use homeserver_rules::event::{Draft, build, read_json, read_pdu};
use proptest::{
    collection::{btree_map, vec},
    prelude::*,
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, Int,
    signatures::{Verified, verify_event},
};
use serde_json::json;

use crate::{
    bounded::bounded,
    room_fixture::{ALICE, BOB, RoomFixture, public_keys, server_key, version, versions},
};

/// Any text, NUL and the astral planes included.
fn text() -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..8).prop_map(|characters| characters.into_iter().collect())
}

fn value() -> impl Strategy<Value = CanonicalJsonValue> {
    let leaf = prop_oneof![
        Just(CanonicalJsonValue::Null),
        any::<bool>().prop_map(CanonicalJsonValue::Bool),
        (-(1_i64 << 53) + 1..1 << 53)
            .prop_map(|number| CanonicalJsonValue::Integer(Int::new(number).expect("the range is that of integers"))),
        text().prop_map(CanonicalJsonValue::String),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(CanonicalJsonValue::Array),
            btree_map(text(), inner, 0..6).prop_map(CanonicalJsonValue::Object),
        ]
    })
}

fn content() -> impl Strategy<Value = CanonicalJsonObject> {
    btree_map(text(), value(), 0..6)
}

proptest! {
    #![proptest_config(bounded(128, 45))]

    #[test]
    fn s_045_what_is_signed_survives_the_wire(number in 1_u8..=12, content in content(), depth in 0..1_u64 << 53) {
        let room = RoomFixture::without_power_levels(version(number));
        let draft = Draft { content: content.clone(), depth, ..room.draft(ALICE, "org.example", None, json!({})) };
        let built = room.build(draft);
        let (read, object) = read_pdu(&built.json, &room.room.rules).unwrap();
        prop_assert_eq!(&read.json, &built.json);
        prop_assert_eq!(&read.event_id, &built.event_id);
        prop_assert_eq!(&object["content"], &CanonicalJsonValue::Object(content));
        prop_assert_eq!(verify_event(&public_keys(), &object, &room.room.rules).unwrap(), Verified::All);
    }

    #[test]
    fn s_045_white_space_and_order_on_the_wire_do_not_matter(number in 1_u8..=12, content in content()) {
        let room = RoomFixture::without_power_levels(version(number));
        let draft = Draft { content, ..room.draft(ALICE, "org.example", None, json!({})) };
        let built = room.build(draft);
        let value: serde_json::Value = serde_json::from_str(&built.json).unwrap();
        let loose = serde_json::to_string_pretty(&value).unwrap();
        prop_assert_eq!(&read_pdu(&loose, &room.room.rules).unwrap().0.json, &built.json);
    }

    #[test]
    fn s_045_canonical_json_is_its_own_canonical_form(object in content()) {
        let text = serde_json::to_string(&object).unwrap();
        prop_assert_eq!(&read_json(&text).unwrap(), &object);
        prop_assert_eq!(serde_json::to_string(&read_json(&text).unwrap()).unwrap(), text);
    }
}

/// The room is to keep only the redacted form of such an event: the engine asks for the difference.
#[test]
fn s_007_a_wrong_content_hash_is_told_from_a_wrong_signature() {
    for version in versions() {
        let mut fixture = RoomFixture::new(version);
        let rules = fixture.room.rules.clone();
        let message = fixture.message(ALICE, "hello");
        let object = read_json(&message.json).unwrap();
        let tampered = |from: &str, to: &str| read_json(&message.json.replacen(from, to, 1)).unwrap();
        let verdict = |object: &CanonicalJsonObject| verify_event(&public_keys(), object, &rules);
        assert_eq!(verdict(&object).unwrap(), Verified::All);

        let other_body = tampered("hello", "howdy");
        assert_eq!(verdict(&other_body).unwrap(), Verified::Signatures);
        let reread = read_pdu(&serde_json::to_string(&other_body).unwrap(), &rules).unwrap().0;
        assert_eq!(reread.event_id, message.event_id, "its id covers the hash, not the content");

        let mut redacted = object.clone();
        ruma::canonical_json::redact_in_place(&mut redacted, &rules.redaction, None).unwrap();
        assert_eq!(verdict(&redacted).unwrap(), Verified::Signatures);

        assert!(verdict(&tampered(r#""type":"m.room.message""#, r#""type":"m.room.massage""#)).is_err());
        assert!(verdict(&tampered(r#""depth":"#, r#""depth":1"#)).is_err());
        assert!(verdict(&tampered(ALICE, BOB)).is_err());
        assert!(verdict(&tampered(r#""ed25519:fixture":""#, r#""ed25519:other":""#)).is_err());
        let mut unsigned = object.clone();
        unsigned.remove("signatures");
        assert!(verdict(&unsigned).is_err());
    }
}

#[test]
fn s_046_malformed_hashes_and_signatures_do_not_verify() {
    for version in versions() {
        let mut fixture = RoomFixture::new(version);
        let message = fixture.message(ALICE, "hello");
        for field in ["hashes", "signatures"] {
            for value in [json!(null), json!("text"), json!([]), json!(5), json!({ "a.test": 5, "sha256": 5 })] {
                let mut event: serde_json::Value = serde_json::from_str(&message.json).unwrap();
                event[field] = value.clone();
                let verdict = read_pdu(&event.to_string(), &fixture.room.rules)
                    .map(|(_, object)| verify_event(&public_keys(), &object, &fixture.room.rules));
                assert!(!matches!(verdict, Ok(Ok(_))), "{field} = {value}");
            }
        }
    }
}

#[test]
fn s_015_no_server_signs_for_the_users_of_another() {
    for version in versions() {
        let fixture = RoomFixture::new(version);
        let draft = fixture.draft(BOB, "m.room.message", None, json!({}));
        assert!(build(draft.clone(), &fixture.room.rules, &server_key("a.test")).is_err());
        assert!(build(draft, &fixture.room.rules, &server_key("b.test")).is_ok());
    }
}
