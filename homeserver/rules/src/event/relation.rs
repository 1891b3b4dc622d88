//! How an event relates to another one.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#forming-relationships-between-events>

use ruma::OwnedEventId;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::Pdu;

/// The relation of an edit to what it edits.
pub const REPLACE: &str = "m.replace";
/// The relation of an event in a thread to the thread's root.
pub const THREAD: &str = "m.thread";
/// The relation of an event that is about another one.
pub const REFERENCE: &str = "m.reference";
/// The relation of a reaction.
pub const ANNOTATION: &str = "m.annotation";

/// A relation that an event states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// The event that it relates to: the parent.
    pub event_id: OwnedEventId,
    /// The kind of the relation.
    pub rel_type: String,
    /// What an annotation says.
    pub key: Option<String>,
}

/// Each field is read by itself: others may write anything there.
#[derive(Deserialize)]
struct Content {
    #[serde(rename = "m.relates_to")]
    relates_to: Option<RelatesTo>,
}

#[derive(Deserialize)]
struct RelatesTo {
    #[serde(default)]
    event_id: Value,
    #[serde(default)]
    rel_type: Value,
    #[serde(default)]
    key: Value,
}

impl Relation {
    /// The relation that an event's content states. A reply is none: it has no `rel_type`.
    pub fn of(content: &RawValue) -> Option<Self> {
        // Most events relate to nothing, and need not be read for that.
        if !content.get().contains("m.relates_to") {
            return None;
        }
        let relates_to = serde_json::from_str::<Content>(content.get()).ok()?.relates_to?;
        Some(Self {
            event_id: relates_to.event_id.as_str()?.try_into().ok()?,
            rel_type: relates_to.rel_type.as_str()?.to_owned(),
            key: relates_to.key.as_str().map(ToOwned::to_owned),
        })
    }
}

impl Pdu {
    /// The relation that the event states.
    pub fn relation(&self) -> Option<Relation> {
        Relation::of(&self.content)
    }

    /// Whether this event edits that one, as far as the two of them tell.
    /// <https://spec.matrix.org/v1.19/client-server-api/#validity-of-replacement-events>
    pub fn replaces(&self, original: &Self) -> bool {
        let is_of = |relation: &Relation| relation.rel_type == REPLACE && relation.event_id == original.event_id;
        let is_edit = |pdu: &Self| pdu.relation().is_some_and(|relation| relation.rel_type == REPLACE);
        self.relation().as_ref().is_some_and(is_of)
            && self.room_id == original.room_id
            && self.sender == original.sender
            && self.event_type == original.event_type
            && self.state_key.is_none()
            && original.state_key.is_none()
            && !is_edit(original)
            && (self.is_encrypted() || self.has_new_content())
    }

    fn is_encrypted(&self) -> bool {
        self.event_type == ruma::events::TimelineEventType::RoomEncrypted
    }

    fn has_new_content(&self) -> bool {
        #[derive(Deserialize)]
        struct Edit {
            #[serde(rename = "m.new_content")]
            new_content: serde_json::Map<String, Value>,
        }
        self.content_as::<Edit>().is_some_and(|edit| !edit.new_content.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{json, value::to_raw_value};

    use super::*;

    fn pdu(event_id: &str, sender: &str, event_type: &str, content: &Value) -> Pdu {
        let json = json!({
            "room_id": "!room:test", "sender": sender, "type": event_type, "content": content,
            "origin_server_ts": 1, "depth": 1, "prev_events": [], "auth_events": [],
        });
        Pdu::from_json(event_id.try_into().unwrap(), json.to_string().into(), false).unwrap()
    }

    #[test]
    fn s_136_junk_is_no_relation() {
        let of = |content: Value| Relation::of(&to_raw_value(&content).unwrap());
        let relation = of(json!({ "m.relates_to": { "event_id": "$a", "rel_type": "m.annotation", "key": "+1" } }));
        let expected = Relation {
            event_id: "$a".try_into().unwrap(),
            rel_type: ANNOTATION.to_owned(),
            key: Some("+1".to_owned()),
        };
        assert_eq!(relation, Some(expected));
        for junk in [
            json!({}),
            json!({ "m.relates_to": [] }),
            json!({ "m.relates_to": {} }),
            json!({ "m.relates_to": null }),
            json!({ "m.relates_to": { "event_id": "a", "rel_type": "m.thread" } }),
            json!({ "m.relates_to": { "event_id": "$a", "rel_type": 1 } }),
            json!({ "m.relates_to": { "event_id": "$a", "m.in_reply_to": { "event_id": "$b" } } }),
            json!({ "m.relates_to": { "m.in_reply_to": { "event_id": "$b" } } }),
        ] {
            assert_eq!(of(junk.clone()), None, "{junk}");
        }
    }

    #[test]
    fn edits_are_by_the_same_sender_of_the_same_type_and_say_something() {
        let message = "m.room.message";
        let edit = json!({
            "m.relates_to": { "event_id": "$a", "rel_type": "m.replace" }, "m.new_content": { "body": "new" },
        });
        let original = pdu("$a", "@a:test", message, &json!({ "body": "old" }));
        assert!(pdu("$b", "@a:test", message, &edit).replaces(&original));
        assert!(!pdu("$b", "@b:test", message, &edit).replaces(&original));
        assert!(!pdu("$b", "@a:test", "m.sticker", &edit).replaces(&original));
        assert!(!pdu("$b", "@a:test", message, &edit).replaces(&pdu("$c", "@a:test", message, &json!({}))));
        assert!(!pdu("$c", "@a:test", message, &edit).replaces(&pdu("$a", "@a:test", message, &edit)));
        let mut empty = edit.clone();
        empty["m.new_content"] = json!({});
        assert!(!pdu("$b", "@a:test", message, &empty).replaces(&original));
        let encrypted = "m.room.encrypted";
        let ciphered = pdu("$a", "@a:test", encrypted, &json!({}));
        assert!(pdu("$b", "@a:test", encrypted, &empty).replaces(&ciphered));
        assert!(!pdu("$b", "@a:test", message, &edit).replaces(&ciphered));
    }
}
