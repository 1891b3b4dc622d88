//! Redactions: when they take effect, and what they leave.

use std::sync::Arc;

use homeserver_rules::{
    Change, Pdu,
    event::{Draft, event_id, read_json},
    room::{
        authorise::PowerLevels,
        create::NewRoom,
        redact::{change, may_ask, redacted_json, takes_effect},
    },
};
use proptest::prelude::*;
use ruma::signatures::{Verified, verify_event};
use serde_json::{Value, json};

use crate::{
    bounded::bounded,
    room_fixture::{ALICE, BOB, CAROL, DAVE, RoomFixture, new_room, object, public_keys, rooms, user, version},
};

fn power_levels(room: &RoomFixture) -> PowerLevels {
    let create = room.state("m.room.create", "").unwrap();
    PowerLevels::new(&room.room.rules.authorization, create, room.state("m.room.power_levels", ""))
}

/// A redaction in the form of the room's version.
fn redaction(room: &mut RoomFixture, sender: &str, target: &Pdu) -> Arc<Pdu> {
    let in_content = room.room.rules.redaction.content_field_redacts;
    let content = if in_content { json!({ "redacts": target.event_id }) } else { json!({}) };
    let draft = room.draft(sender, "m.room.redaction", None, content);
    room.craft(Draft { redacts: (!in_content).then(|| target.event_id.clone()), ..draft })
}

fn redacted(room: &RoomFixture, target: &Pdu) -> Value {
    serde_json::from_str(&redacted_json(target, &room.room.rules).unwrap()).unwrap()
}

#[test]
fn s_030_who_may_redact_whose_event() {
    for mut room in rooms(1..=12) {
        room.join(&[CAROL, DAVE]);
        room.set_levels(json!({ "redact": 20, "users": { CAROL: 20, DAVE: 19 } }));
        let levels = power_levels(&room);
        let (alices, bobs) = (room.message(ALICE, "a"), room.message(BOB, "b"));
        // Who redacts, whose event, whether it takes effect, and whether our own users may ask for it.
        let cases = [
            (ALICE, &bobs, true, true),
            (BOB, &bobs, true, true),
            (BOB, &alices, false, false),
            (CAROL, &alices, true, true),
            (CAROL, &bobs, true, true),
            (DAVE, &bobs, false, false),
            // Of the same server: other servers let it pass, but we do not let our users do it.
            (DAVE, &alices, true, false),
        ];
        for (sender, target, effective, askable) in cases {
            let redaction = redaction(&mut room, sender, target);
            assert_eq!(
                takes_effect(&redaction, target, &levels),
                effective,
                "{sender} on an event of {}",
                target.sender
            );
            let asks = may_ask(&user(sender), Some(target), &levels);
            assert_eq!(asks, askable, "{sender} on an event of {}", target.sender);
        }
        // Of an event that has not come yet, nobody knows whose it is: the power alone decides.
        for (sender, askable) in [(ALICE, true), (CAROL, true), (DAVE, false), (BOB, false)] {
            assert_eq!(may_ask(&user(sender), None, &levels), askable, "{sender} on an unknown event");
        }
    }
}

#[test]
fn s_030_a_room_without_power_levels_leaves_redacting_to_its_creator() {
    for number in 1..=12 {
        let mut room = RoomFixture::without_power_levels(version(number));
        room.set("m.room.join_rules", json!({ "join_rule": "public" }));
        room.join(&[BOB, CAROL]);
        let target = room.message(CAROL, "c");
        let levels = power_levels(&room);
        let [of_alice, of_bob] = [ALICE, BOB].map(|sender| redaction(&mut room, sender, &target));
        assert!(takes_effect(&of_alice, &target, &levels));
        assert!(!takes_effect(&of_bob, &target, &levels));
    }
}

#[test]
fn s_030_an_event_of_another_room_is_out_of_reach() {
    for mut room in rooms(1..=12) {
        let new = NewRoom {
            topic: Some("Elsewhere".to_owned()),
            creation_content: object(json!({ "type": "org.example" })),
            ..new_room(room.room.version.clone())
        };
        let mut other = RoomFixture::named("!other:a.test", &new);
        let target = other.message(ALICE, "elsewhere");
        let redaction = redaction(&mut room, ALICE, &target);
        assert!(!takes_effect(&redaction, &target, &power_levels(&room)));
    }
}

