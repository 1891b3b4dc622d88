//! Replies as Anthropic's messages have them.

use serde_json::{Value, json};

use crate::Reply;

/// One event.
pub fn event(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default())
}

/// The beginning of a message, with the tokens of the question.
pub fn start(input: u64) -> String {
    let usage = json!({ "input_tokens": input, "cache_read_input_tokens": 2, "output_tokens": 1 });
    let message = json!({ "type": "message", "role": "assistant", "model": "mock-2", "content": [], "stop_reason": null, "usage": usage });
    event(&json!({ "type": "message_start", "message": message }))
}

/// A piece of the text.
pub fn text(piece: &str) -> String {
    event(&json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": piece } }))
}

/// The end of a message, with the tokens of the answer.
pub fn end(reason: &str, output: u64) -> [String; 2] {
    [
        event(
            &json!({ "type": "message_delta", "delta": { "stop_reason": reason }, "usage": { "output_tokens": output } }),
        ),
        event(&json!({ "type": "message_stop" })),
    ]
}

/// An error, as a body or as an event.
pub fn error_body(kind: &str, message: &str) -> Value {
    json!({ "type": "error", "error": { "type": kind, "message": message } })
}

/// A whole stream that says these words, with everything that the server sends.
pub fn stream(pieces: &[&str]) -> Reply {
    let begins = [
        start(9),
        event(&json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } })),
        event(&json!({ "type": "ping" })),
    ];
    let stop = event(&json!({ "type": "content_block_stop", "index": 0 }));
    let words = pieces.iter().map(|piece| text(piece));
    Reply::events(begins.into_iter().chain(words).chain([stop]).chain(end("end_turn", 7)))
}

/// A stream that calls a tool, in fragments, after some words.
pub fn tool_call(name: &str, arguments: &str) -> Reply {
    let middle = arguments.len() / 2;
    let block = json!({ "type": "tool_use", "id": "toolu_1", "name": name, "input": {} });
    let piece = |json: &str| {
        event(
            &json!({ "type": "content_block_delta", "index": 1, "delta": { "type": "input_json_delta", "partial_json": json } }),
        )
    };
    let events = [
        start(9),
        text("Let me see."),
        event(&json!({ "type": "content_block_start", "index": 1, "content_block": block })),
        piece(""),
        piece(&arguments[..middle]),
        piece(&arguments[middle..]),
    ];
    Reply::events(events.into_iter().chain(end("tool_use", 5)))
}
