//! Rule 10: who may change power levels, and to what.

use homeserver_rules::event::Draft;
use serde_json::{Value, json};

use crate::room_fixture::{ALICE, BOB, CAROL, DAVE, RoomFixture, rooms, version, versions};

const INTEGER_FIELDS: [&str; 7] =
    ["users_default", "events_default", "state_default", "ban", "redact", "kick", "invite"];
const MAX: i64 = (1 << 53) - 1;

/// Rooms in which Bob, with level 50, may send power levels, and these are set besides.
fn rooms_with(numbers: std::ops::RangeInclusive<u8>, fields: &Value) -> impl Iterator<Item = RoomFixture> {
    rooms(numbers).map(move |mut room| {
        let mut content = base(json!({}));
        merge(&mut content, fields);
        room.set_levels(content);
        room
    })
}

fn base(fields: Value) -> Value {
    let mut content = json!({ "users": { BOB: 50 }, "events": { "m.room.power_levels": 50 } });
    merge(&mut content, &fields);
    content
}

fn merge(content: &mut Value, fields: &Value) {
    for (key, value) in fields.as_object().unwrap() {
        match (&mut content[key], value) {
            (Value::Object(old), Value::Object(new)) => old.extend(new.clone()),
            (old, new) => *old = new.clone(),
        }
    }
}

/// The event by which the sender sets these levels.
fn change(room: &RoomFixture, sender: &str, content: Value) -> Draft {
    room.draft(sender, "m.room.power_levels", Some(""), room.levels(content))
}

#[test]
fn s_018_rule_10_1_levels_are_integers_from_version_10_on() {
    for field in INTEGER_FIELDS {
        for value in [json!("50"), json!(null), json!(true), json!([50]), json!({ "a": 50 })] {
            for room in rooms(10..=12) {
                room.refuses(change(&room, ALICE, json!({ field: value })), "unexpected format");
                room.allows(change(&room, ALICE, json!({ field: 50 })));
            }
        }
    }
}

#[test]
fn s_018_rule_10_2_events_and_notifications_are_integers_from_version_10_on() {
    for field in ["events", "notifications"] {
        for value in [json!("50"), json!(null), json!(7), json!([]), json!({ "room": "50" }), json!({ "room": null })] {
            for room in rooms(10..=12) {
                room.refuses(change(&room, ALICE, json!({ field: value })), "unexpected format");
                room.allows(change(&room, ALICE, json!({ field: { "room": 50 } })));
            }
        }
    }
}

#[test]
fn s_018_rule_10_3_users_are_user_ids_with_integers() {
    for mut room in rooms(1..=12) {
        room.set_levels(base(json!({})));
        let users = |room: &RoomFixture, users: Value| Draft {
            content: crate::room_fixture::object(json!({ "users": users })),
            ..change(room, ALICE, json!({}))
        };
        for wrong in
            [json!("text"), json!(null), json!([]), json!({ "bob": 5 }), json!({ BOB: null }), json!({ BOB: [5] })]
        {
            room.refuses(users(&room, wrong), "unexpected format");
        }
        let mut right = json!({ BOB: 5 });
        if room.room.rules.authorization.explicitly_privilege_room_creators {
            room.refuses(users(&room, json!({ ALICE: 100 })), "creator user IDs are not allowed");
        } else {
            right[ALICE] = json!(100);
        }
        room.allows(users(&room, right));
    }
}

/// Rule 10.4 and S-023.
#[test]
fn s_023_creators_do_not_stand_in_the_levels_of_version_12() {
    let mut room = RoomFixture::with_creation_content(version(12), json!({ "additional_creators": [BOB] }));
    for creator in [ALICE, BOB] {
        let levels = room.draft(ALICE, "m.room.power_levels", Some(""), json!({ "users": { creator: 100 } }));
        room.refuses(levels, "creator user IDs are not allowed");
    }
    room.set("m.room.power_levels", json!({ "users": { CAROL: MAX } }));
    for creator in [ALICE, BOB] {
        let levels = json!({ "users": { CAROL: MAX, creator: MAX } });
        room.refuses(room.draft(ALICE, "m.room.power_levels", Some(""), levels), "creator user IDs are not allowed");
    }
}

