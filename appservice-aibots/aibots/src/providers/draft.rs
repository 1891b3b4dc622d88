//! An answer as it is put together: its text, its tool calls, and bounds for both.

use std::collections::BTreeMap;

use crate::provider::{Answer, Error, FinishReason, Progress, ToolCall, Usage};

/// The longest text. Bots cut what they send far below this; a model that does not stop is a defect.
const TEXT_BYTES_MAX: usize = 256 * 1024;
/// The longest arguments of one call.
const ARGUMENTS_BYTES_MAX: usize = 64 * 1024;
/// Calls in one answer. Bots make fewer; more than this is a defect.
const TOOL_CALLS_MAX: usize = 32;
/// The longest name or id that is kept.
const NAME_BYTES_MAX: usize = 256;

const THOUGHT_BEGINS: &str = "<think>";
const THOUGHT_ENDS: &str = "</think>";

/// An answer that is not complete yet.
pub(super) struct Draft {
    /// The model that answers, as the provider says.
    pub(super) model: String,
    /// Why it stopped, if it has.
    pub(super) finish_reason: Option<FinishReason>,
    /// What it used, if it said.
    pub(super) usage: Option<Usage>,
    text: String,
    /// What may still turn out to be the thoughts of a model that puts them before its words.
    held_back: String,
    thoughts: Thoughts,
    tool_calls: BTreeMap<u64, ToolCall>,
}

#[derive(PartialEq, Eq)]
enum Thoughts {
    NotBegun,
    Thinking,
    Over,
}

impl Draft {
    /// Nothing yet.
    pub(super) fn new(model: &str) -> Self {
        Self {
            model: model.to_owned(),
            finish_reason: None,
            usage: None,
            text: String::new(),
            held_back: String::new(),
            thoughts: Thoughts::NotBegun,
            tool_calls: BTreeMap::new(),
        }
    }

    /// More words. Thoughts in front of them, which models of one's own mark by a tag, are left out.
    pub(super) fn push_text(&mut self, piece: &str, progress: &Progress) -> Result<(), Error> {
        if self.text.len() + self.held_back.len() + piece.len() > TEXT_BYTES_MAX {
            return Err(Error::Malformed("the answer does not end"));
        }
        if self.thoughts == Thoughts::Over {
            self.say(piece, progress);
            return Ok(());
        }
        self.held_back.push_str(piece);
        if self.thoughts == Thoughts::NotBegun {
            let begun = self.held_back.trim_start();
            if begun.starts_with(THOUGHT_BEGINS) {
                self.thoughts = Thoughts::Thinking;
            } else if !THOUGHT_BEGINS.starts_with(begun) {
                self.thoughts = Thoughts::Over;
                let held_back = std::mem::take(&mut self.held_back);
                self.say(&held_back, progress);
            }
        }
        if self.thoughts == Thoughts::Thinking
            && let Some(at) = self.held_back.find(THOUGHT_ENDS)
        {
            self.thoughts = Thoughts::Over;
            let words = self.held_back.split_off(at + THOUGHT_ENDS.len());
            self.held_back.clear();
            self.say(words.trim_start(), progress);
        }
        Ok(())
    }

    fn say(&mut self, piece: &str, progress: &Progress) {
        self.text.push_str(piece);
        progress.push(piece);
    }

    /// A piece of the call at `index`. Ids and names come once, in the first piece; some servers repeat them in each.
    pub(super) fn push_tool_call(
        &mut self,
        index: u64,
        id: Option<&str>,
        name: Option<&str>,
        arguments: &str,
    ) -> Result<(), Error> {
        if !self.tool_calls.contains_key(&index) && self.tool_calls.len() >= TOOL_CALLS_MAX {
            return Err(Error::Malformed("too many tool calls"));
        }
        let call = self.tool_calls.entry(index).or_insert_with(|| ToolCall {
            id: String::new(),
            name: String::new(),
            arguments: String::new(),
        });
        for (field, value) in [(&mut call.id, id), (&mut call.name, name)] {
            if let Some(value) = value.filter(|value| field.is_empty() && value.len() <= NAME_BYTES_MAX) {
                value.clone_into(field);
            }
        }
        if call.arguments.len() + arguments.len() > ARGUMENTS_BYTES_MAX {
            return Err(Error::Malformed("the arguments of a tool call do not end"));
        }
        call.arguments.push_str(arguments);
        Ok(())
    }

