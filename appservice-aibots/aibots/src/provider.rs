//! The seam between bots and whoever completes their conversations: one trait, and the plain types that cross it.
//!
//! No type here knows HTTP, Matrix or a clock. A provider gets a whole [`Request`] and gives a whole [`Answer`]; while it
//! is at it, the text so far can be watched through [`Progress`]. To cancel a request is to drop its future.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

/// Somebody who completes conversations.
pub trait Provider: Send + Sync {
    /// What operators call it: the label of metrics and log lines.
    fn name(&self) -> &str;

    /// Answers once, without trying again. The text so far is told to `progress`.
    fn answer<'a>(&'a self, request: &'a Request, progress: &'a Progress) -> BoxFuture<'a, Result<Answer, Error>>;
}

/// What is asked. Most fields have a sensible default: `Request { model, system, messages, ..Request::default() }`.
#[derive(Clone, Default, PartialEq)]
pub struct Request {
    /// The model, by the provider's name for it.
    pub model: String,
    /// The bot's display name, for providers without a model; a model learns it from the system prompt.
    pub bot_name: String,
    /// Who the bot is and how it behaves. Only the operator's words stand here, never a user's.
    pub system: String,
    /// The conversation, oldest first; the last is the one to answer.
    pub messages: Vec<Message>,
    /// What is to be answered, for providers without a model: other bots may have spoken since. `None`: the last words of
    /// the conversation.
    pub asked: Option<Asked>,
    /// How freely the model chooses its words, 0 to 2; `None` leaves it to the model.
    pub temperature: Option<f32>,
    /// At most this many tokens of answer; 0 leaves it to the provider.
    pub output_tokens_max: u32,
    /// Functions that the model may call.
    pub tools: Vec<ToolOffer>,
    /// Whether it must answer now without calling any more of them. They are still told, since calls of them stand in the
    /// conversation.
    pub is_done_with_tools: bool,
    /// What time it is, in milliseconds since the Unix epoch. For providers without a model.
    pub now_ms: u64,
    /// What chance there is in a provider without a model comes from here: the same request has the same answer.
    pub seed: u64,
}

/// The words that are to be answered.
#[derive(Clone, PartialEq, Eq)]
pub struct Asked {
    /// Who said them, in a group.
    pub speaker: Option<String>,
    /// The words, without a name before them.
    pub words: String,
}

/// Who said it, as models distinguish it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Anybody but the bot itself, other bots too.
    User,
    /// The bot itself.
    Assistant,
    /// A tool that the bot had called.
    Tool,
}

/// One turn of the conversation.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Who said it.
    pub role: Role,
    /// What was said, in this order.
    pub parts: Vec<Part>,
}

/// A part of a message.
#[derive(Clone, PartialEq, Eq)]
pub enum Part {
    /// Words.
    Text(String),
    /// A picture, for models that can see.
    Image(Image),
    /// The bot had called a tool ([`Role::Assistant`] only).
    ToolCall(ToolCall),
    /// What the tool said ([`Role::Tool`] only).
    ToolResult(ToolResult),
}

/// A picture with its bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    /// `image/png`, `image/jpeg`, `image/gif` or `image/webp`: the four that all providers take.
    pub media_type: String,
    /// The file.
    pub bytes: Bytes,
}

/// A function that a model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolOffer {
    /// Letters, digits, `_` and `-`, at most 64.
    pub name: String,
    /// What it is good for, told to the model.
    pub description: String,
    /// The JSON schema of its arguments, an object.
    pub parameters: serde_json::Value,
}

/// The model's wish to call a function.
#[derive(Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// The provider's name for this call, to be given back with the result.
    pub id: String,
    /// Which function. Nobody has checked that it was offered.
    pub name: String,
    /// Its arguments, as the model wrote them. Nobody has checked that they are JSON.
    pub arguments: String,
}

/// What a function answered.
#[derive(Clone, PartialEq, Eq)]
pub struct ToolResult {
    /// [`ToolCall::id`].
    pub call_id: String,
    /// The answer, already cut to size and marked as untrusted.
    pub content: String,
    /// Whether the call failed.
    pub failed: bool,
}

/// What came of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// The words; may be empty if tools are called.
    pub text: String,
    /// Functions to be called before the answer is complete.
    pub tool_calls: Vec<ToolCall>,
    /// Why the model stopped.
    pub finish_reason: FinishReason,
    /// What it used, as the provider counts; `None` if it does not tell, then the caller estimates.
    pub usage: Option<Usage>,
    /// The model that really answered, as the provider names it, or the one asked for.
    pub model: String,
}

/// Why a model stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// It had said everything.
    Stop,
    /// [`Request::output_tokens_max`] or the context's end was reached; the text is cut.
    Length,
    /// It waits for tools.
    ToolCalls,
    /// The provider's filter cut the answer; what stands in the text may be shown.
    ContentFilter,
}

/// Tokens used, summed over all that one answer took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the conversation.
    pub input_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
}

