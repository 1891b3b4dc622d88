//! What an answer is sent as, and how often it is shown while it grows.

use serde_json::{Value, json};

use super::event::Object;
use super::markdown::{cut, formatted};
use crate::names::AI;

/// When a growing answer is shown for the first time: shorter ones come whole.
const FIRST_AFTER_MS: u64 = 1500;

/// After the first time, each edit waits twice as long as the one before, beginning with this.
const EDIT_AFTER_MS: u64 = 2000;

/// At most so many edits before the last one, which has the whole text.
const EDITS_MAX: u32 = 4;

/// Fewer new characters than this are not worth an edit.
const GROWTH_MIN: usize = 24;

/// What is told about an answer in its content.
#[derive(Clone, Debug)]
pub(crate) struct About<'a> {
    /// The localpart of the bot.
    pub(crate) bot: &'a str,
    pub(crate) model: &'a str,
    /// The event that it answers.
    pub(crate) in_reply_to: &'a str,
    /// The thread that this event is in.
    pub(crate) thread: Option<&'a str>,
    /// `m.text` or `m.notice`.
    pub(crate) msgtype: &'a str,
}

/// The content of a message with the whole text, or with what there is of it.
pub(crate) fn content(text: &str, about: &About<'_>) -> Object {
    let mut content = bare(text, about);
    if let Some(thread) = about.thread {
        let relation = json!({ "rel_type": "m.thread", "event_id": thread, "is_falling_back": true,
            "m.in_reply_to": { "event_id": about.in_reply_to } });
        content.insert("m.relates_to".to_owned(), relation);
    }
    content
}

/// The content of an event that puts `text` in the place of what `event_id` says.
pub(crate) fn edit(event_id: &str, text: &str, about: &About<'_>) -> Object {
    let new = bare(text, about);
    let mut content = new.clone();
    content.insert("body".to_owned(), json!(format!("* {}", cut(text))));
    if let Some(html) = new.get("formatted_body").and_then(Value::as_str) {
        content.insert("formatted_body".to_owned(), json!(format!("* {html}")));
    }
    content.insert("m.new_content".to_owned(), Value::Object(new));
    content.insert("m.relates_to".to_owned(), json!({ "rel_type": "m.replace", "event_id": event_id }));
    content
}

fn bare(text: &str, about: &About<'_>) -> Object {
    let text = cut(text);
    let mut content = Object::new();
    content.insert("msgtype".to_owned(), json!(about.msgtype));
    content.insert("body".to_owned(), json!(text));
    if let Some(html) = formatted(text) {
        content.insert("format".to_owned(), json!("org.matrix.custom.html"));
        content.insert("formatted_body".to_owned(), json!(html));
    }
    content.insert("m.mentions".to_owned(), json!({}));
    let marker = json!({ "bot": about.bot, "model": about.model, "in_reply_to": about.in_reply_to, "hop": 1 });
    content.insert(AI.to_owned(), marker);
    content
}

/// When to show what there is of an answer.
#[derive(Clone, Debug)]
pub(crate) struct Growth {
    shown_ms: u64,
    shown_length: usize,
    edits: u32,
    is_shown: bool,
}

impl Growth {
    /// An answer that begins now. `is_shown`: whether some of it is in the room already, from before a restart.
    pub(crate) fn new(now_ms: u64, is_shown: bool) -> Self {
        Self { shown_ms: now_ms, shown_length: 0, edits: 0, is_shown }
    }

    /// Whether a text of this length is to be shown now.
    pub(crate) fn is_due(&mut self, now_ms: u64, length: usize) -> bool {
        let wait_ms = if self.is_shown { EDIT_AFTER_MS << self.edits } else { FIRST_AFTER_MS };
        let has_grown = length >= self.shown_length + GROWTH_MIN;
        if self.edits >= EDITS_MAX || !has_grown || now_ms < self.shown_ms.saturating_add(wait_ms) {
            return false;
        }
        self.edits += u32::from(self.is_shown);
        (self.shown_ms, self.shown_length, self.is_shown) = (now_ms, length, true);
        true
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{About, EDITS_MAX, Growth, content, edit};

    fn about(thread: Option<&'static str>) -> About<'static> {
        About { bot: "bo", model: "m", in_reply_to: "$asked", thread, msgtype: "m.text" }
    }

    #[test]
    fn however_long_an_answer_takes_a_handful_of_edits_show_it() {
        let mut growth = Growth::new(0, false);
        let shown: Vec<u64> =
            (0..6000).map(|tick| tick * 100).filter(|now| growth.is_due(*now, *now as usize)).collect();
        assert_eq!(shown.len() as u32, 1 + EDITS_MAX, "{shown:?}");
        assert_eq!(shown[0], 1500);
        assert!(shown.windows(3).all(|times| times[2] - times[1] >= times[1] - times[0]), "{shown:?}");
    }

    #[test]
    fn an_answer_that_does_not_grow_is_not_edited() {
        let mut growth = Growth::new(0, false);
        assert!(growth.is_due(2000, 30) && !growth.is_due(60_000, 31));
    }

    #[test]
    fn an_edit_has_the_clean_text_inside() {
        let edit = edit("$first", "**done**", &about(Some("$root")));
        assert_eq!(edit["body"], "* **done**");
        assert_eq!(edit["m.new_content"]["body"], "**done**");
        assert!(edit["m.new_content"].get("m.relates_to").is_none());
        assert_eq!(edit["m.relates_to"], json!({ "rel_type": "m.replace", "event_id": "$first" }));
    }

    #[test]
    fn answers_stay_in_their_thread_and_say_what_they_are() {
        let answer = content("hello", &about(Some("$root")));
        assert_eq!(answer["m.relates_to"]["event_id"], "$root");
        assert_eq!(answer[crate::names::AI]["hop"], 1);
        assert_eq!(answer["m.mentions"], json!({}));
        assert!(content("hello", &about(None)).get("m.relates_to").is_none());
    }
}
