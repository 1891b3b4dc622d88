//! Rules 4 and 6 to 12, but for power level events: what it takes to send an event.

use homeserver_rules::{event::Draft, room::authorise::PowerLevels};
use ruma::events::TimelineEventType;
use serde_json::{Value, json};

use crate::room_fixture::{ALICE, BOB, CAROL, DAVE, RoomFixture, rooms, user, version, versions};

fn message(room: &RoomFixture, sender: &str) -> Draft {
    room.draft(sender, "m.room.message", None, json!({ "body": "hello" }))
}

fn topic(room: &RoomFixture, sender: &str) -> Draft {
    room.draft(sender, "m.room.topic", Some(""), json!({ "topic": "Tea" }))
}

const TOO_WEAK: &str = "does not have enough power to send event of type";

#[test]
fn s_018_rule_4_other_servers_keep_out_of_a_room_that_is_not_federated() {
    for version in versions() {
        let mut room = RoomFixture::with_creation_content(version, json!({ "m.federate": false }));
        room.set("m.room.join_rules", json!({ "join_rule": "public" }));
        let join = |user| room.draft(user, "m.room.member", Some(user), json!({ "membership": "join" }));
        room.allows(join(DAVE));
        room.refuses(join(BOB), "not federated");
        room.allows(message(&room, ALICE));
        room.refuses(message(&room, BOB), "not federated");
    }
}

#[test]
fn s_018_the_rule_of_versions_1_to_5_for_aliases() {
    for room in rooms(1..=5) {
        let aliases = |sender, key| room.draft(sender, "m.room.aliases", key, json!({ "aliases": [] }));
        room.allows(aliases(BOB, Some("b.test")));
        room.allows(aliases(CAROL, Some("c.test")));
        room.refuses(aliases(BOB, Some("a.test")), "does not match the server name");
        room.refuses(aliases(BOB, None), "does not match the server name");
        room.refuses(aliases(BOB, Some("")), "does not match the server name");
    }
    for room in rooms(6..=12) {
        room.refuses(room.draft(BOB, "m.room.aliases", Some("b.test"), json!({ "aliases": [] })), TOO_WEAK);
        room.allows(room.draft(ALICE, "m.room.aliases", Some("b.test"), json!({ "aliases": [] })));
    }
}

#[test]
fn s_018_rule_6_only_members_send() {
    for mut room in rooms(1..=12) {
        room.allows(message(&room, BOB));
        room.refuses(message(&room, CAROL), "membership is not `join`");
        room.member(ALICE, CAROL, "invite");
        room.refuses(message(&room, CAROL), "membership is not `join`");
        room.member(BOB, BOB, "leave");
        room.refuses(message(&room, BOB), "membership is not `join`");
        room.member(ALICE, BOB, "ban");
        room.refuses(message(&room, BOB), "membership is not `join`");
    }
}

#[test]
fn s_018_rule_7_who_may_invite_may_ask_third_parties() {
    for mut room in rooms(1..=12) {
        let invitation = |room: &RoomFixture, sender| {
            room.draft(sender, "m.room.third_party_invite", Some("token"), json!({ "display_name": "b..." }))
        };
        room.set_levels(json!({ "invite": 20, "state_default": 100, "users": { BOB: 19 } }));
        room.refuses(invitation(&room, BOB), "enough power to send invites");
        room.set_levels(json!({ "invite": 20, "state_default": 100, "users": { BOB: 20 } }));
        room.allows(invitation(&room, BOB));
        room.allows(invitation(&room, ALICE));
        // The level for sending events of the type does not count.
        room.set_levels(json!({ "events": { "m.room.third_party_invite": 90 } }));
        room.allows(invitation(&room, BOB));
    }
}

#[test]
fn s_018_rule_8_events_default() {
    for mut room in rooms(1..=12) {
        room.set_levels(json!({ "events_default": 10, "users": { BOB: 9 } }));
        room.refuses(message(&room, BOB), TOO_WEAK);
        room.set_levels(json!({ "events_default": 10, "users": { BOB: 10 } }));
        room.allows(message(&room, BOB));
        room.set_levels(json!({ "events_default": 10 }));
        room.refuses(message(&room, BOB), TOO_WEAK);
        room.allows(message(&room, ALICE));
    }
}

