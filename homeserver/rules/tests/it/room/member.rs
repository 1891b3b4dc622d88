//! Rule 5: memberships.

mod third_party;

use homeserver_rules::{
    event::Draft,
    room::{
        member::{Action, intent},
        send::entry_of,
    },
};
use serde_json::{Value, json};

use crate::room_fixture::{ALICE, BOB, CAROL, RoomFixture, object, rooms, user, version, versions};

/// What a target is before somebody does something to their membership.
const BEFORE: [&str; 5] = ["none", "invite", "join", "leave", "ban"];

/// A public room in which Carol has this membership.
fn room_with(mut room: RoomFixture, before: &str) -> RoomFixture {
    match before {
        "none" => {}
        "invite" => drop(room.member(ALICE, CAROL, "invite")),
        "join" => room.join(&[CAROL]),
        "leave" => {
            room.join(&[CAROL]);
            room.member(CAROL, CAROL, "leave");
        }
        "ban" => drop(room.member(ALICE, CAROL, "ban")),
        "knock" => {
            room.set("m.room.join_rules", json!({ "join_rule": "knock" }));
            room.member(CAROL, CAROL, "knock");
        }
        other => panic!("no such membership: {other}"),
    }
    room
}

fn change(room: &RoomFixture, sender: &str, target: &str, membership: &str) -> Draft {
    room.draft(sender, "m.room.member", Some(target), json!({ "membership": membership }))
}

#[track_caller]
fn expect(room: &RoomFixture, draft: Draft, allowed: bool, what: &str) {
    let verdict = room.verdict(draft);
    assert_eq!(verdict.is_ok(), allowed, "version {}, {what}: {verdict:?}", room.room.version);
}

#[test]
fn s_029_rule_5_1_a_member_event_has_a_key_and_a_membership() {
    for room in rooms(1..=12) {
        room.refuses(room.draft(BOB, "m.room.member", None, json!({ "membership": "join" })), "state_key");
        for content in
            [json!({}), json!({ "membership": null }), json!({ "membership": 5 }), json!({ "membership": {} })]
        {
            room.refuses(room.draft(BOB, "m.room.member", Some(BOB), content), "`membership` field");
        }
        for key in ["", "bob", "@bob", "#bob:b.test", "@bob:"] {
            room.refuses(room.draft(BOB, "m.room.member", Some(key), json!({ "membership": "join" })), "state_key");
        }
    }
}

#[test]
fn s_029_rule_5_8_an_unknown_membership_is_rejected() {
    for room in rooms(1..=12) {
        for membership in ["", "Join", "joined", "org.example.lurk", "kick"] {
            room.refuses(change(&room, BOB, BOB, membership), "unknown membership");
        }
    }
    for room in rooms(1..=6) {
        room.refuses(change(&room, CAROL, CAROL, "knock"), "unknown membership");
    }
}

#[test]
fn s_029_rule_5_3_1_the_creator_joins_first() {
    for version in versions() {
        let mut room = RoomFixture::without_power_levels(version);
        let create = room.state_id("m.room.create", "");
        let first = |sender, target, prev_events| Draft {
            prev_events,
            auth_events: vec![create.clone()].into_iter().filter(|_| room.room.version.as_str() != "12").collect(),
            ..change(&room, sender, target, "join")
        };
        // The creator's join is what the fixture begins with; another user's, or a later one, is not let in so.
        let join = room.state("m.room.member", ALICE).unwrap();
        room.refuses(first(BOB, BOB, vec![create.clone()]), "join_rules");
        room.allows(first(ALICE, ALICE, vec![create.clone()]));
        room.refuses(first(ALICE, ALICE, vec![create.clone(), join.event_id.clone()]), "join_rules");
        room.refuses(first(ALICE, ALICE, vec![join.event_id.clone()]), "join_rules");
        room.member(ALICE, ALICE, "leave");
        room.refuses(change(&room, ALICE, ALICE, "join"), "join_rules");
    }
}

#[test]
fn s_029_rule_5_3_1_additional_creators_do_not_join_first() {
    let room = RoomFixture::with_creation_content(version(12), json!({ "additional_creators": [BOB] }));
    let create = room.state_id("m.room.create", "");
    let draft = Draft { prev_events: vec![create], auth_events: Vec::new(), ..change(&room, BOB, BOB, "join") };
    room.refuses(draft, "join_rules");
}

#[test]
fn s_029_rule_5_3_nobody_joins_others() {
    for room in rooms(1..=12) {
        room.refuses(change(&room, ALICE, CAROL, "join"), "sender of join event must match");
        room.refuses(change(&room, BOB, ALICE, "join"), "sender of join event must match");
    }
}