/// A creator of version 12 stands above the largest integer, and is not reached by it.
#[test]
fn s_023_creators_of_version_12_stand_above_all() {
    let mut room = RoomFixture::with_creation_content(version(12), json!({ "additional_creators": [BOB] }));
    room.set("m.room.join_rules", json!({ "join_rule": "public" }));
    room.join(&[BOB, CAROL]);
    room.set("m.room.power_levels", json!({ "users": { CAROL: MAX }, "events": { "m.room.topic": MAX }, "ban": MAX }));
    let member = |sender, target, membership| {
        room.draft(sender, "m.room.member", Some(target), json!({ "membership": membership }))
    };
    for creator in [ALICE, BOB] {
        room.allows(room.draft(creator, "m.room.topic", Some(""), json!({})));
        room.refuses(member(CAROL, creator, "ban"), "enough power");
        room.refuses(member(CAROL, creator, "leave"), "enough power");
        room.allows(member(creator, CAROL, "ban"));
        room.allows(member(creator, CAROL, "leave"));
        let demotion = room.draft(creator, "m.room.power_levels", Some(""), json!({ "users": { CAROL: 0 } }));
        room.allows(demotion);
    }
    // Not even another creator removes a creator: neither is above the other.
    room.refuses(member(ALICE, BOB, "leave"), "enough power");
}

#[test]
fn s_018_rule_10_5_the_first_power_levels_may_say_anything() {
    for version in versions() {
        let room = RoomFixture::without_power_levels(version);
        room.allows(change(&room, ALICE, json!({ "ban": MAX, "users": { BOB: MAX }, "users_default": -MAX })));
    }
}

#[test]
fn s_018_rule_10_6_fields_are_changed_up_to_the_own_level() {
    for field in INTEGER_FIELDS {
        // Low enough that Bob can still send, and can change it.
        for room in rooms_with(1..=12, &json!({ field: 40 })) {
            let set = |value: i64| change(&room, BOB, base(json!({ field: value })));
            room.allows(set(50));
            room.allows(set(-5));
            room.refuses(set(51), "to change the power level");
            room.allows(change(&room, BOB, base(json!({}))));
        }
        // What is above is out of reach, to be lowered as well as to be removed.
        for room in rooms_with(1..=12, &json!({ field: 51 })) {
            let set = |value: i64| change(&room, BOB, base(json!({ field: value })));
            room.allows(set(51));
            room.refuses(set(50), "to change the power level");
            room.refuses(change(&room, BOB, base(json!({}))), "to change the power level");
            room.allows(change(&room, ALICE, base(json!({ field: 0 }))));
        }
    }
}

#[test]
fn s_018_rules_10_7_and_10_8_entries_are_changed_up_to_the_own_level() {
    for (map, first) in [("events", 1), ("notifications", 6)] {
        for room in rooms_with(first..=12, &json!({ map: { "low": 50, "high": 51 } })) {
            let entry = |key: &str, value: i64| {
                let mut content = base(json!({ map: { "low": 50, "high": 51 } }));
                content[map][key] = json!(value);
                change(&room, BOB, content)
            };
            room.allows(entry("low", 0));
            room.allows(entry("new", 50));
            room.refuses(entry("low", 51), "to change the `low`");
            room.refuses(entry("new", 51), "to change the `new`");
            room.refuses(entry("high", 50), "to change the `high`");
            let without = |key: &str| {
                let mut content = base(json!({ map: { "low": 50, "high": 51 } }));
                content[map].as_object_mut().unwrap().remove(key);
                change(&room, BOB, content)
            };
            room.allows(without("low"));
            room.refuses(without("high"), "to change the `high`");
        }
    }
    // Until version 5, notifications are free to all who may send power levels.
    for room in rooms_with(1..=5, &json!({ "notifications": { "room": 51 } })) {
        room.allows(change(&room, BOB, base(json!({ "notifications": { "room": 99 } }))));
    }
}