#[test]
fn s_018_rule_8_state_default() {
    for mut room in rooms(1..=12) {
        room.set_levels(json!({ "users": { BOB: 49 } }));
        room.refuses(topic(&room, BOB), TOO_WEAK);
        room.set_levels(json!({ "users": { BOB: 50 } }));
        room.allows(topic(&room, BOB));
        room.set_levels(json!({ "state_default": 30, "users": { BOB: 30 } }));
        room.allows(topic(&room, BOB));
        room.set_levels(json!({ "state_default": 30, "users": { BOB: 29 } }));
        room.refuses(topic(&room, BOB), TOO_WEAK);
        room.allows(message(&room, BOB));
    }
}

#[test]
fn s_018_rule_8_users_default() {
    for mut room in rooms(1..=12) {
        room.set_levels(json!({ "events_default": 10, "users_default": 10 }));
        room.allows(message(&room, BOB));
        room.set_levels(json!({ "events_default": 10, "users_default": 9 }));
        room.refuses(message(&room, BOB), TOO_WEAK);
        room.set_levels(json!({ "events_default": 10, "users_default": 10, "users": { BOB: 9 } }));
        room.refuses(message(&room, BOB), TOO_WEAK);
        room.set_levels(json!({ "events_default": 0, "users_default": -1 }));
        room.refuses(message(&room, BOB), TOO_WEAK);
    }
}

#[test]
fn s_018_rule_8_the_level_of_the_event_type_comes_first() {
    for mut room in rooms(1..=12) {
        let events = json!({ "m.room.message": 20, "m.room.topic": 5 });
        room.set_levels(json!({ "events": events, "users": { BOB: 19 } }));
        room.refuses(message(&room, BOB), TOO_WEAK);
        room.allows(topic(&room, BOB));
        room.allows(room.draft(BOB, "m.sticker", None, json!({})));
        room.refuses(room.draft(BOB, "m.room.name", Some(""), json!({})), TOO_WEAK);
    }
}

#[test]
fn s_018_rule_9_state_named_after_a_user_is_theirs() {
    for mut room in rooms(1..=12) {
        room.set_levels(json!({ "state_default": 0 }));
        let state = |sender, key| room.draft(sender, "org.example", Some(key), json!({}));
        room.allows(state(BOB, BOB));
        room.allows(state(BOB, "bob"));
        room.refuses(state(BOB, ALICE), "matching another user's ID");
        room.refuses(state(ALICE, BOB), "matching another user's ID");
        room.refuses(state(BOB, "@"), "matching another user's ID");
    }
}

#[test]
fn s_018_the_rule_of_versions_1_and_2_for_redactions() {
    let redaction = |room: &RoomFixture, sender, target: &homeserver_rules::Pdu| Draft {
        redacts: Some(target.event_id.clone()),
        ..room.draft(sender, "m.room.redaction", None, json!({}))
    };
    for mut room in rooms(1..=2) {
        let (alices, bobs) = (room.message(ALICE, "a"), room.message(BOB, "b"));
        room.allows(redaction(&room, BOB, &bobs));
        room.refuses(redaction(&room, BOB, &alices), "any of the allow rules");
        room.allows(redaction(&room, ALICE, &bobs));
        room.set_levels(json!({ "redact": 20, "users": { BOB: 20 } }));
        room.allows(redaction(&room, BOB, &alices));
        room.set_levels(json!({ "redact": 20, "users": { BOB: 19 } }));
        room.refuses(redaction(&room, BOB, &alices), "any of the allow rules");
    }
    // Later the redaction is an event like any other, and whether it takes effect is decided elsewhere.
    for mut room in rooms(3..=12) {
        let alices = room.message(ALICE, "a");
        room.allows(redaction(&room, BOB, &alices));
        room.set_levels(json!({ "events": { "m.room.redaction": 1 } }));
        room.refuses(redaction(&room, BOB, &alices), TOO_WEAK);
    }
}