/// Why there is no answer. Messages are for operators; users hear only what kind it is. None contains a key, a prompt or
/// a reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Too many requests.
    #[error("the provider limits our rate")]
    RateLimited {
        /// How long it wants us to wait.
        retry_after: Option<Duration>,
    },
    /// The account with the provider has no credit left.
    #[error("the account with the provider has no credit left")]
    OverQuota,
    /// The key is refused, or may not do this.
    #[error("the provider refuses the key")]
    BadKey,
    /// No key is configured although the provider needs one.
    #[error("no key is configured for this provider")]
    NotConfigured,
    /// There is no such model, or not for this key.
    #[error("the provider does not know the model `{0}`")]
    UnknownModel(String),
    /// The conversation does not fit the model's context.
    #[error("the conversation is too long for the model")]
    ContextTooLong,
    /// The provider or the model refuses to answer this.
    #[error("the provider refuses this content")]
    ContentRefused,
    /// The provider has trouble of its own.
    #[error("the provider is overloaded or has failed")]
    Overloaded {
        /// How long it wants us to wait.
        retry_after: Option<Duration>,
    },
    /// No answer in time.
    #[error("the provider did not answer in time")]
    Timeout,
    /// The answer is complete, and there is nothing in it. Whoever asks can bring that about.
    #[error("the answer is empty")]
    Empty,
    /// The answer is not what the provider's documentation says, too large, or not even begun.
    #[error("the provider's answer is not understood: {0}")]
    Malformed(&'static str),
    /// There is no connection to the provider.
    #[error("the provider cannot be reached")]
    Unreachable,
    /// The provider finds fault with the request, in none of the ways above.
    #[error("the provider rejects the request (status {status})")]
    Rejected {
        /// The HTTP status.
        status: u16,
    },
    /// It has failed so often that it is left alone for a while; nothing was sent.
    #[error("the provider has failed repeatedly and is left alone for a while")]
    Resting,
}

impl Error {
    /// Whether the same request may succeed a bit later.
    pub fn is_worth_retrying(&self) -> bool {
        matches!(
            self,
            Self::RateLimited { .. } | Self::Overloaded { .. } | Self::Timeout | Self::Malformed(_) | Self::Unreachable
        )
    }

    /// Whether it is about what was asked, not about who was asked: the provider works.
    pub fn is_about_the_question(&self) -> bool {
        matches!(self, Self::ContextTooLong | Self::ContentRefused | Self::Empty | Self::Rejected { .. })
    }

    /// Whether the model had to read the conversation for it, which costs. A provider asks nothing for what it refuses to
    /// begin.
    pub fn costs(&self) -> bool {
        matches!(self, Self::Timeout | Self::Malformed(_) | Self::Empty | Self::ContentRefused)
    }

    /// Whether nothing but the operator can put it right.
    pub fn concerns_the_operator(&self) -> bool {
        matches!(
            self,
            Self::OverQuota | Self::BadKey | Self::NotConfigured | Self::UnknownModel(_) | Self::Rejected { .. }
        )
    }

    /// How long the provider wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } | Self::Overloaded { retry_after } => *retry_after,
            _ => None,
        }
    }

    /// A word for metrics, of which there are few.
    pub fn label(&self) -> &'static str {
        match self {
            Self::RateLimited { .. } => "rate_limited",
            Self::OverQuota => "over_quota",
            Self::BadKey => "bad_key",
            Self::NotConfigured => "not_configured",
            Self::UnknownModel(_) => "unknown_model",
            Self::ContextTooLong => "context_too_long",
            Self::ContentRefused => "content_refused",
            Self::Overloaded { .. } => "overloaded",
            Self::Timeout => "timeout",
            Self::Empty => "empty",
            Self::Malformed(_) => "malformed",
            Self::Unreachable => "unreachable",
            Self::Rejected { .. } => "rejected",
            Self::Resting => "resting",
        }
    }
}

/// Where the text of an answer grows, for whoever wants to show it before it is complete. Only the newest state is kept,
/// so that a slow watcher holds up nothing. It also adds up what was used for nothing on the way.
pub struct Progress {
    text: watch::Sender<String>,
    lost: Mutex<Usage>,
}

impl Progress {
    /// A progress and its watcher. The text may also become shorter: when a request had to begin anew.
    pub fn watched() -> (Self, watch::Receiver<String>) {
        let (text, watcher) = watch::channel(String::new());
        (Self { text, lost: Mutex::default() }, watcher)
    }

    /// A progress that nobody watches.
    pub fn silent() -> Self {
        Self::watched().0
    }

    /// The answer has grown by `piece`.
    pub fn push(&self, piece: &str) {
        if !piece.is_empty() {
            self.text.send_modify(|text| text.push_str(piece));
        }
    }

    /// What has been told so far.
    pub fn so_far(&self) -> String {
        self.text.borrow().clone()
    }

    /// Tokens were used, and no answer came of them.
    pub fn lose(&self, usage: Usage) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        *lost = lost.plus(usage);
    }

    /// What was used without an answer, besides what the answer says, if there is one.
    pub fn lost(&self) -> Usage {
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has been told so far does not count: the answer begins anew.
    pub fn restart(&self) {
        self.text.send_if_modified(|text| {
            let had_text = !text.is_empty();
            text.clear();
            had_text
        });
    }
}

impl Message {
    /// A message of words only.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Self { role, parts: vec![Part::Text(text.into())] }
    }
}

impl Usage {
    /// Both kinds together.
    pub fn total(self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }

    /// Adds what a further request used.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
        }
    }
}

// What people say to a bot, and it to them, must not get into logs by way of a debug format.

impl fmt::Debug for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Request")
            .field("model", &self.model)
            .field("messages", &self.messages.len())
            .field("tools", &self.tools.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Message").field("role", &self.role).field("parts", &self.parts.len()).finish()
    }
}

impl fmt::Debug for ToolCall {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ToolCall").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Answer")
            .field("model", &self.model)
            .field("finish_reason", &self.finish_reason)
            .field("usage", &self.usage)
            .field("tool_calls", &self.tool_calls.len())
            .finish_non_exhaustive()
    }
}
