//! A request in the words of Anthropic's messages.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use crate::{
    provider::{Message, Part, Request, Role},
    providers::json::decimal,
};

/// The interface wants a maximum; this is for requests that leave it open.
const OUTPUT_TOKENS_DEFAULT: u32 = 1024;

/// The body of the request.
pub(super) fn body(request: &Request, streaming: bool) -> Value {
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(request.model));
    let output_tokens_max =
        if request.output_tokens_max == 0 { OUTPUT_TOKENS_DEFAULT } else { request.output_tokens_max };
    body.insert("max_tokens".to_owned(), json!(output_tokens_max));
    body.insert("messages".to_owned(), messages(&request.messages));
    if !request.system.is_empty() {
        body.insert("system".to_owned(), json!(request.system));
    }
    if let Some(temperature) = request.temperature {
        body.insert("temperature".to_owned(), decimal(temperature.clamp(0.0, 1.0)));
    }
    if !request.tools.is_empty() {
        let tools = request
            .tools
            .iter()
            .map(|tool| json!({ "name": tool.name, "description": tool.description, "input_schema": tool.parameters }));
        body.insert("tools".to_owned(), tools.collect());
        if request.is_done_with_tools {
            body.insert("tool_choice".to_owned(), json!({ "type": "none" }));
        }
    }
    if streaming {
        body.insert("stream".to_owned(), json!(true));
    }
    Value::Object(body)
}

/// Turns alternate, the first is the user's, none is empty.
fn messages(messages: &[Message]) -> Value {
    let mut turns: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in messages {
        let role = if message.role == Role::Assistant { "assistant" } else { "user" };
        let parts: Vec<Value> = message.parts.iter().filter_map(part).collect();
        if parts.is_empty() {
            continue;
        }
        match turns.last_mut() {
            Some((last, said)) if *last == role => said.extend(parts),
            _ => turns.push((role, parts)),
        }
    }
    if turns.first().is_some_and(|(role, _)| *role == "assistant") {
        turns.insert(0, ("user", vec![json!({ "type": "text", "text": "(earlier messages are left out)" })]));
    }
    turns.into_iter().map(|(role, content)| json!({ "role": role, "content": content })).collect()
}

fn part(part: &Part) -> Option<Value> {
    Some(match part {
        Part::Text(text) if text.trim().is_empty() => return None,
        Part::Text(text) => json!({ "type": "text", "text": text.trim_end() }),
        Part::Image(image) => json!({
            "type": "image",
            "source": { "type": "base64", "media_type": image.media_type, "data": STANDARD.encode(&image.bytes) },
        }),
        Part::ToolCall(call) => {
            // Whoever wrote the arguments, they go back as an object or not at all.
            let input =
                serde_json::from_str(&call.arguments).ok().filter(Value::is_object).unwrap_or_else(|| json!({}));
            json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": input })
        }
        Part::ToolResult(result) => json!({
            "type": "tool_result",
            "tool_use_id": result.call_id,
            "content": result.content,
            "is_error": result.failed,
        }),
    })
}