/// Which join rules exist from which version on. Before, and when unknown, they let nobody in.
fn join_rules() -> [(&'static str, u8); 7] {
    [
        ("public", 1),
        ("invite", 1),
        ("knock", 7),
        ("restricted", 8),
        ("knock_restricted", 10),
        ("private", 13),
        ("org.example", 13),
    ]
}

#[test]
fn s_029_rule_5_3_who_may_join_under_which_rule() {
    for (rule, since) in join_rules() {
        for number in 1..=12 {
            for before in BEFORE {
                let room = rooms(number..=number).next().unwrap();
                let mut room = room_with(room, before);
                room.set("m.room.join_rules", json!({ "join_rule": rule }));
                let known = number >= since;
                let allowed = match before {
                    "ban" => false,
                    "invite" | "join" => known,
                    _ => rule == "public",
                };
                expect(&room, change(&room, CAROL, CAROL, "join"), allowed, &format!("{rule}, was {before}"));
            }
        }
    }
}

#[test]
fn s_029_rule_5_3_without_a_join_rule_nobody_joins() {
    for room in rooms(1..=12) {
        for content in [json!({}), json!({ "join_rule": 5 }), json!({ "join_rule": null })] {
            let mut room = room_with(RoomFixture::new(room.room.version.clone()), "invite");
            room.set("m.room.join_rules", content);
            room.refuses(change(&room, CAROL, CAROL, "join"), "join_rule");
        }
    }
}

#[test]
fn s_029_rule_5_3_5_restricted_joins_are_vouched_for_by_a_member_who_may_invite() {
    for (rule, since) in [("restricted", 8), ("knock_restricted", 10)] {
        for number in since..=12 {
            let mut room = rooms(number..=number).next().unwrap();
            room.set_levels(json!({ "invite": 20, "users": { BOB: 20 } }));
            room.set("m.room.join_rules", json!({ "join_rule": rule, "allow": [] }));
            let vouched = |room: &RoomFixture, by: Value| {
                let content = json!({ "membership": "join", "join_authorised_via_users_server": by });
                room.draft(CAROL, "m.room.member", Some(CAROL), content)
            };
            room.allows(vouched(&room, json!(ALICE)));
            room.allows(vouched(&room, json!(BOB)));
            room.refuses(vouched(&room, json!("@nobody:a.test")), "is not joined");
            room.refuses(vouched(&room, json!(CAROL)), "is not joined");
            room.refuses(vouched(&room, json!(null)), "without `join_authorised_via_users_server`");
            room.refuses(vouched(&room, json!(5)), "join_authorised_via_users_server");
            room.refuses(vouched(&room, json!("bob")), "join_authorised_via_users_server");
            room.refuses(change(&room, CAROL, CAROL, "join"), "without `join_authorised_via_users_server`");
            room.set_levels(json!({ "invite": 20, "users": { BOB: 19 } }));
            room.refuses(vouched(&room, json!(BOB)), "does not have enough power");
            room.member(BOB, BOB, "leave");
            room.refuses(vouched(&room, json!(BOB)), "is not joined");
            room.member(ALICE, CAROL, "invite");
            room.allows(change(&room, CAROL, CAROL, "join"));
            room.member(ALICE, CAROL, "ban");
            room.refuses(vouched(&room, json!(ALICE)), "banned");
        }
    }
}

#[test]
fn s_029_rule_5_4_who_may_be_invited() {
    for before in BEFORE {
        for room in rooms(1..=12) {
            let room = room_with(room, before);
            let allowed = !["join", "ban"].contains(&before);
            expect(&room, change(&room, ALICE, CAROL, "invite"), allowed, before);
        }
    }
}

#[test]
fn s_029_rule_5_4_who_may_invite() {
    for mut room in rooms(1..=12) {
        room.allows(change(&room, BOB, CAROL, "invite"));
        room.refuses(change(&room, CAROL, "@dora:c.test", "invite"), "sender is not joined");
        room.set_levels(json!({ "invite": 20, "users": { BOB: 20 } }));
        room.allows(change(&room, BOB, CAROL, "invite"));
        room.set_levels(json!({ "invite": 20, "users": { BOB: 19 } }));
        room.refuses(change(&room, BOB, CAROL, "invite"), "enough power to invite");
        room.refuses(change(&room, BOB, BOB, "invite"), "joined or banned");
    }
}

#[test]
fn s_029_rule_5_5_who_may_leave() {
    for before in BEFORE {
        for room in rooms(1..=12) {
            let room = room_with(room, before);
            let allowed = ["invite", "join"].contains(&before);
            expect(&room, change(&room, CAROL, CAROL, "leave"), allowed, before);
        }
    }
    for room in rooms(7..=12) {
        let room = room_with(room, "knock");
        room.allows(change(&room, CAROL, CAROL, "leave"));
    }
}

#[test]
fn s_029_rule_5_5_who_may_remove_whom() {
    // The kick level is 30. Bob's level, Carol's level, and whether Bob may remove her.
    let cases = [(30, 29, true), (30, 30, false), (30, 31, false), (29, 0, false), (31, 30, true), (30, -5, true)];
    for (bob, carol, allowed) in cases {
        for before in ["none", "invite", "join", "leave"] {
            for room in rooms(1..=12) {
                let mut room = room_with(room, before);
                room.set_levels(json!({ "kick": 30, "users": { BOB: bob, CAROL: carol } }));
                expect(&room, change(&room, BOB, CAROL, "leave"), allowed, &format!("{bob} against {carol}, {before}"));
            }
        }
    }
    for mut room in rooms(1..=12) {
        room.refuses(change(&room, CAROL, BOB, "leave"), "sender is not joined");
        room.member(ALICE, CAROL, "ban");
        room.refuses(change(&room, CAROL, BOB, "leave"), "sender is not joined");
    }
}

#[test]
fn s_029_rule_5_5_lifting_a_ban_takes_both_levels() {
    let cases = [(40, 30, 40, true), (40, 30, 39, false), (30, 40, 40, true), (30, 40, 39, false)];
    for (ban, kick, bob, allowed) in cases {
        for room in rooms(1..=12) {
            let mut room = room_with(room, "ban");
            room.set_levels(json!({ "ban": ban, "kick": kick, "users": { BOB: bob } }));
            expect(&room, change(&room, BOB, CAROL, "leave"), allowed, &format!("ban {ban}, kick {kick}, Bob {bob}"));
            room.refuses(change(&room, CAROL, CAROL, "leave"), "cannot leave");
        }
    }
}

#[test]
fn s_029_rule_5_6_who_may_ban_whom() {
    let cases = [(30, 29, true), (30, 30, false), (30, 31, false), (29, 0, false), (31, 30, true)];
    for (bob, carol, allowed) in cases {
        for before in BEFORE {
            for room in rooms(1..=12) {
                let mut room = room_with(room, before);
                room.set_levels(json!({ "ban": 30, "users": { BOB: bob, CAROL: carol } }));
                expect(&room, change(&room, BOB, CAROL, "ban"), allowed, &format!("{bob} against {carol}, {before}"));
            }
        }
    }
    for room in rooms(1..=12) {
        room.refuses(change(&room, CAROL, BOB, "ban"), "sender is not joined");
        room.refuses(change(&room, ALICE, ALICE, "ban"), "enough power");
    }
}

#[test]
fn s_029_rule_5_7_who_may_knock_under_which_rule() {
    for (rule, _) in join_rules() {
        for number in 7..=12 {
            for before in BEFORE {
                let mut room = room_with(rooms(number..=number).next().unwrap(), before);
                room.set("m.room.join_rules", json!({ "join_rule": rule }));
                let open = rule == "knock" || rule == "knock_restricted" && number >= 10;
                let allowed = open && ["none", "leave"].contains(&before);
                expect(&room, change(&room, CAROL, CAROL, "knock"), allowed, &format!("{rule}, was {before}"));
            }
        }
    }
    for mut room in rooms(7..=12) {
        room.set("m.room.join_rules", json!({ "join_rule": "knock" }));
        room.refuses(change(&room, BOB, CAROL, "knock"), "another user knock");
        let room = room_with(room, "knock");
        room.allows(change(&room, CAROL, CAROL, "knock"));
        room.allows(change(&room, BOB, CAROL, "invite"));
        room.refuses(change(&room, CAROL, CAROL, "join"), "not `public`");
        room.refuses(change(&room, BOB, CAROL, "leave"), "enough power to kick");
        room.allows(change(&room, ALICE, CAROL, "leave"));
    }
}

/// What is answered at once is never what the rules would allow.
#[test]
fn what_makes_no_sense_is_not_even_tried() {
    let actions = [Action::Invite, Action::Leave, Action::Kick, Action::Ban, Action::Unban];
    for before in BEFORE {
        let room = room_with(rooms(11..=11).next().unwrap(), before);
        for action in actions {
            let sender = if action == Action::Leave { CAROL } else { ALICE };
            let tried = intent(&room.room, action, &user(sender), &user(CAROL), object(json!({ "reason": "why" })));
            let sensible = match action {
                Action::Invite => ["none", "invite", "leave"].contains(&before),
                Action::Leave | Action::Kick => ["invite", "join"].contains(&before),
                Action::Ban => true,
                Action::Unban => before == "ban",
            };
            assert_eq!(tried.is_ok(), sensible, "{action:?}, was {before}");
            let Ok(intent) = tried else { continue };
            assert_eq!(intent.content["reason"].as_str(), Some("why"));
            let content = serde_json::to_value(&intent.content).unwrap();
            let made = room.try_make(sender, "m.room.member", intent.state_key.as_deref(), content).unwrap();
            let entry = entry_of(&made).unwrap();
            assert_eq!(entry.membership.unwrap().as_str(), intent.content["membership"].as_str().unwrap());
        }
    }
}
