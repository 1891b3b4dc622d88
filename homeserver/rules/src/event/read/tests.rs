//! What reading lets through, and what it refuses.

use ruma::{RoomVersionId, state_res::Event as _};
use serde_json::{Value, json};

use super::*;

fn rules(version: u8) -> RoomVersionRules {
    RoomVersionId::try_from(version.to_string()).unwrap().rules().unwrap()
}

/// A message event as servers of the given room version exchange it.
fn message(version: u8) -> Value {
    let id = "$aAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaA0";
    let reference = if version < 3 { json!(["$1:a.test", { "sha256": "aGFzaA" }]) } else { json!(id) };
    let mut event = json!({
        "auth_events": [reference],
        "content": { "body": "hello", "msgtype": "m.text" },
        "depth": 7,
        "hashes": { "sha256": "aGFzaA" },
        "origin_server_ts": 1_000,
        "prev_events": [reference],
        "room_id": if version < 12 { "!room:a.test" } else { "!bBbBbBbBbBbBbBbBbBbBbBbBbBbBbBbBbBbBbBbBbB0" },
        "sender": "@bob:b.test",
        "signatures": { "b.test": { "ed25519:1": "c2lnbmF0dXJl" } },
        "type": "m.room.message",
    });
    if version < 3 {
        event["event_id"] = json!("$2:b.test");
    }
    event
}

fn read(event: &Value, version: u8) -> Result<Pdu, ReadError> {
    read_pdu(&event.to_string(), &rules(version)).map(|(pdu, _)| pdu)
}

/// The event with one field replaced.
fn with(version: u8, field: &str, value: Value) -> Value {
    let mut event = message(version);
    event[field] = value;
    event
}

