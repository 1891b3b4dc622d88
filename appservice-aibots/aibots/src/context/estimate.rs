//! How many tokens a text has, without the model's tokenizer: rather too many than too few.

use crate::provider::{Message, Part, Request, Usage};

/// What a message takes besides its words: its role and its marks.
pub(super) const MESSAGE_TOKENS: u32 = 8;
/// What a picture takes: the most that providers ask for one of the size that they scale to.
const IMAGE_TOKENS: u32 = 1_600;

/// The tokens of a text. English has four letters to a token, but code, numbers and names have fewer; of other scripts
/// each letter may be a token, and rare signs several.
pub fn estimate_text(text: &str) -> u32 {
    let mut letters: u64 = 0;
    let mut tokens: u64 = 0;
    for character in text.chars() {
        match character {
            'a'..='z' | 'A'..='Z' | ' ' => letters += 1,
            _ => tokens += character.len_utf8() as u64,
        }
    }
    // Signs of one byte are a token each; those of more bytes take at most their bytes less one.
    let wide: u64 = text.chars().filter(|character| !character.is_ascii()).count() as u64;
    u32::try_from(letters.div_ceil(3) + tokens - wide).unwrap_or(u32::MAX)
}

/// The tokens of messages, pictures too.
pub fn estimate_messages(messages: &[Message]) -> u32 {
    let part = |part: &Part| match part {
        Part::Text(text) => estimate_text(text),
        Part::Image(_) => IMAGE_TOKENS,
        Part::ToolCall(call) => estimate_text(&call.name).saturating_add(estimate_text(&call.arguments)),
        Part::ToolResult(result) => estimate_text(&result.content),
    };
    let message = |message: &Message| message.parts.iter().map(part).fold(MESSAGE_TOKENS, u32::saturating_add);
    messages.iter().map(message).fold(0, u32::saturating_add)
}

/// What a request and its answer used, for providers that do not tell.
pub fn estimate_usage(request: &Request, answer: &str) -> Usage {
    let tools =
        request.tools.iter().map(|tool| estimate_text(&tool.description) + estimate_text(&tool.parameters.to_string()));
    let input = estimate_messages(&request.messages)
        .saturating_add(estimate_text(&request.system))
        .saturating_add(tools.fold(0, u32::saturating_add));
    Usage { input_tokens: input.into(), output_tokens: estimate_text(answer).into() }
}
