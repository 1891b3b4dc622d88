//! Replacing a room by one of another version: what the new one begins with, and how the old one is closed.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#room-upgrades>

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, Int, OwnedUserId, UserId, events::StateEventType,
    room_version_rules::AuthorizationRules,
};

/// The state with an empty key that is taken over. Join rules and power levels are, too, but not as they are.
pub const TAKEN_OVER: [StateEventType; 7] = [
    StateEventType::RoomHistoryVisibility,
    StateEventType::RoomGuestAccess,
    StateEventType::RoomServerAcl,
    StateEventType::RoomEncryption,
    StateEventType::RoomName,
    StateEventType::RoomAvatar,
    StateEventType::RoomTopic,
];

/// The power that a creator has where it is a number.
const CREATOR_LEVEL: i32 = 100;
/// The least power that talking and inviting take in a room that was replaced.
const CLOSED_LEVEL: i32 = 50;
/// The power that state takes where nothing else is said.
const STATE_LEVEL: i32 = 50;
/// The power that replacing a room takes where only its creators should have it, as in new rooms.
const TOMBSTONE_LEVEL: i32 = 150;
const LEVELS: [&str; 7] = ["users_default", "events_default", "state_default", "ban", "redact", "kick", "invite"];
const MAPS: [&str; 3] = ["users", "events", "notifications"];

/// The power levels of the new room: while it is filled, and afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels {
    /// With enough power for who replaces the room to send all of the state.
    pub at_first: CanonicalJsonObject,
    /// As they are to stay; `None` when that is the same.
    pub in_the_end: Option<CanonicalJsonObject>,
}

/// The power levels of the new room. `creators` are who replaces the room, first, and the additional creators of the new
/// room; `former` the creators of the old one, when these had power without standing in its levels.
pub fn levels(
    old: &CanonicalJsonObject,
    creators: &[OwnedUserId],
    former: &[OwnedUserId],
    rules: &AuthorizationRules,
) -> Levels {
    let mut content = with_numbers(old);
    let users = map(&mut content, "users");
    if rules.explicitly_privilege_room_creators {
        users.retain(|user_id, _| creators.iter().all(|creator| creator != user_id));
        set_tombstone_apart(&mut content);
        return Levels { at_first: content, in_the_end: None };
    }
    for user_id in former {
        users.entry(user_id.to_string()).or_insert_with(|| level(CREATOR_LEVEL));
    }
    let mut at_first = content.clone();
    let needed = state_levels(&at_first).into_iter().max().unwrap_or_default();
    let needed = needed.max(Int::from(CREATOR_LEVEL));
    if let Some(creator) = creators.first() {
        map(&mut at_first, "users").insert(creator.to_string(), CanonicalJsonValue::Integer(needed));
    }
    Levels { in_the_end: (at_first != content).then_some(content), at_first }
}

/// Where creators stand above all levels, replacing the room must take more than other state does.
/// <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3createroom>
fn set_tombstone_apart(content: &mut CanonicalJsonObject) {
    let of_state = content.get("state_default").and_then(CanonicalJsonValue::as_integer);
    let of_state = of_state.unwrap_or(Int::from(STATE_LEVEL));
    let tombstone = map(content, "events").entry("m.room.tombstone".to_owned());
    let tombstone = tombstone.or_insert_with(|| CanonicalJsonValue::Integer(of_state));
    if tombstone.as_integer().is_none_or(|now| now <= of_state) {
        let above = Int::from(TOMBSTONE_LEVEL).max(of_state.saturating_add(Int::from(1)));
        *tombstone = CanonicalJsonValue::Integer(above);
    }
}

/// The power levels of a room that was replaced; `None` when it is closed already.
pub fn closed(old: &CanonicalJsonObject) -> Option<CanonicalJsonObject> {
    let mut content = with_numbers(old);
    let default = number(&content, "users_default");
    let wanted = Int::from(CLOSED_LEVEL).max(default.saturating_add(Int::from(1)));
    for field in ["events_default", "invite"] {
        let now = number(&content, field);
        content.insert(field.to_owned(), CanonicalJsonValue::Integer(now.max(wanted)));
    }
    (content != *old).then_some(content)
}

/// The join rules of the new room, where its version knows them; else by invitation.
pub fn join_rules(old: &CanonicalJsonObject, rules: &AuthorizationRules) -> CanonicalJsonObject {
    let is_known = match old.get("join_rule").and_then(|rule| rule.as_str()) {
        Some("knock") => rules.knocking,
        Some("restricted") => rules.restricted_join_rule,
        Some("knock_restricted") => rules.knock_restricted_join_rule,
        Some(_) => true,
        None => false,
    };
    if is_known {
        return old.clone();
    }
    CanonicalJsonObject::from([("join_rule".to_owned(), CanonicalJsonValue::String("invite".to_owned()))])
}

/// Old rooms have levels that are text. What cannot be read as a number is left out.
fn with_numbers(old: &CanonicalJsonObject) -> CanonicalJsonObject {
    let mut content = old.clone();
    for field in LEVELS {
        if let Some(value) = content.remove(field) {
            content.extend(as_number(&value).map(|value| (field.to_owned(), value)));
        }
    }
    for field in MAPS {
        let Some(CanonicalJsonValue::Object(entries)) = content.remove(field) else { continue };
        let entries = entries.into_iter().filter_map(|(key, value)| Some((key, as_number(&value)?)));
        // Only user ids have power.
        let entries = entries.filter(|(key, _)| field != "users" || <&UserId>::try_from(key.as_str()).is_ok());
        content.insert(field.to_owned(), CanonicalJsonValue::Object(entries.collect()));
    }
    content
}