#[test]
fn s_030_the_target_is_named_where_the_version_says() {
    for mut room in rooms(1..=12) {
        let target = room.message(ALICE, "a");
        let in_content = room.room.rules.redaction.content_field_redacts;
        let draft = room.draft(ALICE, "m.room.redaction", None, json!({ "redacts": target.event_id }));
        let in_content_only = room.build(draft.clone());
        let at_top_only = Draft { content: object(json!({})), redacts: Some(target.event_id.clone()), ..draft };
        let at_top_only = room.build(at_top_only);
        let named = |pdu: &Pdu| pdu.redaction_target(in_content);
        assert_eq!(named(&in_content_only), in_content.then(|| target.event_id.clone()));
        assert_eq!(named(&at_top_only), (!in_content).then(|| target.event_id.clone()));
        let message = room.build(room.draft(ALICE, "m.room.message", None, json!({ "redacts": target.event_id })));
        assert_eq!(named(&message), None, "only redactions redact");
    }
}

/// What stays of some events that matter, and from which to which version. See also the fragments on redactions of
/// <https://spec.matrix.org/v1.19/rooms/>.
#[test]
fn s_031_protected_keys_remain() {
    let levels = json!({
        "ban": 50, "events": { "m.room.name": 50 }, "events_default": 0, "kick": 50, "redact": 50, "state_default": 50,
        "users": { BOB: 5 }, "users_default": 0, "invite": 30, "notifications": { "room": 50 }, "historical": 100,
    });
    let signed = json!({ "mxid": BOB, "token": "t", "signatures": {} });
    let third_party = json!({ "display_name": "b", "signed": signed });
    let member = json!({
        "membership": "join", "displayname": "Bob", "avatar_url": "mxc://b.test/b", "reason": "why",
        "join_authorised_via_users_server": ALICE, "third_party_invite": third_party,
    });
    let cases = [
        (
            "m.room.power_levels",
            Some(""),
            levels,
            vec![
                ("ban", 1, 12),
                ("events", 1, 12),
                ("events_default", 1, 12),
                ("kick", 1, 12),
                ("redact", 1, 12),
                ("state_default", 1, 12),
                ("users", 1, 12),
                ("users_default", 1, 12),
                ("invite", 11, 12),
            ],
        ),
        (
            "m.room.member",
            Some(BOB),
            member,
            vec![("membership", 1, 12), ("join_authorised_via_users_server", 9, 12), ("third_party_invite", 11, 12)],
        ),
        (
            "m.room.join_rules",
            Some(""),
            json!({ "join_rule": "restricted", "allow": [], "note": 1 }),
            vec![("join_rule", 1, 12), ("allow", 8, 12)],
        ),
        (
            "m.room.history_visibility",
            Some(""),
            json!({ "history_visibility": "joined", "note": 1 }),
            vec![("history_visibility", 1, 12)],
        ),
        ("m.room.aliases", Some("b.test"), json!({ "aliases": ["#a:b.test"], "note": 1 }), vec![("aliases", 1, 5)]),
        ("m.room.server_acl", Some(""), json!({ "allow": ["*"], "deny": ["evil.test"] }), vec![]),
        ("m.room.topic", Some(""), json!({ "topic": "secret" }), vec![]),
        ("m.room.message", None, json!({ "body": "secret" }), vec![]),
        ("m.room.redaction", None, json!({ "redacts": "$a", "reason": "secret" }), vec![("redacts", 11, 12)]),
    ];
    for (event_type, state_key, content, kept) in cases {
        for number in 1..=12_u8 {
            let room = rooms(number..=number).next().unwrap();
            let pdu = room.build(room.draft(BOB, event_type, state_key, content.clone()));
            let left = redacted(&room, &pdu);
            let stays =
                |key: &str| kept.iter().any(|(kept, first, last)| *kept == key && (*first..=*last).contains(&number));
            for key in content.as_object().unwrap().keys() {
                assert_eq!(left["content"].get(key).is_some(), stays(key), "version {number}: {key} of {event_type}");
            }
            if event_type == "m.room.member" && number >= 11 {
                assert_eq!(left["content"]["third_party_invite"], json!({ "signed": signed }));
            }
            assert_eq!(left.get("state_key").and_then(Value::as_str), state_key);
            assert!(!left.to_string().contains("secret"));
        }
    }
}

#[test]
fn s_031_a_redacted_create_event_still_makes_its_room() {
    for mut room in rooms(1..=12) {
        let create = room.state("m.room.create", "").unwrap();
        let rules = room.room.rules.clone();
        let json = redacted_json(&create, &rules).unwrap();
        let left = Pdu::from_json(create.event_id.clone(), json, false).unwrap();
        assert_eq!((&left.room_id, &left.sender), (&create.room_id, &create.sender));
        if rules.redaction.keep_room_create_content {
            assert_eq!(left.content.get(), create.content.get());
        } else {
            assert_eq!(left.content.get(), json!({ "creator": ALICE }).to_string());
        }
        room.events.insert(left.event_id.clone(), Arc::new(left));
        room.allows(room.draft(BOB, "m.room.message", None, json!({})));
        room.allows(room.draft(ALICE, "m.room.topic", Some(""), json!({})));
        assert_eq!(
            room.room.version.rules().unwrap().redaction.keep_room_create_content,
            rules.redaction.keep_room_create_content
        );
    }
}

