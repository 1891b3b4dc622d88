//! Anthropic's messages.

use aibots::{
    provider::{FinishReason, Image, Message, Part, Progress, Request, Role, ToolCall, ToolOffer, ToolResult, Usage},
    providers::Kind,
};
use mock_providers::{Reply, anthropic};
use serde_json::json;

use crate::stage::{KEY, outcome, question, staged};

#[tokio::test]
async fn an_answer_grows_out_of_events() {
    for size in [1, 5, 1000] {
        let (answer, shown) =
            outcome(Kind::Anthropic, anthropic::stream(&["Gr", "\u{fc}\u{df}e"]).in_pieces(size)).await;
        let answer = answer.unwrap();
        assert_eq!((answer.text.as_str(), shown.as_str()), ("Gr\u{fc}\u{df}e", "Gr\u{fc}\u{df}e"));
        assert_eq!(answer.usage, Some(Usage { input_tokens: 11, output_tokens: 7 }), "what is cached counts too");
        assert_eq!((answer.model.as_str(), answer.finish_reason), ("mock-2", FinishReason::Stop));
    }
}

#[tokio::test]
async fn the_request_is_as_the_interface_wants_it() {
    let (mock, provider) = staged(Kind::Anthropic, [anthropic::stream(&["x"])]).await;
    let image = Image { media_type: "image/png".to_owned(), bytes: b"png"[..].into() };
    let call = ToolCall { id: "c1".to_owned(), name: "weather".to_owned(), arguments: "not json".to_owned() };
    let result = ToolResult { call_id: "c1".to_owned(), content: "rain".to_owned(), failed: true };
    let request = Request {
        messages: vec![
            Message::text(Role::Assistant, "I began."),
            Message { role: Role::User, parts: vec![Part::Text("look".to_owned()), Part::Image(image)] },
            Message::text(Role::User, " "),
            Message::text(Role::User, "well?"),
            Message { role: Role::Assistant, parts: vec![Part::ToolCall(call)] },
            Message { role: Role::Tool, parts: vec![Part::ToolResult(result)] },
        ],
        tools: vec![ToolOffer { name: "weather".to_owned(), description: "d".to_owned(), parameters: json!({}) }],
        temperature: Some(1.7),
        output_tokens_max: 0,
        ..question()
    };
    provider.answer(&request, &Progress::silent()).await.unwrap();
    let asked = mock.asked().remove(0);
    assert_eq!(asked.line, "POST /v1/messages");
    assert_eq!((asked.headers["x-api-key"].as_str(), asked.headers["anthropic-version"].as_str()), (KEY, "2023-06-01"));
    assert!(!asked.headers.contains_key("authorization"));
    assert_eq!(
        asked.body,
        json!({
            "model": "some-model",
            "system": "You are a test.",
            "max_tokens": 1024,
            "temperature": 1.0,
            "stream": true,
            "messages": [
                { "role": "user", "content": [{ "type": "text", "text": "(earlier messages are left out)" }] },
                { "role": "assistant", "content": [{ "type": "text", "text": "I began." }] },
                { "role": "user", "content": [
                    { "type": "text", "text": "look" },
                    { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "cG5n" } },
                    { "type": "text", "text": "well?" },
                ] },
                { "role": "assistant", "content": [
                    { "type": "tool_use", "id": "c1", "name": "weather", "input": {} },
                ] },
                { "role": "user", "content": [
                    { "type": "tool_result", "tool_use_id": "c1", "content": "rain", "is_error": true },
                ] },
            ],
            "tools": [{ "name": "weather", "description": "d", "input_schema": {} }],
        })
    );
}

#[tokio::test]
async fn tool_calls_come_in_fragments_or_whole() {
    let (streamed, _) = outcome(Kind::Anthropic, anthropic::tool_call("weather", "{\"in\":\"Ulm\"}")).await;
    let reply = json!({
        "type": "message", "model": "mock-2", "stop_reason": "tool_use",
        "content": [
            { "type": "text", "text": "Let me see." },
            { "type": "tool_use", "id": "toolu_1", "name": "weather", "input": { "in": "Ulm" } },
        ],
        "usage": { "input_tokens": 9, "cache_read_input_tokens": 2, "output_tokens": 5 },
    });
    let (whole, _) = outcome(Kind::Anthropic, Reply::json(200, &reply)).await;
    let streamed = streamed.unwrap();
    assert_eq!(streamed, whole.unwrap());
    assert_eq!(
        (streamed.text.as_str(), streamed.tool_calls[0].arguments.as_str()),
        ("Let me see.", "{\"in\":\"Ulm\"}")
    );
}
