//! Handing out a file in a way that no browser mistakes for a page of this server.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use engine::Medium;
use media::disposition::{CONTENT_SECURITY_POLICY, content_disposition, content_type};

use super::range::{Part, part};
use crate::{Door, Result, error::ApiError};

/// Media do not change, but may be taken away: after a day a client asks again. What one user may see is for no cache
/// that others share.
const CACHE_CONTROL: &str = "private, max-age=86400, immutable";

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const X_ROBOTS_TAG: HeaderName = HeaderName::from_static("x-robots-tag");

/// Serves a medium, or the part of it that the request's headers ask for, under its name or another one.
pub(super) async fn serve(door: &Door, medium: &Medium, filename: Option<&str>, asked: &HeaderMap) -> Result<Response> {
    let etag = format!("\"{}\"", medium.hash());
    if has(asked, &etag) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        add_validity(response.headers_mut(), &etag)?;
        return Ok(response);
    }
    let size = medium.size();
    let part = part(asked, &etag, size)?;
    let range = part.as_ref().map_or(0..size, |Part(range)| range.clone());
    let length = range.end - range.start;
    let body = door.engine.read_medium(medium, range.clone()).await?;
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, length.into());
    add_validity(headers, &etag)?;
    add_safety(headers);
    let content_type = content_type(medium.content_type.as_deref());
    let disposition = content_disposition(content_type, filename.or(medium.filename.as_deref()));
    headers.insert(header::CONTENT_TYPE, value(content_type)?);
    headers.insert(header::CONTENT_DISPOSITION, value(&disposition)?);
    if part.is_some() {
        headers.insert(
            header::CONTENT_RANGE,
            value(&format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1)))?,
        );
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// Whether the client has the very same content.
fn has(asked: &HeaderMap, etag: &str) -> bool {
    let mut known = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let same = |tag: &str| tag == "*" || tag.trim_start_matches("W/") == etag;
    known.any(|list| list.split(',').any(|tag| same(tag.trim())))
}

fn add_validity(headers: &mut HeaderMap, etag: &str) -> Result<()> {
    headers.insert(header::ETAG, value(etag)?);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(CACHE_CONTROL));
    Ok(())
}

fn add_safety(headers: &mut HeaderMap) {
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
    headers.insert(X_ROBOTS_TAG, HeaderValue::from_static("noindex, nofollow, noarchive, noimageindex"));
}

fn value(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(ApiError::internal)
}
