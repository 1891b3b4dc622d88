//! Push rules against events.

use homeserver_rules::{
    Pdu,
    push::{PushEvent, PushRules, Recipient, default_rules},
};
use ruma::{
    push::{RuleKind, Ruleset},
    user_id,
};
use serde_json::{Value, json};

fn pdu(fields: Value) -> Pdu {
    let mut event = json!({
        "room_id": "!room:test", "sender": "@sender:test", "type": "m.room.message", "content": {},
        "origin_server_ts": 1, "depth": 1, "prev_events": [], "auth_events": [],
    });
    let Value::Object(fields) = fields else { panic!("fields are an object") };
    event.as_object_mut().unwrap().extend(fields);
    Pdu::from_json("$event".try_into().unwrap(), event.to_string().into(), false).unwrap()
}

fn rules(json: Value) -> Ruleset {
    let mut rules: Ruleset = serde_json::from_value(json).unwrap();
    rules.update_with_server_default(default_rules(user_id!("@me:test")));
    rules
}

/// Nothing, "quiet", or "loud".
fn outcome(rules: &Ruleset, fields: Value, joined_count: u64) -> &'static str {
    let me = user_id!("@me:test");
    let mut event = PushEvent::new(&pdu(fields), joined_count);
    if event.speaks_to_room() {
        event.permissions.insert("room".to_owned());
    }
    let rules = PushRules::new(rules, me);
    let recipient = Recipient { user_id: me, display_name: Some("my name") };
    match rules.evaluate(&event, recipient) {
        None => "nothing",
        Some(outcome) if outcome.highlight => "loud",
        Some(_) => "quiet",
    }
}

#[test]
fn the_default_rules() {
    let rules = rules(json!({}));
    let mentions = |mentions: Value| json!({"content": {"body": "hi", "m.mentions": mentions}});
    for (fields, expected) in [
        (json!({"content": {"msgtype": "m.text", "body": "hello"}}), "quiet"),
        (json!({"type": "m.room.encrypted"}), "quiet"),
        (json!({"content": {"msgtype": "m.notice", "body": "me"}}), "nothing"),
        (json!({"type": "m.room.topic", "state_key": "", "content": {"topic": "tea"}}), "nothing"),
        (json!({"type": "m.reaction", "content": {"body": "me"}}), "nothing"),
        (json!({"type": "m.room.server_acl", "state_key": ""}), "nothing"),
        (json!({"type": "m.room.tombstone", "state_key": ""}), "loud"),
        (json!({"type": "m.room.tombstone"}), "nothing"),
        (json!({"type": "m.call.invite"}), "quiet"),
        (json!({"type": "org.matrix.msc3381.poll.start"}), "quiet"),
        (json!({"type": "org.matrix.msc3381.poll.response"}), "nothing"),
        (json!({"content": {"body": "x", "m.relates_to": {"rel_type": "m.replace", "event_id": "$1"}}}), "nothing"),
        (mentions(json!({"user_ids": ["@other:test", "@me:test"]})), "loud"),
        (mentions(json!({"user_ids": ["@me:tes"]})), "quiet"),
        (mentions(json!({"user_ids": "@me:test"})), "quiet"),
        (mentions(json!({"room": true})), "loud"),
        (mentions(json!({"room": "true"})), "quiet"),
        (json!({"content": {"body": "Hello me!"}}), "loud"),
        (json!({"content": {"body": "Hello @me:test!"}}), "loud"),
        (json!({"content": {"body": "it is MY NAME."}}), "loud"),
        (json!({"content": {"body": "some name"}}), "quiet"),
        (json!({"content": {"body": "hey @room"}}), "loud"),
        (json!({"content": {"body": "me, my name, @room", "m.mentions": {}}}), "quiet"),
        (json!({"type": "m.room.member", "state_key": "@me:test", "content": {"membership": "invite"}}), "quiet"),
        (json!({"type": "m.room.member", "state_key": "@you:test", "content": {"membership": "invite"}}), "nothing"),
        (json!({"sender": "@me:test", "content": {"body": "me"}}), "nothing"),
    ] {
        assert_eq!(outcome(&rules, fields.clone(), 3), expected, "{fields}");
    }
    let sound = |count| {
        let event = PushEvent::new(&pdu(json!({"content": {"body": "hello"}})), count);
        let me = user_id!("@me:test");
        let recipient = Recipient { user_id: me, display_name: None };
        PushRules::new(&rules, me).evaluate(&event, recipient).unwrap().actions.len()
    };
    assert_eq!((sound(2), sound(3)), (2, 1));
}

