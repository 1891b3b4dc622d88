//! The reply: one object, or chunks of it as events.

use serde::Deserialize;
use serde_json::Value;

use crate::{
    provider::{Answer, Error, FinishReason, Progress, Usage},
    providers::{
        draft::Draft,
        exchange::{Assembler, Failure, Step},
        sse::Event,
    },
};

use super::fault::fault_in_reply;

/// Puts chunks together.
pub(super) struct Reply {
    draft: Draft,
}

/// A chunk, or a whole reply: they differ in that one has `delta` and the other `message`.
#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    #[serde(default)]
    usage: Option<ReportedUsage>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u64,
    #[serde(default, alias = "delta")]
    message: Option<Piece>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Piece {
    #[serde(default)]
    content: Option<Value>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<CallPiece>>,
}

#[derive(Deserialize)]
struct CallPiece {
    #[serde(default)]
    index: Option<u64>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    function: Option<FunctionPiece>,
}

#[derive(Default, Deserialize)]
struct FunctionPiece {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<Value>,
}

#[derive(Deserialize)]
struct ReportedUsage {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
}

impl Reply {
    /// Nothing yet of what `model` says.
    pub(super) fn new(model: &str) -> Self {
        Self { draft: Draft::new(model) }
    }

    fn take(&mut self, value: Value, progress: &Progress) -> Result<Step, Failure> {
        if let Some(fault) = fault_in_reply(&value) {
            return Err(Failure::Fault(fault));
        }
        let chunk: Chunk = serde_json::from_value(value).map_err(|_| Error::Malformed("a chunk has another shape"))?;
        if let Some(model) = chunk.model.filter(|model| !model.is_empty() && model.len() <= MODEL_BYTES_MAX) {
            self.draft.model = model;
        }
        if let Some(usage) = chunk.usage {
            self.draft.usage = usage.read().or(self.draft.usage);
        }
        // We ask for one choice; a server that gives more is not asked for an opinion on which is best.
        for choice in chunk.choices.unwrap_or_default().into_iter().filter(|choice| choice.index == 0) {
            self.choice(choice, progress)?;
        }
        Ok(if self.draft.finish_reason.is_some() { Step::Complete } else { Step::More })
    }

    fn choice(&mut self, choice: Choice, progress: &Progress) -> Result<(), Failure> {
        let piece = choice.message.unwrap_or_default();
        if let Some(text) = piece.content.as_ref().and_then(text_of) {
            self.draft.push_text(&text, progress)?;
        }
        if piece.refusal.is_some_and(|refusal| !refusal.is_empty()) {
            return Err(Error::ContentRefused.into());
        }
        for call in piece.tool_calls.unwrap_or_default() {
            self.call(call)?;
        }
        match choice.finish_reason.as_deref() {
            None | Some("") => {}
            // OpenRouter ends a stream in this way when the model's own server fails; the reason came before, or never.
            Some("error") => return Err(Error::Overloaded { retry_after: None }.into()),
            Some(reason) => self.draft.finish_reason = Some(finish_reason(reason)),
        }
        Ok(())
    }

    fn call(&mut self, call: CallPiece) -> Result<(), Error> {
        let id = call.id.as_deref().filter(|id| !id.is_empty());
        let function = call.function.unwrap_or_default();
        let arguments = match function.arguments {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text,
            Some(object) => object.to_string(),
        };
        let index = call.index.unwrap_or_else(|| self.draft.index_of_tool_call(id));
        self.draft.push_tool_call(index, id, function.name.as_deref(), &arguments)
    }
}

/// Names of models are short; what is longer is not repeated to anybody.
const MODEL_BYTES_MAX: usize = 200;

impl Assembler for Reply {
    fn event(&mut self, event: &Event, progress: &Progress) -> Result<Step, Failure> {
        let data = event.data.trim();
        if data.is_empty() {
            return Ok(Step::More);
        }
        if data == "[DONE]" {
            return Ok(Step::Done);
        }
        let value = serde_json::from_str(data).map_err(|_| Error::Malformed("a chunk is not JSON"))?;
        self.take(value, progress)
    }

    fn whole(&mut self, reply: Value, progress: &Progress) -> Result<(), Failure> {
        let has_choices = reply.get("choices").and_then(Value::as_array).is_some_and(|choices| !choices.is_empty());
        self.take(reply, progress)?;
        if has_choices { Ok(()) } else { Err(Error::Malformed("the reply has no choices").into()) }
    }

    fn finish(self) -> Result<Answer, Error> {
        self.draft.finish()
    }
}

impl ReportedUsage {
    fn read(self) -> Option<Usage> {
        (self.prompt_tokens.is_some() || self.completion_tokens.is_some()).then(|| Usage {
            input_tokens: self.prompt_tokens.unwrap_or(0),
            output_tokens: self.completion_tokens.unwrap_or(0),
        })
    }
}

/// Mostly a string; some servers give parts, of which only those of text are words.
fn text_of(content: &Value) -> Option<String> {
    match content {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => {
            Some(parts.iter().filter(|part| part["type"] == "text").filter_map(|part| part["text"].as_str()).collect())
        }
        _ => None,
    }
}

fn finish_reason(reason: &str) -> FinishReason {
    match reason {
        "length" | "max_tokens" => FinishReason::Length,
        "tool_calls" | "function_call" => FinishReason::ToolCalls,
        "content_filter" => FinishReason::ContentFilter,
        _ => FinishReason::Stop,
    }
}
