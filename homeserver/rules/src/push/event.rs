//! An event as push rules look at it.

use std::collections::BTreeSet;

use ruma::{OwnedRoomId, OwnedUserId};
use serde_json::Value;

use super::defaults::WHOLE_ROOM;
use crate::Pdu;

/// The property that messages for people have.
const BODY: [&str; 2] = ["content", "body"];

/// An event, and what of its room rules look at.
#[derive(Clone, Debug)]
pub struct PushEvent {
    json: Value,
    /// The text of the message, in lower case.
    pub(super) body: Option<String>,
    pub(super) has_mentions: bool,
    pub(super) room_id: OwnedRoomId,
    pub(super) sender: OwnedUserId,
    /// How many are joined to the room.
    pub joined_count: u64,
    /// Which kinds of notification the sender has the power for, as far as anybody asks.
    pub permissions: BTreeSet<String>,
}

impl PushEvent {
    /// An event of a room with so many joined members. Its sender has no power so far.
    pub fn new(pdu: &Pdu, joined_count: u64) -> Self {
        let mut json: Value = serde_json::from_str(&pdu.json).unwrap_or_default();
        if let Value::Object(event) = &mut json {
            event.insert("event_id".to_owned(), pdu.event_id.as_str().into());
            event.insert("room_id".to_owned(), pdu.room_id.as_str().into());
        }
        let at = |path: &[&str]| path.iter().try_fold(&json, |value, name| value.get(name));
        Self {
            body: at(&BODY).and_then(Value::as_str).map(str::to_lowercase),
            has_mentions: at(&["content", "m.mentions"]).is_some(),
            room_id: pdu.room_id.clone(),
            sender: pdu.sender.clone(),
            joined_count,
            permissions: BTreeSet::new(),
            json,
        }
    }

    /// Whether the default rules ask if the sender may speak to the whole room.
    pub fn speaks_to_room(&self) -> bool {
        let mention = self.json.pointer("/content/m.mentions/room").and_then(Value::as_bool);
        mention == Some(true) || !self.has_mentions && self.body.as_ref().is_some_and(|body| body.contains(WHOLE_ROOM))
    }

    /// Whom the event names by their ids: whose rules may match that match for nobody else. They may be anybody.
    pub fn named(&self) -> Vec<OwnedUserId> {
        let mentioned = self.json.pointer("/content/m.mentions/user_ids").and_then(Value::as_array);
        let names = mentioned.into_iter().flatten().chain(self.json.get("state_key")).filter_map(Value::as_str);
        names.filter_map(|name| OwnedUserId::try_from(name).ok()).collect()
    }

    /// The text in which users are looked for by their names, in lower case: that of an event which does not say whom it
    /// mentions.
    pub fn text_with_names(&self) -> Option<&str> {
        self.body.as_deref().filter(|_| !self.has_mentions)
    }

    /// The property at a path.
    pub(super) fn property(&self, path: &Path) -> Option<&Value> {
        path.0.iter().try_fold(&self.json, |value, name| value.as_object()?.get(&**name))
    }
}

/// The path of a property of an event.
/// <https://spec.matrix.org/v1.19/appendices/#dot-separated-property-paths>
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path(Box<[Box<str>]>);

impl Path {
    /// Reads a path: names between dots, a backslash before dots and backslashes that belong to a name.
    pub(super) fn new(text: &str) -> Self {
        let mut names = vec![String::new()];
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            let escaped = (character == '\\').then(|| characters.next_if(|next| ['.', '\\'].contains(next))).flatten();
            match (character, escaped, names.last_mut()) {
                ('.', _, _) => names.push(String::new()),
                (character, escaped, Some(name)) => name.push(escaped.unwrap_or(character)),
                (_, _, None) => {}
            }
        }
        Self(names.into_iter().map(Into::into).collect())
    }

    /// Whether it is the text of a message.
    pub(super) fn is_body(&self) -> bool {
        self.0.len() == BODY.len() && self.0.iter().zip(BODY).all(|(name, expected)| **name == *expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_at_dots_that_are_not_escaped() {
        for (text, expected) in [
            ("type", vec!["type"]),
            ("content.body", vec!["content", "body"]),
            (r"content.m\.relates_to.rel_type", vec!["content", "m.relates_to", "rel_type"]),
            (r"a\\.b", vec!["a\\", "b"]),
            (r"a\b", vec!["a\\b"]),
            ("", vec![""]),
            (".", vec!["", ""]),
        ] {
            assert_eq!(Path::new(text), Path(expected.into_iter().map(Into::into).collect()), "{text}");
        }
        assert!(Path::new("content.body").is_body() && !Path::new("content.body.x").is_body());
    }
}
