//! Which rooms and events a client's filter lets through.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#filtering>. `event_format` is always that of clients.

use rules::Pdu;
use ruma::{
    RoomId, UserId,
    api::client::filter::{Filter, LazyLoadOptions, RoomEventFilter, RoomFilter, UrlFilter},
};

/// How many timeline events a room has in one answer when the client does not say.
const TIMELINE_LIMIT_DEFAULT: usize = 10;
/// How many at most: more than fits a screen is read by pagination.
const TIMELINE_LIMIT_MAX: usize = 100;

/// Whether a filter lets anything of a room through.
pub(crate) fn selects_room(filter: &RoomFilter, room_id: &RoomId) -> bool {
    is_selected(filter.rooms.as_deref(), &filter.not_rooms, room_id)
}

/// Whether a filter for events lets events of a room through.
pub(crate) fn covers_room(filter: &RoomEventFilter, room_id: &RoomId) -> bool {
    is_selected(filter.rooms.as_deref(), &filter.not_rooms, room_id)
}

/// Whether a filter for events lets an event through; the room is not looked at.
pub(crate) fn allows(filter: &RoomEventFilter, pdu: &Pdu) -> bool {
    is_selected(filter.senders.as_deref(), &filter.not_senders, &pdu.sender)
        && (allows_all_types(filter) || allows_room_type(filter, &pdu.event_type.to_string()))
        && filter.url_filter.is_none_or(|wanted| {
            let wants_url = matches!(wanted, UrlFilter::EventsWithUrl);
            pdu.content_str("url").is_some() == wants_url
        })
}

fn allows_all_types(filter: &RoomEventFilter) -> bool {
    filter.types.is_none() && filter.not_types.is_empty()
}

/// Whether a filter for events lets events of a type through.
pub(crate) fn allows_room_type(filter: &RoomEventFilter, event_type: &str) -> bool {
    allows_type(filter.types.as_deref(), &filter.not_types, event_type)
}

/// Whether a filter for what belongs to no room lets events of a type through.
pub(crate) fn allows_global_type(filter: &Filter, event_type: &str) -> bool {
    allows_type(filter.types.as_deref(), &filter.not_types, event_type)
}

/// Whether a filter for what belongs to no room lets events of a sender through.
pub(crate) fn allows_sender(filter: &Filter, sender: &UserId) -> bool {
    is_selected(filter.senders.as_deref(), &filter.not_senders, sender)
}

/// How many timeline events a filter asks for.
pub(crate) fn timeline_limit(filter: &RoomEventFilter) -> usize {
    let limit = filter.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
    limit.unwrap_or(TIMELINE_LIMIT_DEFAULT).min(TIMELINE_LIMIT_MAX)
}

/// Whether only the member events that matter for the events shown are wanted.
pub(crate) fn lazy_loads(filter: &RoomEventFilter) -> bool {
    !filter.lazy_load_options.is_disabled()
}

/// Whether member events are wanted even where the client was told them before.
pub(crate) fn wants_redundant_members(filter: &RoomEventFilter) -> bool {
    matches!(filter.lazy_load_options, LazyLoadOptions::Enabled { include_redundant_members: true })
}

fn is_selected<Id: AsRef<str>, Any: AsRef<str> + ?Sized>(included: Option<&[Id]>, excluded: &[Id], id: &Any) -> bool {
    let names = |ids: &[Id]| ids.iter().any(|listed| listed.as_ref() == id.as_ref());
    included.is_none_or(names) && !names(excluded)
}

fn allows_type(included: Option<&[String]>, excluded: &[String], event_type: &str) -> bool {
    let matches = |patterns: &[String]| patterns.iter().any(|pattern| fits(pattern, event_type));
    included.is_none_or(matches) && !matches(excluded)
}

/// Whether a text fits a pattern in which `*` stands for any characters. Takes time linear in both.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        let Some(found) = text.find(part) else { return false };
        text = &text[found + part.len()..];
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use ruma::{UInt, room_id};
    use serde_json::{Value, json};

    use super::*;

    fn pdu(event_type: &str, sender: &str, content: &Value) -> Pdu {
        let json = json!({
            "room_id": "!room:test", "sender": sender, "type": event_type, "content": content,
            "origin_server_ts": 1, "depth": 1, "prev_events": [], "auth_events": [],
        });
        let event_id = "$event".try_into().unwrap();
        Pdu::from_json(event_id, json.to_string().into(), false).unwrap()
    }

    fn filter(json: Value) -> RoomEventFilter {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn stars_stand_for_any_characters() {
        for (pattern, text, expected) in [
            ("m.room.*", "m.room.message", true),
            ("m.room.*", "m.room.", true),
            ("m.room.*", "m.roommate", false),
            ("*", "", true),
            ("*.message", "m.room.message", true),
            ("m.*.*e", "m.room.message", true),
            ("a*a", "a", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("**x**", "axb", true),
            ("exact", "exactly", false),
            ("", "", true),
            ("m?room", "m.room", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_excluded_is_out_even_when_it_is_included() {
        let message = pdu("m.room.message", "@a:test", &json!({"url": "mxc://test/1"}));
        for (json, expected) in [
            (json!({}), true),
            (json!({"types": []}), false),
            (json!({"types": ["m.room.*"]}), true),
            (json!({"types": ["m.room.*"], "not_types": ["*.message"]}), false),
            (json!({"senders": ["@a:test"]}), true),
            (json!({"senders": ["@b:test"]}), false),
            (json!({"senders": ["@a:test"], "not_senders": ["@a:test"]}), false),
            (json!({"contains_url": true}), true),
            (json!({"contains_url": false}), false),
        ] {
            assert_eq!(allows(&filter(json.clone()), &message), expected, "{json}");
        }
        let without = pdu("m.room.message", "@a:test", &json!({"url": 1}));
        assert!(!allows(&filter(json!({"contains_url": true})), &without));
    }

    #[test]
    fn rooms_are_selected() {
        let (one, two) = (room_id!("!one:test"), room_id!("!two:test"));
        let only: RoomFilter = serde_json::from_value(json!({"rooms": [one, two], "not_rooms": [two]})).unwrap();
        assert!(selects_room(&only, one) && !selects_room(&only, two));
        assert!(covers_room(&filter(json!({})), one) && !covers_room(&filter(json!({"rooms": []})), one));
    }

    #[test]
    fn limits_are_clamped() {
        assert_eq!(timeline_limit(&RoomEventFilter::default()), TIMELINE_LIMIT_DEFAULT);
        for (limit, expected) in [(0_u32, 0), (1, 1), (100, 100), (1_000_000, TIMELINE_LIMIT_MAX)] {
            let mut filter = RoomEventFilter::default();
            filter.limit = Some(UInt::from(limit));
            assert_eq!(timeline_limit(&filter), expected);
        }
    }
}