/// The text of the event with the raw text `value` as a field of its content.
fn raw_content(version: u8, value: &str) -> String {
    message(version).to_string().replace(r#""hello""#, value)
}

fn refused(text: &str) -> bool {
    (1..=12).all(|version| read_pdu(text, &rules(version)).is_err())
}

#[test]
fn every_version_reads_its_own_form() {
    for version in 1..=12 {
        let pdu = read(&message(version), version).unwrap();
        assert_eq!((pdu.depth, pdu.prev_events.len(), pdu.auth_events.len()), (7, 1, 1), "version {version}");
        let stored = Pdu::from_json(pdu.event_id.clone(), pdu.json.clone(), false).unwrap();
        assert_eq!(stored.json, pdu.json);
    }
}

#[test]
fn s_008_a_supplied_event_id_is_ignored_where_ids_are_hashes() {
    for version in 3..=12 {
        let honest = read(&message(version), version).unwrap();
        let forged = read(&with(version, "event_id", json!("$chosen:evil.test")), version).unwrap();
        assert_eq!(forged.event_id, honest.event_id, "version {version}");
        assert!(!forged.json.contains("chosen"));
        let malformed = read(&with(version, "event_id", json!(7)), version).unwrap();
        assert_eq!(malformed.event_id, honest.event_id);
    }
    assert_eq!(read(&message(1), 1).unwrap().event_id, "$2:b.test");
    let mut nameless = message(2);
    nameless.as_object_mut().unwrap().remove("event_id");
    assert!(read(&nameless, 2).is_err());
}

#[test]
fn s_038_the_largest_event_is_read_and_one_byte_more_is_not() {
    for version in 1..=12 {
        let room_left = MAX_PDU_BYTES - message(version).to_string().len();
        for (surplus, fits) in [(0, true), (1, false)] {
            let body = "x".repeat("hello".len() + room_left + surplus);
            let event = with(version, "content", json!({ "body": body, "msgtype": "m.text" }));
            assert_eq!(event.to_string().len(), MAX_PDU_BYTES + surplus);
            assert_eq!(read(&event, version).is_ok(), fits, "version {version}, {surplus} bytes too many");
        }
    }
}

#[test]
fn s_038_what_is_stripped_does_not_count() {
    let event = with(11, "unsigned", json!({ "padding": "x".repeat(MAX_PDU_BYTES) }));
    assert!(read(&event, 11).is_ok());
}

#[test]
fn s_039_identifiers_are_limited_in_bytes_not_characters() {
    let exact = |prefix: &str, suffix: &str| {
        // Every letter is two bytes: 255 bytes are about 128 characters.
        let room_left = 255 - prefix.len() - suffix.len();
        format!("{prefix}{}{}{suffix}", "a".repeat(room_left % 2), "\u{e9}".repeat(room_left / 2))
    };
    let cases = [
        ("type", exact("", ""), 11),
        ("state_key", exact("", ""), 11),
        ("sender", exact("@", ":b.test"), 11),
        ("room_id", exact("!", ":a.test"), 11),
        ("event_id", exact("$", ":b.test"), 1),
    ];
    for (field, longest, version) in cases {
        assert_eq!(longest.len(), 255);
        assert!(read(&with(version, field, json!(longest)), version).is_ok(), "{field} of 255 bytes");
        let too_long = longest.replacen('\u{e9}', "\u{20ac}", 1);
        assert_eq!((too_long.len(), too_long.chars().count()), (256, longest.chars().count()));
        assert!(read(&with(version, field, json!(too_long)), version).is_err(), "{field} of 256 bytes");
    }
}

#[test]
fn s_040_depth_is_an_integer_from_0_to_the_largest() {
    for version in 1..=12 {
        for depth in [0, 1, MAX_DEPTH] {
            assert_eq!(read(&with(version, "depth", json!(depth)), version).unwrap().depth, depth);
        }
        let refused = [
            json!(-1),
            json!(MAX_DEPTH + 1),
            json!(i64::MAX),
            json!(u64::MAX),
            json!(1.0),
            json!(1e3),
            json!("5"),
            json!(null),
            json!(true),
            json!([1]),
        ];
        for depth in refused {
            assert!(read(&with(version, "depth", depth.clone()), version).is_err(), "version {version}: {depth}");
        }
        let mut without = message(version);
        without.as_object_mut().unwrap().remove("depth");
        assert!(read(&without, version).is_err());
    }
}

/// Versions 1 to 5 would allow floats; we refuse them there too, since nothing of ours could represent them.
#[test]
fn s_041_numbers_that_canonical_json_lacks_are_refused() {
    for number in ["1.5", "1.0", "1e3", "-0", "-0.0", "9007199254740992", "-9007199254740992", "1e400"] {
        assert!(read_json(&format!(r#"{{"a":[{{"b":{number}}}]}}"#)).is_err(), "{number}");
        for version in 1..=12 {
            assert!(read_pdu(&raw_content(version, number), &rules(version)).is_err(), "version {version}: {number}");
        }
    }
    for text in ["NaN", "Infinity", "-Infinity", "+1", "01", "0x1", ".5", "1."] {
        assert!(refused(&raw_content(11, text)), "{text}");
    }
    for number in ["0", "9007199254740991", "-9007199254740991"] {
        assert!(read_pdu(&raw_content(11, number), &rules(11)).is_ok(), "{number}");
    }
}

#[test]
fn s_042_no_object_has_a_key_twice() {
    let twice = [
        r#"{"a":1,"a":1}"#,
        r#"{"a":1,"b":{},"a":2}"#,
        r#"{"a":1,"\u0061":2}"#,
        r#"{"x":{"a":1,"a":2}}"#,
        r#"{"x":[[{"y":{"":1,"":2}}]]}"#,
        r#"{"unsigned":{"a":1,"a":2}}"#,
    ];
    for text in twice {
        let error = read_json(text).unwrap_err().to_string();
        assert!(error.contains("stands twice"), "{text}: {error}");
    }
    assert!(read_json(r#"{"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}]}"#).is_ok());
    let event = message(11).to_string();
    let two_senders = event.replacen('{', r#"{"sender":"@mallory:evil.test","#, 1);
    assert!(read_pdu(&two_senders, &rules(11)).is_err());
    let two_bodies = event.replace(r#""body":"hello""#, r#""body":"hello","body":"bye""#);
    assert!(read_pdu(&two_bodies, &rules(11)).is_err());
}

#[test]
fn s_043_deep_nesting_is_refused_without_deep_recursion() {
    let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    let objects = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
    assert!(read_pdu(&raw_content(11, &nested(100)), &rules(11)).is_ok());
    for levels in [129, 1_000, 1_000_000] {
        assert!(read_json(&format!(r#"{{"a":{}}}"#, nested(levels))).is_err());
        assert!(read_json(&objects(levels)).is_err());
        assert!(refused(&raw_content(11, &nested(levels))));
    }
    assert!(read_json(&"[".repeat(1_000_000)).is_err());
    assert!(read_json(&r#"{"a":"#.repeat(200_000)).is_err());
}

#[test]
fn s_044_bad_unicode_and_stray_bytes_are_refused() {
    let event = message(11).to_string();
    for string in [r#""\ud800""#, r#""\udc00""#, r#""\ud800\u0041""#, r#""\udc00\ud800""#, r#""\x""#, "\"\u{0}\""] {
        assert!(refused(&raw_content(11, string)), "{string:?}");
    }
    for text in [format!("\u{feff}{event}"), format!("{event}x"), format!("{event}{event}"), format!("{event}\u{0}")] {
        assert!(refused(&text), "{text:?}");
    }
    assert!(read_pdu(&format!(" {event}\n"), &rules(11)).is_ok(), "white space around an event is JSON");
    let pair = read_pdu(&raw_content(11, r#""\ud83d\ude00""#), &rules(11)).unwrap().0;
    assert_eq!(pair.content_str("body").as_deref(), Some("\u{1f600}"));
}

/// Databases keep types, state keys and ids in columns, which cannot hold a NUL; content stays escaped JSON.
#[test]
fn s_044_nul_is_refused_in_keys_and_ids_and_kept_escaped_in_content() {
    for version in [1, 11, 12] {
        for (field, value) in [
            ("type", "a\u{0}b"),
            ("state_key", "\u{0}"),
            ("sender", "@a\u{0}:b.test"),
            ("room_id", "!a\u{0}:b.test"),
            ("event_id", "$a\u{0}:b.test"),
        ] {
            if field == "event_id" && version > 2 {
                continue;
            }
            assert!(read(&with(version, field, json!(value)), version).is_err(), "version {version}: {field}");
        }
        let id = "$a\u{0}";
        let reference = if version < 3 { json!([[format!("{id}:b.test"), {}]]) } else { json!([id]) };
        assert!(read(&with(version, "prev_events", reference.clone()), version).is_err());
        assert!(read(&with(version, "auth_events", reference), version).is_err());
        let redaction = json!({ "type": "m.room.redaction", "redacts": id, "content": { "redacts": id } });
        let mut event = message(version);
        event.as_object_mut().unwrap().extend(redaction.as_object().unwrap().clone());
        let target = read(&event, version).ok().and_then(|pdu| pdu.redaction_target(version >= 11));
        assert_eq!(target, None, "version {version}");
    }
    let pdu = read(&with(11, "content", json!({ "body": "a\u{0}b", "\u{0}": 1 })), 11).unwrap();
    assert!(pdu.json.contains(r#""body":"a\u0000b""#) && !pdu.json.contains('\u{0}'));
}

#[test]
fn s_046_fields_of_the_wrong_type_are_refused() {
    let wrong: [(&str, Vec<Value>); 9] = [
        ("type", vec![json!(null), json!(1), json!([]), json!({})]),
        ("sender", vec![json!(null), json!(1), json!("bob"), json!("@bob"), json!("!bob:b.test"), json!({})]),
        ("room_id", vec![json!(null), json!(1), json!("room"), json!("#room:a.test"), json!([])]),
        ("state_key", vec![json!(null), json!(0), json!(false), json!({})]),
        ("content", vec![json!(null), json!("text"), json!([]), json!(5), json!(true)]),
        ("origin_server_ts", vec![json!(null), json!("1000"), json!(true), json!({})]),
        (
            "prev_events",
            vec![json!(null), json!("$a"), json!({}), json!([null]), json!([1]), json!([["$a"]]), json!([{}])],
        ),
        (
            "auth_events",
            vec![json!(null), json!("$a"), json!({}), json!([null]), json!([1]), json!([[]]), json!(["a"])],
        ),
        ("depth", vec![json!({}), json!([])]),
    ];
    for version in 1..=12 {
        for (field, values) in &wrong {
            for value in values {
                let verdict = read(&with(version, field, value.clone()), version);
                assert!(verdict.is_err(), "version {version}: {field} = {value}");
            }
        }
        for field in ["type", "sender", "room_id", "content", "origin_server_ts", "prev_events", "auth_events"] {
            let mut without = message(version);
            without.as_object_mut().unwrap().remove(field);
            assert!(read(&without, version).is_err(), "version {version} without {field}");
        }
    }
    for text in ["", "null", "[]", "1", "\"{}\"", "{}"] {
        assert!(refused(text), "{text}");
    }
}

#[test]
fn s_046_references_have_the_form_of_their_version() {
    let pair = json!([["$1:a.test", { "sha256": "aGFzaA" }]]);
    let plain = json!(["$aAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaAaA0"]);
    for field in ["prev_events", "auth_events"] {
        for version in 1..=12 {
            let paired = read(&with(version, field, pair.clone()), version).is_ok();
            let plainly = read(&with(version, field, plain.clone()), version).is_ok();
            assert_eq!((paired, plainly), (version < 3, version >= 3), "version {version}: {field}");
        }
    }
}

/// Other servers look at `redacts` in redactions only.
#[test]
fn s_046_redacts_of_another_type_means_nothing() {
    for version in [3, 10, 11, 12] {
        for redacts in [json!(5), json!(null), json!("no id"), json!({})] {
            let pdu = read(&with(version, "redacts", redacts.clone()), version).unwrap();
            assert_eq!(pdu.redacts, None, "version {version}: {redacts}");
            let redaction = json!({ "type": "m.room.redaction", "redacts": redacts });
            let mut event = message(version);
            event.as_object_mut().unwrap().extend(redaction.as_object().unwrap().clone());
            assert_eq!(read(&event, version).unwrap().redaction_target(version >= 11), None);
        }
    }
}

#[test]
fn s_047_what_the_peer_did_not_sign_is_stripped() {
    let unsigned = json!({
        "age": 1,
        "membership": "join",
        "prev_content": { "membership": "join" },
        "redacted_because": { "type": "m.room.redaction" },
        "transaction_id": "t",
        "m.relations": {},
    });
    for version in 1..=12 {
        let (pdu, object) =
            read_pdu(&with(version, "unsigned", unsigned.clone()).to_string(), &rules(version)).unwrap();
        assert_eq!(pdu.json, read(&message(version), version).unwrap().json);
        assert!(!object.contains_key("unsigned"));
        assert!(read(&with(version, "unsigned", json!("text")), version).is_ok(), "any type of it is stripped");
    }
}

#[test]
fn s_022_create_events_name_their_room_as_their_version_wants() {
    let create = |version: u8, room_id: Option<&str>| {
        let mut event = message(version);
        let fields = event.as_object_mut().unwrap();
        fields.insert("type".to_owned(), json!("m.room.create"));
        fields.insert("state_key".to_owned(), json!(""));
        fields.insert("prev_events".to_owned(), json!([]));
        fields.insert("auth_events".to_owned(), json!([]));
        fields.remove("room_id");
        if let Some(room_id) = room_id {
            fields.insert("room_id".to_owned(), json!(room_id));
        }
        read(&event, version)
    };
    for version in 1..=11 {
        assert!(create(version, Some("!room:b.test")).is_ok(), "version {version}");
        assert!(create(version, Some("!room:a.test")).is_err(), "version {version}: another server's room id");
        assert!(create(version, None).is_err(), "version {version}: no room id");
        assert!(create(version, Some("!nodomain")).is_err(), "version {version}: no domain");
    }
    let pdu = create(12, None).unwrap();
    assert_eq!(pdu.room_id.as_str()[1..], pdu.event_id.as_str()[1..]);
    assert_eq!(pdu.room_id(), None, "the rules see that it names no room");
    assert!(create(12, Some("!room:b.test")).is_err());
    assert!(create(12, Some(pdu.room_id.as_str())).is_err());
}

#[test]
fn the_number_of_references_is_limited() {
    for (field, most) in [("prev_events", 20), ("auth_events", 10)] {
        let ids = |count: usize| json!((0..count).map(|index| format!("$event{index}")).collect::<Vec<_>>());
        assert!(read(&with(11, field, ids(most)), 11).is_ok());
        assert!(read(&with(11, field, ids(most + 1)), 11).is_err());
    }
}

#[test]
fn s_023_version_12_does_not_name_the_create_event_as_auth_event() {
    let create = "$bBbBbBbBbBbBbBbBbBbBbBbBbBbBbBbBbBbBbBbBbB0";
    assert!(read(&with(12, "auth_events", json!([create])), 12).is_err());
    assert!(read(&with(11, "auth_events", json!([create])), 11).is_ok());
}

/// <https://spec.matrix.org/v1.19/appendices/#canonical-json>, without its last example: in events the numbers that
/// it shows, `-0` and `1e10`, are refused (see S-041).
#[test]
fn s_045_canonical_json_as_the_spec_shows() {
    let vectors = [
        ("{}", "{}"),
        ("{\n \"one\": 1,\n \"two\": \"Two\"\n}", r#"{"one":1,"two":"Two"}"#),
        (r#"{ "b": "2", "a": "1" }"#, r#"{"a":"1","b":"2"}"#),
        (r#"{"b":"2","a":"1"}"#, r#"{"a":"1","b":"2"}"#),
        (
            r#"{"auth":{"success":true,"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","three_pids":
                [{"medium":"email","address":"john.doe@example.org"},{"medium":"msisdn","address":"123456789"}]}}}"#,
            r#"{"auth":{"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","three_pids":[{"address":"john.doe@example.org","medium":"email"},{"address":"123456789","medium":"msisdn"}]},"success":true}}"#,
        ),
        (r#"{"a": "日本語"}"#, r#"{"a":"日本語"}"#),
        (r#"{"本": 2, "日": 1}"#, r#"{"日":1,"本":2}"#),
        (r#"{"a": "\u65E5"}"#, r#"{"a":"日"}"#),
        (r#"{"a": null}"#, r#"{"a":null}"#),
        // By code point, U+FF21 comes before U+1F600; by UTF-16 unit it would come after.
        (
            r#"{"\ud83d\ude00":1,"\uff21":2,"a":3,"A":4,"":5}"#,
            "{\"\":5,\"A\":4,\"a\":3,\"\u{ff21}\":2,\"\u{1f600}\":1}",
        ),
        // Only what must be escaped is, in the shortest form.
        (
            r#"{"a":"\u0001\u0008\u0009\u000a\u000c\u000d\u001F\u0022\u005c\u002f\u007f\u2028"}"#,
            "{\"a\":\"\\u0001\\b\\t\\n\\f\\r\\u001f\\\"\\\\/\u{7f}\u{2028}\"}",
        ),
    ];
    for (text, canonical) in vectors {
        let object = read_json(text).unwrap();
        assert_eq!(serde_json::to_string(&object).unwrap(), canonical);
        assert_eq!(read_json(canonical).unwrap(), object);
    }
}
