//! An event as bots look at it: whatever is not formed as it should be is simply not there.

use serde_json::{Map, Value};

use crate::names::{AI, NUDGE};

/// A JSON object.
pub(crate) type Object = Map<String, Value>;

/// An event from the homeserver, decrypted where it was encrypted.
#[derive(Clone, Debug)]
#[expect(clippy::struct_field_names, reason = "the spec's name of the field")]
pub(crate) struct Event {
    pub(crate) event_id: String,
    pub(crate) room_id: String,
    pub(crate) sender: String,
    pub(crate) kind: String,
    pub(crate) state_key: Option<String>,
    /// By the sender's clock, in milliseconds.
    pub(crate) sent_ms: u64,
    pub(crate) content: Object,
    /// Whether it came encrypted; then what is said about it is not said in the clear.
    pub(crate) was_encrypted: bool,
}

impl Event {
    /// Reads an event; `room_id` is used where the event does not name its room.
    pub(crate) fn read(event: &Object, room_id: &str) -> Option<Self> {
        let text = |field: &str| event.get(field).and_then(Value::as_str);
        Some(Self {
            event_id: text("event_id")?.to_owned(),
            room_id: text("room_id").unwrap_or(room_id).to_owned(),
            sender: text("sender")?.to_owned(),
            kind: text("type")?.to_owned(),
            state_key: text("state_key").map(str::to_owned),
            sent_ms: event.get("origin_server_ts").and_then(Value::as_u64).unwrap_or(0),
            content: event.get("content").and_then(Value::as_object).cloned().unwrap_or_default(),
            was_encrypted: false,
        })
    }

    /// The same event with what was encrypted in it.
    pub(crate) fn decrypted(mut self, kind: String, content: Object) -> Self {
        // The relation of an encrypted event stands outside, where servers can see it.
        let relation = self.content.remove("m.relates_to");
        self.was_encrypted = true;
        self.kind = kind;
        self.content = content;
        if let Some(relation) = relation {
            self.content.insert("m.relates_to".to_owned(), relation);
        }
        self
    }

    pub(crate) fn text(&self, field: &str) -> &str {
        self.content.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn msgtype(&self) -> &str {
        self.text("msgtype")
    }

    fn relation(&self) -> Option<&Object> {
        self.content.get("m.relates_to")?.as_object()
    }

    /// The event that this one is an edit of.
    pub(crate) fn edits(&self) -> Option<&str> {
        let relation = self.relation()?;
        (relation.get("rel_type")?.as_str()? == "m.replace").then(|| relation.get("event_id")?.as_str()).flatten()
    }

    /// The event that this one replies to, for a human's eyes: the fallback of a thread is none.
    pub(crate) fn replies_to(&self) -> Option<&str> {
        let relation = self.relation()?;
        if relation.get("is_falling_back").and_then(Value::as_bool).unwrap_or(false) {
            return None;
        }
        relation.get("m.in_reply_to")?.get("event_id")?.as_str()
    }

    /// The first event of the thread that this one is in.
    pub(crate) fn thread(&self) -> Option<&str> {
        let relation = self.relation()?;
        (relation.get("rel_type")?.as_str()? == "m.thread").then(|| relation.get("event_id")?.as_str()).flatten()
    }

    pub(crate) fn is_nudge(&self) -> bool {
        self.content.get(NUDGE).is_some_and(|flag| *flag != Value::Bool(false) && !flag.is_null())
    }

    /// Whether a bot said it, as it says itself: nothing that took a hop starts another.
    pub(crate) fn is_automated(&self) -> bool {
        self.content.contains_key(AI) || self.content.contains_key("m.automated")
    }

    /// The event that this one answers, when it is one of ours.
    pub(crate) fn answers(&self) -> Option<&str> {
        self.content.get(AI)?.get("in_reply_to")?.as_str()
    }

    /// The body without the quotation that old clients put before a reply.
    pub(crate) fn words(&self) -> String {
        let body = self.text("body");
        if self.replies_to().is_none() || !body.starts_with("> ") {
            return body.trim().to_owned();
        }
        let quoted = body.lines().take_while(|line| line.starts_with('>')).count();
        body.lines().skip(quoted).collect::<Vec<_>>().join("\n").trim().to_owned()
    }

    /// Who is mentioned by the list that clients write, when there is one.
    pub(crate) fn mentions(&self) -> Option<Vec<&str>> {
        let mentions = self.content.get("m.mentions")?.as_object()?;
        let users = mentions.get("user_ids").and_then(Value::as_array);
        Some(users.into_iter().flatten().filter_map(Value::as_str).collect())
    }
}

/// Events for tests, with a body of text.
#[cfg(test)]
pub(crate) fn said(event_id: &str, sender: &str, body: &str) -> Event {
    let content = serde_json::json!({ "msgtype": "m.text", "body": body });
    Event {
        event_id: event_id.to_owned(),
        room_id: "!room:test".to_owned(),
        sender: sender.to_owned(),
        kind: "m.room.message".to_owned(),
        state_key: None,
        sent_ms: 1_000_000,
        content: content.as_object().cloned().unwrap_or_default(),
        was_encrypted: false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Event, said};

    #[test]
    fn quotations_of_replies_are_no_words_of_the_sender() {
        let mut event = said("$a", "@alice:test", "> <@bot:test> old words\n> more\n\nnew words");
        assert!(event.words().starts_with("> <@bot"), "without a relation a quotation is the sender's own");
        event.content.insert("m.relates_to".to_owned(), json!({ "m.in_reply_to": { "event_id": "$b" } }));
        assert_eq!(event.words(), "new words");
    }

    #[test]
    fn what_is_malformed_is_not_there() {
        let event = json!({ "event_id": "$a", "sender": 3, "type": "m.room.message", "content": {} });
        assert!(Event::read(event.as_object().unwrap(), "!r").is_none());
        let event = json!({ "event_id": "$a", "sender": "@a:b", "type": "m.room.message", "content": [] });
        let event = Event::read(event.as_object().unwrap(), "!r").unwrap();
        assert_eq!((event.room_id.as_str(), event.words().as_str()), ("!r", ""));
        assert_eq!((event.edits(), event.thread(), event.mentions()), (None, None, None));
    }
}
