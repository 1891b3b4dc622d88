//! The access token of a request, from its header or its query.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#using-access-tokens>

use axum::http::{HeaderMap, Uri, header, request::Parts};
use engine::EngineError;

use crate::{Result, error::ApiError, query};

/// Longer than any token we make; what is longer is not worth a hash and a look-up.
const TOKEN_MAX_BYTES: usize = 512;

/// The one token that the request carries. A token in both places, two headers or another scheme are refused rather
/// than guessed at: whoever sits between us and the client might have guessed differently.
pub(crate) fn access_token(head: &Parts) -> Result<String> {
    let mut headers = head.headers.get_all(header::AUTHORIZATION).iter();
    let from_header = headers.next();
    let from_query = query_token(head.uri.query().unwrap_or_default())?;
    let token = match (from_header, headers.next(), from_query) {
        (Some(value), None, None) => {
            let value = value.to_str().map_err(|_| unknown())?;
            value
                .strip_prefix("Bearer ")
                .ok_or(ApiError::MissingToken("The authorization scheme is not Bearer"))?
                .into()
        }
        (None, _, Some(token)) => token,
        (None, _, None) => return Err(ApiError::MissingToken("Missing access token")),
        _ => return Err(ApiError::MissingToken("More than one access token")),
    };
    match token.as_bytes() {
        [] => Err(ApiError::MissingToken("Empty access token")),
        bytes if bytes.len() > TOKEN_MAX_BYTES || !bytes.iter().all(u8::is_ascii_graphic) => Err(unknown()),
        _ => Ok(token),
    }
}

/// Whether there is anything that wants to be an access token.
pub(crate) fn is_given(headers: &HeaderMap, uri: &Uri) -> bool {
    let in_query = || uri.query().unwrap_or_default().split('&').any(|pair| pair.starts_with("access_token="));
    headers.contains_key(header::AUTHORIZATION) || in_query()
}

fn query_token(query: &str) -> Result<Option<String>> {
    let mut tokens = query.split('&').filter_map(|pair| pair.strip_prefix("access_token="));
    match (tokens.next(), tokens.next()) {
        (None, _) => Ok(None),
        // Our tokens need no percent-encoding, but those of application services are whatever the operator chose.
        (Some(token), None) => Ok(Some(query::decoded(token).unwrap_or_else(|| token.to_owned()))),
        (Some(_), Some(_)) => Err(ApiError::MissingToken("More than one access token")),
    }
}

fn unknown() -> ApiError {
    EngineError::UnknownToken { soft_logout: false }.into()
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};

    use super::access_token;
    use crate::error::ApiError;

    fn token_of(headers: &[&str], query: &str) -> Result<String, &'static str> {
        let mut request = Request::builder().uri(format!("/path{query}"));
        for header in headers {
            request = request.header("Authorization", *header);
        }
        let (head, _) = request.body(Body::empty()).unwrap().into_parts();
        access_token(&head).map_err(|error| match error {
            ApiError::MissingToken(_) => "missing",
            ApiError::Engine(engine::EngineError::UnknownToken { soft_logout: false }) => "unknown",
            _ => "other",
        })
    }

    #[test]
    fn s_106_token_shapes() {
        assert_eq!(token_of(&["Bearer abc"], ""), Ok("abc".to_owned()));
        assert_eq!(token_of(&[], "?a=b&access_token=abc"), Ok("abc".to_owned()));
        assert_eq!(token_of(&[], ""), Err("missing"));
        assert_eq!(token_of(&[], "?access_token="), Err("missing"));
        assert_eq!(token_of(&["Bearer "], ""), Err("missing"));
        assert_eq!(token_of(&["Bearer"], ""), Err("missing"));
        assert_eq!(token_of(&["bearer abc"], ""), Err("missing"));
        assert_eq!(token_of(&["Basic abc"], ""), Err("missing"));
        assert_eq!(token_of(&["Bearer abc"], "?access_token=abc"), Err("missing"));
        assert_eq!(token_of(&["Bearer abc", "Bearer abc"], ""), Err("missing"));
        assert_eq!(token_of(&[], "?access_token=abc&access_token=abc"), Err("missing"));
        assert_eq!(token_of(&["Bearer  abc"], ""), Err("unknown"));
        assert_eq!(token_of(&[], "?access_token=a%00c"), Err("unknown"));
        assert_eq!(token_of(&[], "?access_token=a%2Bc"), Ok("a+c".to_owned()));
        assert_eq!(token_of(&[&format!("Bearer {}", "a".repeat(1024 * 1024))], ""), Err("unknown"));
    }
}