#[test]
fn every_condition() {
    let hit = json!({"type": "m.room.message", "content": {
        "body": "Tea at five", "n": 5, "t": true, "z": null, "list": ["a", 5, null, {"x": 1}], "a.b": {"c\\d": "deep"},
    }});
    for (condition, expected) in [
        (json!({"kind": "event_match", "key": "content.body", "pattern": "tea"}), true),
        (json!({"kind": "event_match", "key": "content.body", "pattern": "te"}), false),
        (json!({"kind": "event_match", "key": "type", "pattern": "m.room.*"}), true),
        (json!({"kind": "event_match", "key": "type", "pattern": "room"}), false),
        (json!({"kind": "event_match", "key": "content.n", "pattern": "5"}), false),
        (json!({"kind": "event_match", "key": "content.missing", "pattern": "*"}), false),
        (json!({"kind": "event_match", "key": r"content.a\.b.c\\d", "pattern": "DEEP"}), true),
        (json!({"kind": "event_match", "key": "room_id", "pattern": "!room:test"}), true),
        (json!({"kind": "event_property_is", "key": "content.n", "value": 5}), true),
        (json!({"kind": "event_property_is", "key": "content.n", "value": "5"}), false),
        (json!({"kind": "event_property_is", "key": "content.t", "value": true}), true),
        (json!({"kind": "event_property_is", "key": "content.z", "value": null}), true),
        (json!({"kind": "event_property_is", "key": "content.missing", "value": null}), false),
        (json!({"kind": "event_property_is", "key": "content.body", "value": "tea at five"}), false),
        (json!({"kind": "event_property_contains", "key": "content.list", "value": "a"}), true),
        (json!({"kind": "event_property_contains", "key": "content.list", "value": null}), true),
        (json!({"kind": "event_property_contains", "key": "content.list", "value": 6}), false),
        (json!({"kind": "event_property_contains", "key": "content.body", "value": "Tea at five"}), false),
        (json!({"kind": "room_member_count", "is": "10"}), true),
        (json!({"kind": "room_member_count", "is": "<10"}), false),
        (json!({"kind": "room_member_count", "is": ">=10"}), true),
        (json!({"kind": "sender_notification_permission", "key": "room"}), false),
        (json!({"kind": "sender_notification_permission", "key": "tea"}), true),
        (json!({"kind": "contains_display_name"}), false),
        (json!({"kind": "com.example.unheard_of"}), false),
        (json!({"kind": "device", "profile_tag": "x"}), false),
    ] {
        let rule = json!({"rule_id": "x", "default": false, "enabled": true, "conditions": [condition], "actions": ["notify"]});
        let ruleset: Ruleset = serde_json::from_value(json!({"override": [rule]})).unwrap();
        let me = user_id!("@me:test");
        let mut event = PushEvent::new(&pdu(hit.clone()), 10);
        event.permissions.insert("tea".to_owned());
        let recipient = Recipient { user_id: me, display_name: Some("my name") };
        let matched = PushRules::new(&ruleset, me).evaluate(&event, recipient).is_some();
        assert_eq!(matched, expected, "{condition}");
    }
}

#[test]
fn kinds_are_asked_in_their_order() {
    let rule = |id: &str, actions: Value| json!({"rule_id": id, "default": false, "enabled": true, "actions": actions});
    let mute = json!([]);
    let loud = json!(["notify", {"set_tweak": "highlight"}]);
    let content = json!({"rule_id": "tea", "default": false, "enabled": true, "pattern": "tea", "actions": loud});
    let tea = json!({"content": {"body": "tea"}});
    let muted = rules(json!({"room": [rule("!room:test", mute.clone())]}));
    assert_eq!(outcome(&muted, json!({"content": {"body": "x"}}), 3), "nothing");
    // Who is mentioned by name in a room that is muted hears of it.
    assert_eq!(outcome(&muted, json!({"content": {"body": "me"}}), 3), "loud");
    let both = rules(json!({"room": [rule("!room:test", mute.clone())], "content": [content.clone()]}));
    assert_eq!(outcome(&both, tea.clone(), 3), "loud");
    let sender = rules(json!({"sender": [rule("@sender:test", mute.clone())]}));
    assert_eq!(outcome(&sender, tea.clone(), 3), "nothing");
    let old = rules(json!({"room": [rule("!room:test", json!(["dont_notify"]))]}));
    assert_eq!(outcome(&old, tea.clone(), 3), "nothing");
    let mut all_off = rules(json!({"content": [content]}));
    all_off.set_enabled(RuleKind::Override, ".m.rule.master", true).unwrap();
    assert_eq!(outcome(&all_off, tea, 3), "nothing");
}