#[test]
fn s_019_without_power_levels_only_the_creator_sends_state() {
    for version in versions() {
        let mut room = RoomFixture::without_power_levels(version);
        room.set("m.room.join_rules", json!({ "join_rule": "public" }));
        room.join(&[BOB, DAVE]);
        room.allows(topic(&room, ALICE));
        for other in [BOB, DAVE] {
            room.refuses(topic(&room, other), TOO_WEAK);
            room.refuses(room.draft(other, "m.room.power_levels", Some(""), json!({})), TOO_WEAK);
            room.allows(message(&room, other));
            let kick = room.draft(other, "m.room.member", Some(ALICE), json!({ "membership": "leave" }));
            room.refuses(kick, "enough power");
        }
    }
}

/// The level of a user and that for a type of event, as integers of different kinds.
fn contents() -> Vec<Option<Value>> {
    let levels = [json!(0), json!(49), json!(50), json!(51), json!(-1)];
    let mut contents = vec![None, Some(json!({}))];
    for level in &levels {
        contents.extend([
            Some(json!({ "users": { BOB: level } })),
            Some(json!({ "users_default": level, "redact": 20 })),
            Some(json!({ "users": { BOB: 50 }, "state_default": level, "redact": level })),
            Some(json!({ "users": { BOB: 20 }, "events": { "m.room.topic": level } })),
        ]);
    }
    contents
}

fn power_levels(room: &RoomFixture) -> PowerLevels {
    let create = room.state("m.room.create", "").unwrap();
    PowerLevels::new(&room.room.rules.authorization, create, room.state("m.room.power_levels", ""))
}

/// What users are told that they may do is what the rules allow.
#[test]
fn s_018_the_short_answer_about_state_agrees_with_the_rules() {
    for number in 1..=12 {
        for content in contents() {
            let mut room = RoomFixture::without_power_levels(version(number));
            room.set("m.room.join_rules", json!({ "join_rule": "public" }));
            room.join(&[BOB]);
            if let Some(content) = &content {
                room.set_levels(content.clone());
            }
            for sender in [ALICE, BOB] {
                let short = power_levels(&room).may_send_state(&user(sender), &TimelineEventType::RoomTopic);
                let full = room.verdict(topic(&room, sender)).is_ok();
                assert_eq!(short, full, "version {number}, {sender}: {content:?}");
            }
        }
    }
}

/// In versions 1 and 2 the rules ask for the level that later decides whether a redaction takes effect.
#[test]
fn s_030_the_power_to_redact_agrees_with_the_rules_that_asked_for_it() {
    for number in 1..=2 {
        for content in contents() {
            let mut room = RoomFixture::without_power_levels(version(number));
            room.set("m.room.join_rules", json!({ "join_rule": "public" }));
            room.join(&[BOB, CAROL]);
            let target = room.message(CAROL, "c");
            if let Some(content) = &content {
                room.set_levels(content.clone());
            }
            for sender in [ALICE, BOB] {
                let short = power_levels(&room).may_redact(&user(sender));
                let draft = Draft {
                    redacts: Some(target.event_id.clone()),
                    ..room.draft(sender, "m.room.redaction", None, json!({}))
                };
                assert_eq!(short, room.verdict(draft).is_ok(), "version {number}, {sender}: {content:?}");
            }
        }
    }
}

/// Power levels as strings of the kinds that versions 1 to 9 allow.
#[test]
fn s_028_the_power_to_redact_reads_strings_as_the_rules_do() {
    for (text, level) in [("50", 50), (" 50 ", 50), ("+50", 50), ("0050", 50), ("-5", -5)] {
        for mut room in rooms(1..=2) {
            room.join(&[CAROL]);
            let target = room.message(CAROL, "c");
            for (bob, may) in [(level, true), (level - 1, false)] {
                let content = room.levels(json!({ "redact": text, "users": { BOB: bob }, "events_default": -100 }));
                let levels = room.build(room.draft(ALICE, "m.room.power_levels", Some(""), content));
                room.accept(&levels);
                assert_eq!(power_levels(&room).may_redact(&user(BOB)), may, "{text:?} against {bob}");
                let draft = Draft {
                    redacts: Some(target.event_id.clone()),
                    ..room.draft(BOB, "m.room.redaction", None, json!({}))
                };
                assert_eq!(room.verdict(draft).is_ok(), may, "{text:?} against {bob}");
            }
        }
    }
}