#[test]
fn s_031_a_redacted_member_and_redacted_levels_still_count() {
    for mut room in rooms(1..=12) {
        room.set_levels(json!({ "events_default": 10, "users": { BOB: 10 } }));
        for (event_type, key) in [("m.room.member", BOB), ("m.room.power_levels", ""), ("m.room.join_rules", "")] {
            let pdu = room.state(event_type, key).unwrap();
            let json = redacted_json(&pdu, &room.room.rules).unwrap();
            let left = Pdu::from_json(pdu.event_id.clone(), json, false).unwrap();
            assert_eq!(left.membership(), pdu.membership());
            room.events.insert(left.event_id.clone(), Arc::new(left));
        }
        room.allows(room.draft(BOB, "m.room.message", None, json!({})));
        room.refuses(room.draft(BOB, "m.room.topic", Some(""), json!({})), "enough power");
        room.allows(room.draft(CAROL, "m.room.member", Some(CAROL), json!({ "membership": "join" })));
    }
}

/// Redactions of redactions are redactions like any other; one that is redacted names no target before version 11.
#[test]
fn s_031_chains_of_redactions_end() {
    for mut room in rooms(1..=12) {
        let message = room.message(BOB, "b");
        let mut links = vec![message];
        for _ in 0..4 {
            let next = redaction(&mut room, ALICE, links.last().unwrap());
            links.push(next);
        }
        let in_content = room.room.rules.redaction.content_field_redacts;
        for pair in links.windows(2) {
            let Some(Change::Redaction { event_id, redacted_by, json }) = change(&pair[1], &pair[0], &room.room.rules)
            else {
                panic!("no redaction");
            };
            assert_eq!((&event_id, &redacted_by), (&pair[0].event_id, &pair[1].event_id));
            let left = Pdu::from_json(event_id, json, false).unwrap();
            let still_named = left.redaction_target(in_content).is_some();
            assert_eq!(still_named, in_content && pair[0].redaction_target(in_content).is_some());
        }
        // An event may, in versions 1 and 2, name itself.
        let selfish = redaction(&mut room, ALICE, &links[1].clone());
        assert!(change(&selfish, &selfish, &room.room.rules).is_some());
    }
}

fn event_types() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "m.room.create",
        "m.room.member",
        "m.room.power_levels",
        "m.room.join_rules",
        "m.room.history_visibility",
        "m.room.aliases",
        "m.room.redaction",
        "m.room.message",
        "m.room.server_acl",
    ])
}

/// Content with keys that some redaction keeps, of any type.
fn content() -> impl Strategy<Value = Value> {
    let keys = prop::sample::select(vec![
        "membership",
        "creator",
        "join_rule",
        "allow",
        "users",
        "events",
        "invite",
        "redacts",
        "third_party_invite",
        "join_authorised_via_users_server",
        "history_visibility",
        "aliases",
        "body",
        "deny",
        "room_version",
    ]);
    let values = prop_oneof![
        Just(json!(null)),
        any::<i32>().prop_map(|number| json!(number)),
        "[a-z@:.]{0,12}".prop_map(|text| json!(text)),
        Just(json!({ "signed": { "token": "t" }, "display_name": "d" })),
        Just(json!([1, "two"])),
    ];
    prop::collection::btree_map(keys, values, 0..8).prop_map(|content| json!(content))
}

proptest! {
    #![proptest_config(bounded(128, 31))]

    #[test]
    fn s_031_redaction_is_idempotent_and_keeps_id_and_signature(
        number in 1_u8..=12,
        event_type in event_types(),
        content in content(),
    ) {
        let room = RoomFixture::without_power_levels(version(number));
        let rules = &room.room.rules;
        let draft = room.draft(ALICE, "org.example", Some(""), content);
        let draft = Draft {
            event_type: event_type.into(),
            room_id: draft.room_id.filter(|_| number < 12 || event_type != "m.room.create"),
            ..draft
        };
        let pdu = room.build(draft);
        let once = redacted_json(&pdu, rules).unwrap();
        let left = Pdu::from_json(pdu.event_id.clone(), once.clone(), false).unwrap();
        prop_assert_eq!(redacted_json(&left, rules).unwrap(), once.clone());
        let object = read_json(&once).unwrap();
        prop_assert_eq!(event_id(&object, rules).unwrap(), pdu.event_id.clone());
        // Where the content names an authoriser of another server, that server would have to sign, too; and the library
        // calls a member event without a membership unsigned.
        let wants_more = once.contains("join_authorised_via_users_server") || event_type == "m.room.member";
        if !wants_more {
            let verified = verify_event(&public_keys(), &object, rules);
            prop_assert!(matches!(verified, Ok(Verified::All | Verified::Signatures)), "{:?}", verified);
        }
    }
}
