//! Every way in which a provider fails, and what it is called.

use std::time::Duration;

use aibots::{
    provider::{Error, Progress},
    providers::Kind,
};
use mock_providers::{Reply, Step, anthropic, openai};
use serde_json::{Value, json};

use crate::stage::{of_settings, outcome, outcome_within, question, settings};

const BOTH: [Kind; 2] = [Kind::OpenRouter, Kind::Anthropic];

async fn check(kind: Kind, name: &str, reply: Reply, expected: Error) {
    let (answer, _) = outcome(kind, reply).await;
    assert_eq!(answer.expect_err(name), expected, "{name} ({kind:?})");
}

#[tokio::test]
async fn statuses() {
    let second = Some(Duration::from_secs(1));
    for kind in BOTH {
        let cases = [
            (401, Error::BadKey),
            (402, Error::OverQuota),
            (413, Error::ContextTooLong),
            (429, Error::RateLimited { retry_after: None }),
            (400, Error::Rejected { status: 400 }),
            (404, Error::Rejected { status: 404 }),
            (408, Error::Timeout),
            (500, Error::Overloaded { retry_after: None }),
            (502, Error::Overloaded { retry_after: None }),
            (504, Error::Timeout),
            (529, Error::Overloaded { retry_after: None }),
            (307, Error::Rejected { status: 307 }),
        ];
        for (status, expected) in cases {
            let page = Reply::new(status, "text/html", "<html>something went wrong</html>");
            check(kind, &status.to_string(), page, expected).await;
        }
        let limited = Reply::json(429, &Value::Null).header("Retry-After", "1");
        check(kind, "with Retry-After", limited, Error::RateLimited { retry_after: second }).await;
        let overloaded = Reply::json(503, &Value::Null).header("Retry-After", "1");
        check(kind, "with Retry-After", overloaded, Error::Overloaded { retry_after: second }).await;
    }
}

#[tokio::test]
async fn errors_in_the_middle_of_a_stream() {
    let overloaded = || Error::Overloaded { retry_after: None };
    let openrouter = json!({ "error": { "code": 502, "message": "x" }, "choices": [{ "index": 0, "delta": { "content": "" }, "finish_reason": "error" }] });
    let events = [openai::text("Hel"), format!("data: {openrouter}\n\n"), openai::done()];
    check(Kind::OpenRouter, "502 in the stream", Reply::events(events), overloaded()).await;
    let events = [openai::text("Hel"), openai::finish("error"), openai::done()];
    check(Kind::OpenRouter, "a reason of error", Reply::events(events), overloaded()).await;
    check(Kind::OpenRouter, "200 with an error", Reply::json(200, &openrouter), overloaded()).await;
    let error = anthropic::error_body("overloaded_error", "Overloaded");
    let events = [anthropic::start(9), anthropic::text("Hel"), anthropic::event(&error)];
    check(Kind::Anthropic, "overloaded in the stream", Reply::events(events), overloaded()).await;
}

#[tokio::test]
async fn streams_that_stop() {
    for (kind, piece) in [(Kind::OpenRouter, openai::text("Hel")), (Kind::Anthropic, anthropic::text("Hel"))] {
        let events = || Reply::events([piece.clone()]);
        check(kind, "the connection breaks", events().then(Step::Break), Error::Unreachable).await;
        check(kind, "the stream ends too early", events(), Error::Unreachable).await;
        let silent = Reply::steps(200, "application/json", vec![Step::Hang]);
        for reply in [events().then(Step::Hang), silent] {
            assert_eq!(outcome_within(1, kind, reply).await.0, Err(Error::Timeout), "silence ({kind:?})");
        }
    }
}

#[tokio::test]
async fn what_is_no_answer() {
    for kind in BOTH {
        for body in
            ["", "{", "[]", "null", "{}", "{\"choices\":[],\"content\":[]}", "\"x\"", "{\"choices\":7,\"content\":7}"]
        {
            let (answer, _) = outcome(kind, Reply::new(200, "application/json", body)).await;
            assert!(matches!(answer, Err(Error::Malformed(_))), "{body} ({kind:?}): {answer:?}");
        }
        for body in ["data: {\n\n", "data: [1]\n\n", "data: \u{1}\n\n"] {
            let (answer, _) = outcome(kind, Reply::events([body.to_owned()])).await;
            assert!(matches!(answer, Err(Error::Malformed(_) | Error::Unreachable)), "{body} ({kind:?}): {answer:?}");
        }
        let (answer, _) = outcome(kind, Reply::new(200, "application/json", vec![b' '; 5_000_000])).await;
        assert_eq!(answer, Err(Error::Malformed("the reply is too large")));
    }
    check(Kind::OpenRouter, "no words", openai::stream(&[" ", "\n"]), Error::Empty).await;
    check(Kind::Anthropic, "no words", anthropic::stream(&[]), Error::Empty).await;
    let refused = Reply::events([openai::finish("content_filter"), openai::done()]);
    check(Kind::OpenAi, "filtered", refused, Error::ContentRefused).await;
    let refused = Reply::events([anthropic::start(1)].into_iter().chain(anthropic::end("refusal", 0)));
    check(Kind::Anthropic, "refused", refused, Error::ContentRefused).await;
}

#[tokio::test]
async fn nobody_is_there() {
    for kind in BOTH {
        // Port 9 of the loopback is never listened on by anything that we start.
        let provider = of_settings(&settings(kind, "http://127.0.0.1:9/v1"));
        assert_eq!(provider.answer(&question(), &Progress::silent()).await, Err(Error::Unreachable));
    }
}
