//! Chat completions.

use std::time::Duration;

use aibots::{
    provider::{
        Error, FinishReason, Image, Message, Part, Progress, Request, Role, ToolCall, ToolOffer, ToolResult, Usage,
    },
    providers::{Kind, ProviderSettings},
};
use mock_providers::{Reply, Step, openai};
use serde_json::json;

use crate::stage::{KEY, of_settings, outcome, outcome_within, question, settings, staged};

#[tokio::test]
async fn an_answer_grows_out_of_pieces_of_whatever_size() {
    for size in [1, 2, 3, 7, 1000] {
        let reply = openai::stream(&["Gr", "\u{fc}\u{df}e", " \u{1f9a9}!"]).in_pieces(size);
        let (answer, shown) = outcome(Kind::OpenRouter, reply).await;
        let answer = answer.unwrap();
        assert_eq!(answer.text, "Gr\u{fc}\u{df}e \u{1f9a9}!");
        assert_eq!(shown, answer.text);
        assert_eq!(answer.usage, Some(Usage { input_tokens: 11, output_tokens: 7 }));
        assert_eq!((answer.model.as_str(), answer.finish_reason), ("mock-1", FinishReason::Stop));
    }
}

#[tokio::test]
async fn the_request_says_what_openrouter_wants_to_know() {
    let (mock, _) = staged(Kind::OpenRouter, [openai::stream(&["x"])]).await;
    let app_url = Some("https://chat.example.org".to_owned());
    let provider = of_settings(&ProviderSettings { app_url, ..settings(Kind::OpenRouter, &mock.url()) });
    provider.answer(&question(), &Progress::silent()).await.unwrap();
    let asked = mock.asked().remove(0);
    assert_eq!(asked.line, "POST /v1/chat/completions");
    let expected = [
        ("authorization", format!("Bearer {KEY}")),
        ("http-referer", "https://chat.example.org".to_owned()),
        ("x-title", "Nudge".to_owned()),
        ("x-openrouter-title", "Nudge".to_owned()),
        ("content-type", "application/json".to_owned()),
    ];
    for (name, value) in expected {
        assert_eq!(asked.headers.get(name), Some(&value), "{name}");
    }
    assert_eq!(
        asked.body,
        json!({
            "model": "some-model",
            "messages": [{ "role": "system", "content": "You are a test." }, { "role": "user", "content": "Hello?" }],
            "max_tokens": 200,
            "temperature": 0.8,
            "stream": true,
            "stream_options": { "include_usage": true },
        })
    );
}

#[tokio::test]
async fn pictures_tools_and_their_results_are_told() {
    let (mock, provider) = staged(Kind::OpenAi, [openai::whole("x")]).await;
    let image = Image { media_type: "image/png".to_owned(), bytes: b"png"[..].into() };
    let call = ToolCall { id: "c1".to_owned(), name: "weather".to_owned(), arguments: "{\"in\":\"Ulm\"}".to_owned() };
    let result = ToolResult { call_id: "c1".to_owned(), content: "rain".to_owned(), failed: false };
    let offer =
        ToolOffer { name: "weather".to_owned(), description: "d".to_owned(), parameters: json!({ "type": "object" }) };
    let request = Request {
        messages: vec![
            Message { role: Role::User, parts: vec![Part::Text("look".to_owned()), Part::Image(image)] },
            Message { role: Role::Assistant, parts: vec![Part::ToolCall(call)] },
            Message { role: Role::Tool, parts: vec![Part::ToolResult(result)] },
        ],
        tools: vec![offer],
        ..question()
    };
    provider.answer(&request, &Progress::silent()).await.unwrap();
    let body = mock.asked().remove(0).body;
    assert_eq!(
        body["messages"],
        json!([
            { "role": "system", "content": "You are a test." },
            { "role": "user", "content": [
                { "type": "text", "text": "look" },
                { "type": "image_url", "image_url": { "url": "data:image/png;base64,cG5n" } },
            ] },
            { "role": "assistant", "content": null, "tool_calls": [
                { "id": "c1", "type": "function", "function": { "name": "weather", "arguments": "{\"in\":\"Ulm\"}" } },
            ] },
            { "role": "tool", "tool_call_id": "c1", "content": "rain" },
        ])
    );
    assert_eq!(body["tools"][0]["function"]["name"], "weather");
    assert!(!mock.asked()[0].headers.contains_key("x-title"), "only OpenRouter is told who asks");
}

#[tokio::test]
async fn tool_calls_come_in_fragments() {
    let (answer, _) = outcome(Kind::OpenAi, openai::tool_call("weather", "{\"in\":\"Ulm\"}")).await;
    let answer = answer.unwrap();
    assert_eq!(answer.finish_reason, FinishReason::ToolCalls);
    let call = &answer.tool_calls[0];
    assert_eq!(
        (call.id.as_str(), call.name.as_str(), call.arguments.as_str()),
        ("call_1", "weather", "{\"in\":\"Ulm\"}")
    );
    assert_eq!(answer.usage, None, "nobody told");
}

