//! Replies as chat completions have them.

use serde_json::{Value, json};

use crate::Reply;

/// One chunk as an event.
pub fn chunk(choice: &Value) -> String {
    let choices = if choice.is_null() { json!([]) } else { json!([choice]) };
    format!("data: {}\n\n", json!({ "object": "chat.completion.chunk", "model": "mock-1", "choices": choices }))
}

/// A piece of the text as an event.
pub fn text(piece: &str) -> String {
    chunk(&json!({ "index": 0, "delta": { "content": piece }, "finish_reason": null }))
}

/// The end of the choice as an event.
pub fn finish(reason: &str) -> String {
    chunk(&json!({ "index": 0, "delta": {}, "finish_reason": reason }))
}

/// The usage, as the last chunk has it.
pub fn usage(input: u64, output: u64) -> String {
    let usage = json!({ "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output });
    format!("data: {}\n\n", json!({ "model": "mock-1", "choices": [], "usage": usage }))
}

/// The end of the stream.
pub fn done() -> String {
    "data: [DONE]\n\n".to_owned()
}

/// A whole stream that says these words, with everything that a good server sends.
pub fn stream(pieces: &[&str]) -> Reply {
    let role = chunk(&json!({ "index": 0, "delta": { "role": "assistant", "content": "" }, "finish_reason": null }));
    let ends = [finish("stop"), usage(11, 7), done()];
    Reply::events(
        [": OPENROUTER PROCESSING\n\n".to_owned(), role]
            .into_iter()
            .chain(pieces.iter().map(|piece| text(piece)))
            .chain(ends),
    )
}

/// A reply in one piece.
pub fn whole(text: &str) -> Reply {
    Reply::json(
        200,
        &json!({
            "object": "chat.completion",
            "model": "mock-1",
            "choices": [{ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }],
            "usage": { "prompt_tokens": 11, "completion_tokens": 7 },
        }),
    )
}

/// A stream that calls a tool, in fragments.
pub fn tool_call(name: &str, arguments: &str) -> Reply {
    let middle = arguments.len() / 2;
    let call = |call: Value| chunk(&json!({ "index": 0, "delta": { "tool_calls": [call] }, "finish_reason": null }));
    Reply::events([
        call(json!({ "index": 0, "id": "call_1", "type": "function", "function": { "name": name, "arguments": "" } })),
        call(json!({ "index": 0, "function": { "arguments": arguments[..middle] } })),
        call(json!({ "index": 0, "function": { "arguments": arguments[middle..] } })),
        finish("tool_calls"),
        done(),
    ])
}

/// A refusal.
pub fn error(status: u16, kind: &str, code: &Value, message: &str) -> Reply {
    Reply::json(status, &json!({ "error": { "message": message, "type": kind, "param": null, "code": code } }))
}