    /// At which index the call with this id is, or where the next one goes: for servers that give no index.
    pub(super) fn index_of_tool_call(&self, id: Option<&str>) -> u64 {
        let known = self.tool_calls.iter().find(|(_, call)| id.is_some_and(|id| call.id == id));
        let last = self.tool_calls.last_key_value();
        match (known, id, last) {
            (Some((index, _)), _, _) | (None, None, Some((index, _))) => *index,
            (None, _, Some((index, _))) => index.saturating_add(1),
            (None, _, None) => 0,
        }
    }

    /// The answer. An empty one is none.
    pub(super) fn finish(self) -> Result<Answer, Error> {
        let mut tool_calls: Vec<ToolCall> =
            self.tool_calls.into_values().filter(|call| !call.name.is_empty()).collect();
        for (index, call) in tool_calls.iter_mut().enumerate() {
            if call.id.is_empty() {
                call.id = format!("call_{index}");
            }
        }
        // Held back to the end: it was no thought after all, or one that never ended and is nobody's business.
        let text = if self.thoughts == Thoughts::NotBegun { self.text + &self.held_back } else { self.text };
        let finish_reason = match self.finish_reason {
            Some(reason) if tool_calls.is_empty() => reason,
            None if tool_calls.is_empty() => FinishReason::Stop,
            _ => FinishReason::ToolCalls,
        };
        if text.trim().is_empty() && tool_calls.is_empty() {
            return Err(match finish_reason {
                FinishReason::ContentFilter => Error::ContentRefused,
                _ if self.finish_reason.is_some() => Error::Empty,
                _ => Error::Malformed("the answer is empty"),
            });
        }
        Ok(Answer { text, tool_calls, finish_reason, usage: self.usage, model: self.model })
    }
}

#[cfg(test)]
mod tests {
    use super::Draft;
    use crate::provider::{Error, FinishReason, Progress};

    fn text_of(pieces: &[&str]) -> (Result<String, Error>, String) {
        let (progress, watcher) = Progress::watched();
        let mut draft = Draft::new("m");
        for piece in pieces {
            draft.push_text(piece, &progress).unwrap();
        }
        let shown = watcher.borrow().clone();
        (draft.finish().map(|answer| answer.text), shown)
    }

    #[test]
    fn thoughts_are_not_words() {
        let both = |text: &str| (Ok(text.to_owned()), text.to_owned());
        assert_eq!(text_of(&["<th", "ink>hm", " hm</thi", "nk>\n\nHel", "lo"]), both("Hello"));
        assert_eq!(text_of(&["\n<think>\n</think>\n\n", "Hello"]), both("Hello"));
        assert_eq!(text_of(&["<", "b>x"]), both("<b>x"));
        assert_eq!(text_of(&["I say ", "<think>aloud</think>"]), both("I say <think>aloud</think>"));
        assert_eq!(text_of(&["<"]).0, Ok("<".to_owned()));
        assert!(text_of(&["<think>", "for ever"]).0.is_err());
    }

    #[test]
    fn an_empty_answer_is_none() {
        assert!(matches!(text_of(&["", " \n"]).0, Err(Error::Malformed(_))));
        let mut silent = Draft::new("m");
        silent.finish_reason = Some(FinishReason::Stop);
        assert_eq!(silent.finish(), Err(Error::Empty), "but it is complete");
        let mut filtered = Draft::new("m");
        filtered.finish_reason = Some(FinishReason::ContentFilter);
        assert_eq!(filtered.finish(), Err(Error::ContentRefused));
    }

    #[test]
    fn calls_without_an_index_are_told_apart_by_id() {
        let mut draft = Draft::new("m");
        for (id, name, arguments) in
            [(Some("a"), Some("one"), "{"), (None, None, "}"), (Some("b"), Some("two"), "{"), (Some("b"), None, "}")]
        {
            let index = draft.index_of_tool_call(id);
            draft.push_tool_call(index, id, name, arguments).unwrap();
        }
        let answer = draft.finish().unwrap();
        let calls: Vec<_> =
            answer.tool_calls.iter().map(|call| (call.name.as_str(), call.arguments.as_str())).collect();
        assert_eq!(calls, [("one", "{}"), ("two", "{}")]);
        assert_eq!(answer.finish_reason, FinishReason::ToolCalls);
    }

    #[test]
    fn what_does_not_end_is_an_error() {
        let mut draft = Draft::new("m");
        let silent = Progress::silent();
        assert!((0..5).any(|_| draft.push_text(&"x".repeat(100_000), &silent).is_err()));
        assert!((0..5).any(|_| draft.push_tool_call(0, None, Some("t"), &"x".repeat(20_000)).is_err()));
        assert!((0..50).any(|index| draft.push_tool_call(index, None, Some("t"), "").is_err()));
    }
}
