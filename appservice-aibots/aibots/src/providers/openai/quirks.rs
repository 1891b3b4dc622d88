//! Which optional fields a model's server has rejected, learnt from its own words.

use serde_json::Value;

/// How many there are to learn.
pub(super) const COUNT: usize = 4;

/// What to leave out or to write in another way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub(super) struct Quirks {
    /// `stream_options` is rejected: usage is then estimated.
    pub(super) without_stream_options: bool,
    /// `temperature` is rejected, as by models that reason.
    pub(super) without_temperature: bool,
    /// `max_tokens` is rejected in favour of `max_completion_tokens`.
    pub(super) max_completion_tokens: bool,
    /// `stream` is rejected.
    pub(super) without_stream: bool,
}

impl Quirks {
    /// What a refusal teaches, given what was `asked`. The same as before if it teaches nothing.
    pub(super) fn learn(mut self, status: u16, refusal: &Value, asked: &Value) -> Self {
        if !matches!(status, 400 | 422) {
            return self;
        }
        let words = refusal.to_string().to_ascii_lowercase();
        let named = |field: &str| asked.get(field).is_some() && words.contains(field);
        // The message about `max_tokens` names both, and `stream_options` contains `stream`.
        if named("max_tokens") && words.contains("max_completion_tokens") {
            self.max_completion_tokens = true;
        } else if named("stream_options") {
            self.without_stream_options = true;
        } else if named("temperature") {
            self.without_temperature = true;
        } else if asked["stream"] == true && names_stream(refusal, &words) {
            self.without_stream = true;
        }
        self
    }
}

/// The word alone is in too many messages, such as those about what is upstream.
fn names_stream(refusal: &Value, words: &str) -> bool {
    let is_named = refusal.pointer("/error/param").is_some_and(|param| param == "stream");
    is_named
        || ["'stream'", "`stream`", "stream=true", "streaming is not supported"].iter().any(|name| words.contains(name))
}
