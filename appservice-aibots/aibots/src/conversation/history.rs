//! What a bot may know of a conversation, as turns for a model: edits applied, redactions dropped, pictures named.

use std::collections::{BTreeMap, BTreeSet};

use super::event::Event;

/// How much of one message is told to a model, in characters.
const TURN_LENGTH_MAX: usize = 8000;

/// Something that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) event_id: String,
    pub(crate) sender: String,
    pub(crate) words: String,
    /// The content of a message with a picture.
    pub(crate) image: Option<super::event::Object>,
}

/// The turns of events that are given newest first, oldest first. Nothing from any of `until` on backwards.
pub(crate) fn turns(events: &[Event], until: &[&str], turns_max: usize) -> Vec<Turn> {
    let mut edits: BTreeMap<(&str, &str), &Event> = BTreeMap::new();
    let mut turns: Vec<Turn> = Vec::new();
    let mut seen = BTreeSet::new();
    for event in events {
        if until.contains(&event.event_id.as_str()) || turns.len() == turns_max {
            break;
        }
        if event.kind != "m.room.message" || !seen.insert(event.event_id.as_str()) {
            continue;
        }
        if let Some(edited) = event.edits() {
            // The newest comes first, and only the sender's own count.
            edits.entry((edited, event.sender.as_str())).or_insert(event);
            continue;
        }
        let edit = edits.get(&(event.event_id.as_str(), event.sender.as_str()));
        turns.extend(turn(event, edit.copied()));
    }
    turns.reverse();
    turns
}

fn turn(event: &Event, edit: Option<&Event>) -> Option<Turn> {
    let mut shown = event.clone();
    if let Some(new) = edit.and_then(|edit| edit.content.get("m.new_content")).and_then(serde_json::Value::as_object) {
        shown.content.clone_from(new);
    }
    let words = shown.words();
    if words.starts_with(crate::names::COMMAND) {
        return None;
    }
    let (words, image) = match shown.msgtype() {
        _ if shown.is_nudge() => ("*nudges you to get your attention*".to_owned(), None),
        "m.text" => (words, None),
        "m.emote" => (format!("*{words}*"), None),
        "m.image" => (format!("[picture: {words}]"), Some(shown.content.clone())),
        "m.file" | "m.audio" | "m.video" => (format!("[file: {words}]"), None),
        // Notices are what machines say of themselves: also our own apologies.
        _ => return None,
    };
    let words: String = words.chars().take(TURN_LENGTH_MAX).collect();
    let turn = Turn { event_id: event.event_id.clone(), sender: event.sender.clone(), words, image };
    (!turn.words.is_empty()).then_some(turn)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::turns;
    use crate::conversation::event::{Event, said};

    fn edit(event_id: &str, sender: &str, of: &str, body: &str) -> Event {
        let mut event = said(event_id, sender, &format!("* {body}"));
        event.content.insert("m.new_content".to_owned(), json!({ "msgtype": "m.text", "body": body }));
        event.content.insert("m.relates_to".to_owned(), json!({ "rel_type": "m.replace", "event_id": of }));
        event
    }

    fn words(events: &[Event], until: &[&str]) -> Vec<String> {
        turns(events, until, 50).into_iter().map(|turn| turn.words).collect()
    }

    #[test]
    fn edits_count_when_they_are_the_senders_own() {
        let events = [
            edit("$4", "@mallory:test", "$1", "forged"),
            edit("$3", "@alice:test", "$1", "newest"),
            edit("$2", "@alice:test", "$1", "newer"),
            said("$1", "@alice:test", "old"),
        ];
        assert_eq!(words(&events, &[]), ["newest"]);
    }

    #[test]
    fn what_was_redacted_forgotten_or_automated_is_not_told() {
        let mut redacted = said("$4", "@alice:test", "secret");
        redacted.content.clear();
        let mut notice = said("$3", "@bot:test", "I am sorry");
        notice.content.insert("msgtype".to_owned(), json!("m.notice"));
        let events = [
            said("$5", "@alice:test", "now"),
            redacted,
            notice,
            said("$2", "@alice:test", "!ai reset"),
            said("$1", "@alice:test", "before"),
        ];
        assert_eq!(words(&events, &[]), ["before", "now"]);
        assert_eq!(words(&events, &["$2"]), ["now"]);
        assert_eq!(turns(&events, &[], 1)[0].words, "now", "the newest are kept");
    }
}
