//! A request in the words of chat completions.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::quirks::Quirks;
use crate::{
    provider::{Image, Message, Part, Request, Role, ToolCall},
    providers::json::decimal,
};

/// The body of the request.
pub(super) fn body(request: &Request, streaming: bool, quirks: Quirks) -> Value {
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(request.model));
    body.insert("messages".to_owned(), messages(request));
    if request.output_tokens_max > 0 {
        let field = if quirks.max_completion_tokens { "max_completion_tokens" } else { "max_tokens" };
        body.insert(field.to_owned(), json!(request.output_tokens_max));
    }
    if let Some(temperature) = request.temperature.filter(|_| !quirks.without_temperature) {
        body.insert("temperature".to_owned(), decimal(temperature));
    }
    if !request.tools.is_empty() {
        let tools = request.tools.iter().map(|tool| {
            json!({
                "type": "function",
                "function": { "name": tool.name, "description": tool.description, "parameters": tool.parameters },
            })
        });
        body.insert("tools".to_owned(), tools.collect());
        if request.is_done_with_tools {
            body.insert("tool_choice".to_owned(), json!("none"));
        }
    }
    if streaming && !quirks.without_stream {
        body.insert("stream".to_owned(), json!(true));
        if !quirks.without_stream_options {
            body.insert("stream_options".to_owned(), json!({ "include_usage": true }));
        }
    }
    Value::Object(body)
}

fn messages(request: &Request) -> Value {
    let system = (!request.system.is_empty()).then(|| json!({ "role": "system", "content": request.system }));
    system.into_iter().chain(request.messages.iter().flat_map(message)).collect()
}

/// One message of ours is one of theirs, but each result of a tool is a message of its own.
fn message(message: &Message) -> Vec<Value> {
    match message.role {
        Role::User => vec![json!({ "role": "user", "content": content(&message.parts) })],
        Role::Assistant => vec![assistant(&message.parts)],
        Role::Tool => message
            .parts
            .iter()
            .filter_map(|part| match part {
                Part::ToolResult(result) => {
                    Some(json!({ "role": "tool", "tool_call_id": result.call_id, "content": result.content }))
                }
                _ => None,
            })
            .collect(),
    }
}

/// Plain text where that says it all: not every server takes parts.
fn content(parts: &[Part]) -> Value {
    if !parts.iter().any(|part| matches!(part, Part::Image(_))) {
        return json!(text(parts));
    }
    let part = |part: &Part| match part {
        Part::Text(text) => Some(json!({ "type": "text", "text": text })),
        Part::Image(image) => Some(json!({ "type": "image_url", "image_url": { "url": data_url(image) } })),
        Part::ToolCall(_) | Part::ToolResult(_) => None,
    };
    parts.iter().filter_map(part).collect()
}

fn assistant(parts: &[Part]) -> Value {
    let calls: Vec<Value> = parts
        .iter()
        .filter_map(|part| match part {
            Part::ToolCall(call) => Some(tool_call(call)),
            _ => None,
        })
        .collect();
    let text = text(parts);
    if calls.is_empty() {
        return json!({ "role": "assistant", "content": text });
    }
    let text = if text.is_empty() { Value::Null } else { json!(text) };
    json!({ "role": "assistant", "content": text, "tool_calls": calls })
}

fn tool_call(call: &ToolCall) -> Value {
    let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
    json!({ "id": call.id, "type": "function", "function": { "name": call.name, "arguments": arguments } })
}

fn text(parts: &[Part]) -> String {
    let texts: Vec<&str> = parts
        .iter()
        .filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    texts.join("\n")
}

fn data_url(image: &Image) -> String {
    format!("data:{};base64,{}", image.media_type, STANDARD.encode(&image.bytes))
}
