//! What a refusal means. <https://docs.anthropic.com/en/api/errors>

use serde_json::Value;

use crate::{provider::Error, providers::exchange::Fault};

/// An error in the middle of a stream. Its type says what the status would have said.
pub(super) fn fault_in_reply(reply: &Value) -> Fault {
    let status = match reply["error"]["type"].as_str() {
        Some("invalid_request_error") => 400,
        Some("authentication_error") => 401,
        Some("billing_error") => 402,
        Some("permission_error") => 403,
        Some("not_found_error") => 404,
        Some("request_too_large") => 413,
        Some("rate_limit_error") => 429,
        Some("timeout_error") => 504,
        Some("overloaded_error") => 529,
        _ => 500,
    };
    Fault { status, retry_after: None, body: reply.clone() }
}

/// What it means.
pub(super) fn judge(fault: &Fault, model: &str) -> Error {
    let Fault { status, retry_after, ref body } = *fault;
    let message = body["error"]["message"].as_str().unwrap_or("").to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    match status {
        400 if says(&["prompt is too long", "context limit", "context window"]) => Error::ContextTooLong,
        400 if says(&["credit balance"]) => Error::OverQuota,
        400 if says(&["content filtering", "usage policy"]) => Error::ContentRefused,
        401 | 403 => Error::BadKey,
        402 => Error::OverQuota,
        404 if says(&["model"]) => Error::UnknownModel(model.to_owned()),
        408 | 504 => Error::Timeout,
        413 => Error::ContextTooLong,
        429 => Error::RateLimited { retry_after },
        500.. => Error::Overloaded { retry_after },
        status => Error::Rejected { status },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{fault_in_reply, judge};
    use crate::provider::Error;

    #[test]
    fn each_documented_error() {
        let overloaded = Error::Overloaded { retry_after: None };
        let cases = [
            ("invalid_request_error", "messages: at least one", Error::Rejected { status: 400 }),
            ("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum", Error::ContextTooLong),
            ("invalid_request_error", "Your credit balance is too low", Error::OverQuota),
            ("invalid_request_error", "Output blocked by content filtering policy", Error::ContentRefused),
            ("authentication_error", "invalid x-api-key", Error::BadKey),
            ("billing_error", "x", Error::OverQuota),
            ("permission_error", "x", Error::BadKey),
            ("not_found_error", "model: m", Error::UnknownModel("m".to_owned())),
            ("not_found_error", "Not found", Error::Rejected { status: 404 }),
            ("request_too_large", "x", Error::ContextTooLong),
            ("rate_limit_error", "x", Error::RateLimited { retry_after: None }),
            ("api_error", "x", overloaded.clone()),
            ("timeout_error", "x", Error::Timeout),
            ("overloaded_error", "Overloaded", overloaded.clone()),
            ("something_new", "x", overloaded),
        ];
        for (kind, message, expected) in cases {
            let body = json!({ "type": "error", "error": { "type": kind, "message": message } });
            assert_eq!(judge(&fault_in_reply(&body), "m"), expected, "{kind}: {message}");
        }
        assert_eq!(judge(&fault_in_reply(&Value::Null), "m"), Error::Overloaded { retry_after: None });
    }
}