#[test]
fn s_018_rules_10_9_and_10_10_users_are_changed_below_the_own_level() {
    for room in rooms_with(1..=12, &json!({ "users": { CAROL: 49, DAVE: 50 } })) {
        let entry = |user: &str, level: i64| {
            let mut content = base(json!({ "users": { CAROL: 49, DAVE: 50 } }));
            content["users"][user] = json!(level);
            change(&room, BOB, content)
        };
        room.allows(entry(CAROL, 50));
        room.allows(entry(CAROL, -1));
        room.allows(entry("@new:c.test", 50));
        room.allows(entry(BOB, 49));
        room.refuses(entry(CAROL, 51), "to change `@carol:c.test`");
        room.refuses(entry("@new:c.test", 51), "to change `@new:c.test`");
        room.refuses(entry(BOB, 51), "to change `@bob:b.test`");
        room.refuses(entry(DAVE, 49), "to change `@dave:a.test`");
        room.refuses(change(&room, BOB, base(json!({ "users": { CAROL: 49 } }))), "to change `@dave:a.test`");
        room.allows(change(&room, BOB, base(json!({ "users": { DAVE: 50 } }))));
    }
}

#[test]
fn s_028_versions_1_to_9_read_strings_as_levels() {
    for room in rooms(1..=9) {
        for level in ["50", "0050", "+50", "-50", "  50\n"] {
            let content = json!({
                "ban": level, "users": { BOB: level }, "events": { "m.room.topic": level },
                "notifications": { "room": level },
            });
            room.allows(change(&room, ALICE, content));
        }
        for level in ["fifty", "", "5.0", "5 0", "0x5", "9007199254740992", "99999999999999999999"] {
            room.refuses(change(&room, ALICE, json!({ "ban": level })), "unexpected format");
            room.refuses(change(&room, ALICE, json!({ "users": { BOB: level } })), "unexpected format");
        }
        room.refuses(change(&room, ALICE, json!({ "ban": "101" })), "to change the power level");
    }
}

/// What no version reads as a level, in a field that all versions check.
#[test]
fn s_028_other_types_are_never_levels() {
    for room in rooms(1..=12) {
        for level in [json!(null), json!(true), json!([]), json!([50]), json!({ "level": 50 })] {
            for field in INTEGER_FIELDS {
                room.refuses(change(&room, ALICE, json!({ field: level })), "unexpected format");
            }
            room.refuses(change(&room, ALICE, json!({ "users": { BOB: level } })), "unexpected format");
            room.refuses(change(&room, ALICE, json!({ "events": { "m.room.topic": level } })), "unexpected format");
            room.refuses(change(&room, ALICE, json!({ "notifications": { "room": level } })), "unexpected format");
        }
    }
}

#[test]
fn s_028_both_ends_of_the_integers_compare_without_overflow() {
    let message = |room: &RoomFixture, sender| room.draft(sender, "m.room.message", None, json!({}));
    for mut room in rooms(1..=12) {
        room.set_levels(json!({ "users_default": -MAX, "events_default": -MAX + 1 }));
        room.refuses(message(&room, BOB), "enough power");
        room.set_levels(json!({ "users_default": -MAX, "events_default": -MAX }));
        room.allows(message(&room, BOB));
        let creator_is_above = room.room.rules.authorization.explicitly_privilege_room_creators;
        assert_eq!(room.verdict(change(&room, ALICE, json!({ "ban": MAX }))).is_ok(), creator_is_above);
        assert_eq!(room.verdict(change(&room, ALICE, json!({ "users": { BOB: MAX } }))).is_ok(), creator_is_above);
    }
    for number in 1..=11 {
        let mut room = RoomFixture::without_power_levels(version(number));
        room.set("m.room.power_levels", json!({ "users": { ALICE: MAX }, "events_default": MAX }));
        room.allows(message(&room, ALICE));
        room.allows(room.draft(
            ALICE,
            "m.room.power_levels",
            Some(""),
            json!({ "users": { ALICE: -MAX }, "ban": MAX }),
        ));
    }
}