fn as_number(value: &CanonicalJsonValue) -> Option<CanonicalJsonValue> {
    match value {
        CanonicalJsonValue::Integer(_) => Some(value.clone()),
        CanonicalJsonValue::String(text) => text.trim().parse().ok().map(CanonicalJsonValue::Integer),
        _ => None,
    }
}

fn map<'a>(content: &'a mut CanonicalJsonObject, field: &str) -> &'a mut CanonicalJsonObject {
    let entry =
        content.entry(field.to_owned()).or_insert_with(|| CanonicalJsonValue::Object(CanonicalJsonObject::new()));
    if !matches!(entry, CanonicalJsonValue::Object(_)) {
        *entry = CanonicalJsonValue::Object(CanonicalJsonObject::new());
    }
    match entry {
        CanonicalJsonValue::Object(object) => object,
        _ => unreachable!("it was made an object above"),
    }
}

fn level(level: i32) -> CanonicalJsonValue {
    CanonicalJsonValue::Integer(Int::from(level))
}

fn number(content: &CanonicalJsonObject, field: &str) -> Int {
    match content.get(field) {
        Some(CanonicalJsonValue::Integer(number)) => *number,
        _ => Int::from(0),
    }
}

/// What sending the state, banning and changing levels may take.
fn state_levels(content: &CanonicalJsonObject) -> Vec<Int> {
    let mut levels: Vec<Int> = ["state_default", "ban"].iter().map(|field| number(content, field)).collect();
    for field in ["events", "users"] {
        let entries = content.get(field).and_then(|entries| entries.as_object()).into_iter().flatten();
        levels.extend(entries.filter_map(|(_, value)| value.as_integer()));
    }
    levels
}

#[cfg(test)]
mod tests {
    use ruma::{owned_user_id, room_version_rules::AuthorizationRules};
    use serde_json::{Value, json};

    use super::*;

    fn object(value: Value) -> CanonicalJsonObject {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn levels_are_lent_while_the_room_is_filled_and_creators_of_version_12_have_none() {
        let (admin, moderator) = (owned_user_id!("@admin:a"), owned_user_id!("@moderator:a"));
        let old =
            object(json!({"users": {"@admin:a": "100", "@moderator:a": 50, "nobody": 100}, "events": {"x": 120}}));
        let later = levels(&old, &[moderator.clone(), admin.clone()], &[], &AuthorizationRules::V12);
        assert_eq!(later.at_first, object(json!({"users": {}, "events": {"x": 120, "m.room.tombstone": 150}})));
        assert_eq!(later.in_the_end, None);
        let before = levels(&old, &[moderator], &[], &AuthorizationRules::V11);
        assert_eq!(before.at_first["users"], object(json!({"u": {"@admin:a": 100, "@moderator:a": 120}}))["u"]);
        let kept = before.in_the_end.unwrap();
        assert_eq!(kept["users"], object(json!({"u": {"@admin:a": 100, "@moderator:a": 50}}))["u"]);
        let admin = std::slice::from_ref(&admin);
        let from_12 = levels(&object(json!({})), admin, admin, &AuthorizationRules::V11);
        assert_eq!(from_12.at_first["users"], object(json!({"u": {"@admin:a": 100}}))["u"]);
        assert_eq!(from_12.in_the_end, None);
    }

    #[test]
    fn replacing_a_room_of_version_12_takes_more_than_its_other_state() {
        for (old, expected) in [
            (json!({"events": {"m.room.tombstone": 100}}), 100),
            (json!({"events": {"m.room.tombstone": "100"}}), 100),
            (json!({"events": {"m.room.tombstone": 50}}), 150),
            (json!({"state_default": 100, "events": {"m.room.tombstone": 100}}), 150),
            (json!({"state_default": 200}), 201),
            (json!({}), 150),
        ] {
            let content = levels(&object(old.clone()), &[], &[], &AuthorizationRules::V12).at_first;
            let events = content["events"].as_object().unwrap();
            assert_eq!(events["m.room.tombstone"], CanonicalJsonValue::Integer(Int::from(expected)), "{old}");
            let before = levels(&object(old), &[], &[], &AuthorizationRules::V11).at_first;
            assert_ne!(
                before.get("events").and_then(|events| events.as_object()?.get("m.room.tombstone")),
                Some(&CanonicalJsonValue::Integer(Int::from(150)))
            );
        }
    }

    #[test]
    fn a_replaced_room_is_closed_once() {
        for (old, expected) in [
            (json!({}), json!({"events_default": 50, "invite": 50})),
            (json!({"users_default": 60}), json!({"users_default": 60, "events_default": 61, "invite": 61})),
            (json!({"events_default": 75}), json!({"events_default": 75, "invite": 50})),
        ] {
            let closed_levels = closed(&object(old)).unwrap();
            assert_eq!(closed_levels, object(expected));
            assert_eq!(closed(&closed_levels), None);
        }
    }

    #[test]
    fn a_version_gets_no_join_rule_that_it_does_not_know() {
        let restricted = object(json!({"join_rule": "restricted", "allow": []}));
        assert_eq!(join_rules(&restricted, &AuthorizationRules::V8), restricted);
        assert_eq!(join_rules(&restricted, &AuthorizationRules::V7), object(json!({"join_rule": "invite"})));
    }
}
