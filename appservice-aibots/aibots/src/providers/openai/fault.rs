//! What a refusal means. Servers agree on little: the status first, then codes, and their words only where nothing else
//! tells.

use serde_json::Value;

use crate::{
    provider::Error,
    providers::{exchange::Fault, retry_after::wait},
};

/// What stands in the many shapes of an error's body.
#[derive(Default)]
struct Told {
    /// `code` and `type`, in lower case.
    codes: Vec<String>,
    /// `message`, in lower case.
    message: String,
    /// Whether the provider's moderation gives reasons.
    is_flagged: bool,
}

/// An error where an answer should be: once an answer has begun, its status can no longer change from 200.
pub(super) fn fault_in_reply(reply: &Value) -> Option<Fault> {
    let error = match reply.get("error") {
        Some(error) if !error.is_null() => Some(error),
        _ if reply["object"] == "error" => Some(reply),
        // An error of one choice.
        _ => reply.pointer("/choices/0/error").filter(|error| !error.is_null()),
    }?;
    let number = [&error["code"], &error["status"]].into_iter().find_map(|code| match code {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    });
    let status = number.and_then(|number| u16::try_from(number).ok()).filter(|status| (400..600).contains(status));
    let body = serde_json::json!({ "error": error });
    let status = status.unwrap_or_else(|| status_of(&told(&body)));
    let retry_after = error.pointer("/metadata/headers/Retry-After").and_then(|value| match value {
        Value::String(text) => text.trim().parse().ok().and_then(wait),
        other => other.as_f64().and_then(wait),
    });
    Some(Fault { status, retry_after, body })
}

/// For errors without a number: those that name themselves, and the rest is the server's.
fn status_of(told: &Told) -> u16 {
    let is = |code: &str| told.codes.iter().any(|told| told == code);
    if is("rate_limit_exceeded") || is("rate_limit_error") || is("insufficient_quota") {
        429
    } else if is("invalid_request_error") || is("context_length_exceeded") || is("content_filter") {
        400
    } else if is("authentication_error") || is("invalid_api_key") {
        401
    } else {
        500
    }
}

/// What it means.
pub(super) fn judge(fault: &Fault, model: &str) -> Error {
    let Fault { status, retry_after, ref body } = *fault;
    let told = told(body);
    match status {
        400 | 413 | 422 => told.about_the_request(status, model),
        402 if retry_after.is_some() => Error::RateLimited { retry_after },
        402 => Error::OverQuota,
        403 if told.is_flagged || told.says(&["moderation", "guardrail", "flagged", "content policy", "safety"]) => {
            Error::ContentRefused
        }
        401 | 403 => Error::BadKey,
        404 if told.says(&["model"]) => Error::UnknownModel(model.to_owned()),
        408 | 504 | 524 => Error::Timeout,
        429 if told.says(&["insufficient_quota", "billing", "exceeded your current quota"]) => Error::OverQuota,
        429 => Error::RateLimited { retry_after },
        500.. => Error::Overloaded { retry_after },
        status => Error::Rejected { status },
    }
}

impl Told {
    fn says(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.message.contains(word) || self.codes.iter().any(|code| code.contains(word)))
    }

    fn about_the_request(&self, status: u16, model: &str) -> Error {
        const CONTEXT: &[&str] =
            &["context_length", "context length", "context size", "context window", "exceed_context_size", "too long"];
        const CONTENT: &[&str] = &["content_filter", "content_policy", "content management policy", "flagged"];
        const MODEL: &[&str] = &[
            "model_not_found",
            "not a valid model",
            "invalid model",
            "does not exist",
            "model not found",
            "no such model",
        ];
        const KEY: &[&str] = &["invalid_api_key", "api key", "authentication"];
        if status == 413 || self.says(CONTEXT) {
            Error::ContextTooLong
        } else if self.is_flagged || self.says(CONTENT) {
            Error::ContentRefused
        } else if self.says(MODEL) {
            Error::UnknownModel(model.to_owned())
        } else if self.says(KEY) {
            Error::BadKey
        } else {
            Error::Rejected { status }
        }
    }
}