#[tokio::test]
async fn a_server_that_does_not_stream_is_understood() {
    let (answer, shown) = outcome(Kind::Compatible, openai::whole("Hello!")).await;
    assert_eq!((answer.unwrap().text.as_str(), shown.as_str()), ("Hello!", "Hello!"));
}

#[tokio::test]
async fn the_end_of_a_stream_has_many_forms() {
    let ends = |events: Vec<String>| Reply::events([openai::text("Hi")].into_iter().chain(events));
    let hang = ends(vec![openai::finish("stop")]).then(Step::Hang);
    let broken = ends(vec![openai::finish("stop")]).then(Step::Break);
    let cases = [
        ("without [DONE]", ends(vec![openai::finish("stop")]), FinishReason::Stop),
        ("without a reason", ends(vec![openai::done()]), FinishReason::Stop),
        ("cut", ends(vec![openai::finish("length"), openai::done()]), FinishReason::Length),
        ("filtered", ends(vec![openai::finish("content_filter"), openai::done()]), FinishReason::ContentFilter),
        ("unknown", ends(vec![openai::finish("eos"), openai::done()]), FinishReason::Stop),
        ("silence after the end", hang, FinishReason::Stop),
        ("broken after the end", broken, FinishReason::Stop),
    ];
    for (name, reply, expected) in cases {
        let (answer, _) = outcome(Kind::OpenAi, reply).await;
        let answer = answer.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((answer.text.as_str(), answer.finish_reason), ("Hi", expected), "{name}");
    }
}

#[tokio::test]
async fn fields_that_a_server_rejects_are_left_out_and_that_is_remembered() {
    let reject = |message: &str| openai::error(400, "invalid_request_error", &json!("unsupported_parameter"), message);
    let script = [
        reject("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
        reject("Unsupported value: 'temperature' does not support 0.8"),
        reject("Unknown field: stream_options"),
        openai::stream(&["ok"]),
        openai::stream(&["again"]),
    ];
    let (mock, provider) = staged(Kind::OpenAi, script).await;
    assert_eq!(provider.answer(&question(), &Progress::silent()).await.unwrap().text, "ok");
    assert_eq!(provider.answer(&question(), &Progress::silent()).await.unwrap().text, "again");
    let asked = mock.asked();
    assert_eq!(asked.len(), 5);
    let last = &asked[4].body;
    assert_eq!(last["max_completion_tokens"], 200);
    assert!(["max_tokens", "temperature", "stream_options"].iter().all(|field| last.get(*field).is_none()), "{last}");
}

#[tokio::test]
async fn a_provider_without_its_key_asks_nobody() {
    let (mock, _) = staged(Kind::OpenRouter, []).await;
    let without_key =
        ProviderSettings { key_env: Some("NOT_SET".to_owned()), ..settings(Kind::OpenRouter, &mock.url()) };
    let outcome = of_settings(&without_key).answer(&question(), &Progress::silent()).await;
    assert_eq!(outcome, Err(Error::NotConfigured));
    assert!(mock.asked().is_empty());
    mock.add(openai::whole("local"));
    let local = ProviderSettings { kind: Kind::Compatible, ..without_key };
    assert_eq!(of_settings(&local).answer(&question(), &Progress::silent()).await.unwrap().text, "local");
    assert!(!mock.asked()[0].headers.contains_key("authorization"));
}

#[tokio::test]
async fn a_key_is_read_from_a_file_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("key");
    std::fs::write(&key_file, format!("{KEY}\n")).unwrap();
    let (mock, _) = staged(Kind::OpenAi, [openai::whole("x")]).await;
    let with_file = ProviderSettings { key_file: Some(key_file), key_env: None, ..settings(Kind::OpenAi, &mock.url()) };
    of_settings(&with_file).answer(&question(), &Progress::silent()).await.unwrap();
    assert_eq!(mock.asked()[0].headers["authorization"], format!("Bearer {KEY}"));
    assert_eq!(format!("{:?}", aibots::providers::Key::new(KEY)), "Some(Key(..))");
    assert!(!format!("{:?}", question()).contains("Hello?"), "nor what people say");
}

#[tokio::test]
async fn keep_alives_do_not_hold_an_answer_for_ever() {
    let keep_alive = || Step::Bytes(b": keep-alive\n\n".to_vec());
    let mut reply = Reply::events([openai::text("Hi")]);
    for _ in 0..60 {
        reply = reply.then(keep_alive()).then(Step::Pause(Duration::from_millis(100)));
    }
    let (answer, _) = outcome_within(1, Kind::OpenAi, reply).await;
    assert_eq!(answer, Err(Error::Timeout));
}
