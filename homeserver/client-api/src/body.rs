//! The body of a request: read under a limit, and looked at before anything else believes it to be a JSON object.

use std::{error::Error, str};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, Method, header, request::Parts},
};
use http_body_util::LengthLimitError;
use ruma::{CanonicalJsonObject, serde::JsonObject};
use serde::de::IgnoredAny;

use crate::{Result, error::ApiError};

/// The parameter that makes an event wait.
/// <https://github.com/matrix-org/matrix-spec-proposals/pull/4140>
pub(crate) const DELAY: &str = "org.matrix.msc4140.delay";

/// Reads the body. Methods that have none answer `{}` whatever was sent.
pub(crate) async fn read(head: &Parts, body: Body, max_bytes: usize) -> Result<Bytes> {
    if matches!(head.method, Method::GET | Method::HEAD) {
        return Ok(Bytes::from_static(b"{}"));
    }
    check_headers(&head.headers, max_bytes)?;
    let bytes = axum::body::to_bytes(body, max_bytes).await.map_err(|error| match error.source() {
        Some(source) if source.is::<LengthLimitError>() => ApiError::BodyTooLarge { max_bytes },
        _ => ApiError::NotJson("The body broke off".to_owned()),
    })?;
    if bytes.is_empty() && (head.method != Method::PUT || is_delayed(head)) {
        // Clients do send empty bodies to POST and DELETE endpoints whose fields are all optional. What is PUT is
        // stored, and nothing is not something to store; but for what was asked for before, with the same transaction
        // id, and is only asked about again.
        return Ok(Bytes::from_static(b"{}"));
    }
    check_object(&bytes)?;
    Ok(bytes)
}

fn is_delayed(head: &Parts) -> bool {
    head.uri.query().is_some_and(|query| query.contains(DELAY))
}

/// What can be refused before the first byte is read.
fn check_headers(headers: &HeaderMap, max_bytes: usize) -> Result<()> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if text(header::CONTENT_TYPE).is_some_and(|value| value.trim_start().to_ascii_lowercase().starts_with("multipart/"))
    {
        return Err(ApiError::UnsupportedBody("Multipart bodies are not accepted here"));
    }
    if headers.get(header::CONTENT_ENCODING).is_some_and(|value| value != "identity") {
        return Err(ApiError::UnsupportedBody("Compressed bodies are not accepted"));
    }
    match text(header::CONTENT_LENGTH).and_then(|value| value.parse::<u64>().ok()) {
        Some(length) if length > max_bytes as u64 => Err(ApiError::BodyTooLarge { max_bytes }),
        _ => Ok(()),
    }
}

/// JSON, and an object: a struct would also be read from an array, and endpoints without fields look at nothing.
fn check_object(bytes: &[u8]) -> Result<()> {
    let text = str::from_utf8(bytes).map_err(|error| ApiError::NotJson(format!("Not UTF-8: {error}")))?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| ApiError::NotJson(format!("Not JSON: {error}")))?;
    if text.trim_start().starts_with('{') { Ok(()) } else { Err(ApiError::bad_json("The body is not a JSON object")) }
}

/// The body as content of an event.
pub(crate) fn canonical(body: &[u8]) -> Result<CanonicalJsonObject> {
    serde_json::from_slice(body).map_err(|error| ApiError::bad_json(error.to_string()))
}

/// Corrects a body that ruma would misjudge, or refuses it.
pub(crate) type Mend = fn(&mut JsonObject) -> Result<()>;

/// Applies `mend` to the body.
pub(crate) fn mended(body: &[u8], mend: Mend) -> Result<Bytes> {
    let mut object: JsonObject = serde_json::from_slice(body).map_err(|error| ApiError::bad_json(error.to_string()))?;
    mend(&mut object)?;
    Ok(serde_json::to_vec(&object).map_err(ApiError::internal)?.into())
}

#[cfg(test)]
mod tests {
    use axum::{
        body::Body,
        http::{Request, request::Builder},
    };

    use super::read;
    use crate::error::ApiError;

    async fn verdict(request: Builder, body: impl Into<Body>) -> &'static str {
        let (head, body) = request.uri("/").body(body.into()).unwrap().into_parts();
        match read(&head, body, 16).await {
            Ok(bytes) if bytes == "{}" => "empty object",
            Ok(_) => "object",
            Err(ApiError::NotJson(_)) => "not json",
            Err(ApiError::Engine(engine::EngineError::BadJson(_))) => "bad json",
            Err(ApiError::BodyTooLarge { max_bytes: 16 }) => "too large",
            Err(ApiError::UnsupportedBody(_)) => "unsupported",
            Err(_) => "other",
        }
    }

    #[tokio::test]
    async fn s_100_only_objects_pass() {
        let put = || Request::put("/");
        assert_eq!(verdict(put(), r#"{"a":1}"#).await, "object");
        assert_eq!(verdict(put(), " {\"a\":1}\n").await, "object");
        assert_eq!(verdict(put(), "{oops").await, "not json");
        assert_eq!(verdict(put(), "{} {}").await, "not json");
        assert_eq!(verdict(put(), "").await, "not json");
        assert_eq!(verdict(put(), &b"{\"a\":\"\xff\"}"[..]).await, "not json");
        assert_eq!(verdict(put(), &b"\xff\xfe{\0}\0"[..]).await, "not json");
        for other in ["[]", "[1]", "1", "null", "\"a\"", "true"] {
            assert_eq!(verdict(put(), other).await, "bad json", "{other}");
        }
        assert_eq!(verdict(Request::post("/"), "").await, "empty object");
        assert_eq!(verdict(Request::get("/"), "{oops").await, "empty object");
    }

    #[tokio::test]
    async fn s_104_bodies_are_refused_before_they_are_read() {
        let unread = || {
            Body::from_stream(futures_util::stream::once(async {
                Err::<&str, _>(std::io::Error::other("the body was read"))
            }))
        };
        let post = || Request::post("/");
        assert_eq!(verdict(post(), unread()).await, "not json");
        for kind in ["multipart/form-data; boundary=x", "MultiPart/Mixed", " multipart/form-data"] {
            assert_eq!(verdict(post().header("Content-Type", kind), unread()).await, "unsupported", "{kind}");
        }
        assert_eq!(verdict(post().header("Content-Encoding", "gzip"), unread()).await, "unsupported");
        assert_eq!(verdict(post().header("Content-Length", "1000000000"), unread()).await, "too large");
        assert_eq!(verdict(post(), format!("{{\"a\":\"{}\"}}", "a".repeat(16))).await, "too large");
    }
}
