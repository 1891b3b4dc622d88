//! The reply: one message, or its parts as events. <https://docs.anthropic.com/en/docs/build-with-claude/streaming>

use serde_json::Value;

use super::fault::fault_in_reply;
use crate::{
    provider::{Answer, Error, FinishReason, Progress, Usage},
    providers::{
        draft::Draft,
        exchange::{Assembler, Failure, Step},
        sse::Event,
    },
};

/// Puts events together. Fields are picked one by one: kinds of events and blocks may be added at any time.
pub(super) struct Reply {
    draft: Draft,
}

impl Reply {
    /// Nothing yet of what `model` says.
    pub(super) fn new(model: &str) -> Self {
        Self { draft: Draft::new(model) }
    }

    /// The head of a message, which begins a stream and stands in a whole reply alike.
    fn head(&mut self, message: &Value) {
        if let Some(model) = message["model"].as_str() {
            model.clone_into(&mut self.draft.model);
        }
        self.usage(&message["usage"]);
        self.stop_reason(&message["stop_reason"]);
    }

    /// Counts are running totals; each event tells some of them. What is read from a cache or written to it counts too.
    fn usage(&mut self, usage: &Value) {
        let number = |field: &str| usage[field].as_u64();
        let mut known = self.draft.usage.unwrap_or_default();
        if let Some(input) = number("input_tokens") {
            let cached = ["cache_creation_input_tokens", "cache_read_input_tokens"];
            known.input_tokens = input + cached.into_iter().filter_map(number).sum::<u64>();
        }
        known.output_tokens = number("output_tokens").unwrap_or(known.output_tokens);
        if known != Usage::default() {
            self.draft.usage = Some(known);
        }
    }

    fn stop_reason(&mut self, reason: &Value) {
        let Some(reason) = reason.as_str() else { return };
        self.draft.finish_reason = Some(match reason {
            "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
            "tool_use" => FinishReason::ToolCalls,
            "refusal" => FinishReason::ContentFilter,
            _ => FinishReason::Stop,
        });
    }

    fn block(&mut self, index: u64, block: &Value, progress: &Progress) -> Result<(), Error> {
        match block["type"].as_str() {
            Some("text") => self.draft.push_text(block["text"].as_str().unwrap_or(""), progress),
            Some("tool_use") => {
                // In a stream it is empty here, and the arguments follow as text.
                let input = block["input"].as_object().filter(|input| !input.is_empty());
                let arguments = input.map_or(String::new(), |_| block["input"].to_string());
                self.draft.push_tool_call(index, block["id"].as_str(), block["name"].as_str(), &arguments)
            }
            _ => Ok(()),
        }
    }

    fn delta(&mut self, index: u64, delta: &Value, progress: &Progress) -> Result<(), Error> {
        match delta["type"].as_str() {
            Some("text_delta") => self.draft.push_text(delta["text"].as_str().unwrap_or(""), progress),
            Some("input_json_delta") => {
                self.draft.push_tool_call(index, None, None, delta["partial_json"].as_str().unwrap_or(""))
            }
            _ => Ok(()),
        }
    }
}

impl Assembler for Reply {
    fn event(&mut self, event: &Event, progress: &Progress) -> Result<Step, Failure> {
        let value: Value = serde_json::from_str(&event.data).map_err(|_| Error::Malformed("an event is not JSON"))?;
        let index = value["index"].as_u64().unwrap_or(0);
        match value["type"].as_str().unwrap_or(&event.name) {
            "error" => return Err(Failure::Fault(fault_in_reply(&value))),
            "message_start" => self.head(&value["message"]),
            "content_block_start" => self.block(index, &value["content_block"], progress)?,
            "content_block_delta" => self.delta(index, &value["delta"], progress)?,
            "message_delta" => {
                self.stop_reason(&value["delta"]["stop_reason"]);
                self.usage(&value["usage"]);
                return Ok(Step::Complete);
            }
            "message_stop" => return Ok(Step::Done),
            // `ping`, the ends of blocks, and whatever is added some day.
            _ => {}
        }
        Ok(Step::More)
    }

    fn whole(&mut self, reply: Value, progress: &Progress) -> Result<(), Failure> {
        if reply["type"] == "error" {
            return Err(Failure::Fault(fault_in_reply(&reply)));
        }
        let blocks = reply["content"].as_array().ok_or(Error::Malformed("the reply has no content"))?;
        self.head(&reply);
        for (index, block) in blocks.iter().enumerate() {
            self.block(index as u64, block, progress)?;
        }
        Ok(())
    }

    fn finish(self) -> Result<Answer, Error> {
        self.draft.finish()
    }
}