/// `{error: {message, type, code, metadata}}`, `{error: "message"}`, `{message, type, code}`, `{detail: "message"}`.
fn told(body: &Value) -> Told {
    let error = match body.get("error") {
        Some(error) if !error.is_null() => error,
        _ => body,
    };
    let lower = |value: &Value| value.as_str().map(str::to_ascii_lowercase);
    let message = [error, &error["message"], &body["detail"]].into_iter().find_map(lower).unwrap_or_default();
    let codes = [&error["code"], &error["type"]].into_iter().filter_map(lower).collect();
    let is_flagged = error.pointer("/metadata/reasons").is_some() || error.pointer("/metadata/flagged_input").is_some();
    Told { codes, message, is_flagged }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::{fault_in_reply, judge};
    use crate::{provider::Error, providers::exchange::Fault};

    fn meaning(status: u16, body: Value) -> Error {
        judge(&Fault { status, retry_after: None, body }, "m")
    }

    #[test]
    fn each_servers_words_for_the_same_thing() {
        let unknown = Error::UnknownModel("m".to_owned());
        let cases = [
            (400, json!({ "error": { "code": "context_length_exceeded", "message": "x" } }), Error::ContextTooLong),
            (400, json!({ "error": { "code": 400, "type": "exceed_context_size_error" } }), Error::ContextTooLong),
            (
                400,
                json!({ "object": "error", "message": "This model's maximum context length is 4096 tokens" }),
                Error::ContextTooLong,
            ),
            (413, Value::Null, Error::ContextTooLong),
            (400, json!({ "error": { "code": "content_policy_violation" } }), Error::ContentRefused),
            (
                403,
                json!({ "error": { "code": 403, "message": "no", "metadata": { "reasons": ["x"] } } }),
                Error::ContentRefused,
            ),
            (403, json!({ "error": { "message": "Country not supported" } }), Error::BadKey),
            (400, json!({ "error": { "code": 400, "message": "m is not a valid model ID" } }), unknown.clone()),
            (
                404,
                json!({ "error": { "code": "model_not_found", "message": "The model `m` does not exist" } }),
                unknown.clone(),
            ),
            (404, json!({ "error": "model 'm' not found" }), unknown.clone()),
            (404, json!({ "detail": "Not Found" }), Error::Rejected { status: 404 }),
            (401, Value::Null, Error::BadKey),
            (402, json!({ "error": { "code": 402, "message": "credits" } }), Error::OverQuota),
            (429, json!({ "error": { "code": "insufficient_quota", "type": "insufficient_quota" } }), Error::OverQuota),
            (429, json!({ "error": { "code": null, "type": "requests" } }), Error::RateLimited { retry_after: None }),
            (400, json!({ "error": { "message": "Authentication Error, no DB" } }), Error::BadKey),
            (400, json!({ "error": { "message": "temperature" } }), Error::Rejected { status: 400 }),
            (302, Value::Null, Error::Rejected { status: 302 }),
            (408, Value::Null, Error::Timeout),
            (503, Value::Null, Error::Overloaded { retry_after: None }),
            (529, Value::Null, Error::Overloaded { retry_after: None }),
        ];
        for (status, body, expected) in cases {
            assert_eq!(meaning(status, body.clone()), expected, "{status} {body}");
        }
    }

    #[test]
    fn no_credit_now_is_not_no_credit() {
        let retry_after = Some(Duration::from_secs(3));
        let fault = Fault { status: 402, retry_after, body: Value::Null };
        assert_eq!(judge(&fault, "m"), Error::RateLimited { retry_after });
    }

    #[test]
    fn errors_where_an_answer_should_be() {
        let cases = [
            (json!({ "error": { "code": 502, "message": "x" } }), Some(Error::Overloaded { retry_after: None })),
            (json!({ "choices": [{ "error": { "code": 429 } }] }), Some(Error::RateLimited { retry_after: None })),
            (
                json!({ "error": { "code": "server_error", "message": "x" }, "choices": [] }),
                Some(Error::Overloaded { retry_after: None }),
            ),
            (json!({ "error": { "code": "rate_limit_exceeded" } }), Some(Error::RateLimited { retry_after: None })),
            (
                json!({ "error": { "type": "invalid_request_error", "code": "context_length_exceeded" } }),
                Some(Error::ContextTooLong),
            ),
            (json!({ "error": "boom" }), Some(Error::Overloaded { retry_after: None })),
            (json!({ "object": "error", "message": "x", "code": 400 }), Some(Error::Rejected { status: 400 })),
            (
                json!({ "error": { "code": 429, "metadata": { "headers": { "Retry-After": "9999999999999" } } } }),
                Some(Error::RateLimited { retry_after: Some(Duration::from_hours(24)) }),
            ),
            (json!({ "error": null, "choices": [] }), None),
        ];
        for (reply, expected) in cases {
            let meaning = fault_in_reply(&reply).map(|fault| judge(&fault, "m"));
            assert_eq!(meaning, expected, "{reply}");
        }
    }
}
