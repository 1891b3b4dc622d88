//! Replies of a shape that ruma has no type for.

use http::{HeaderValue, header::CONTENT_TYPE};
use ruma::api::{BytesBody, OutgoingResponse, error::IntoHttpError};
use serde::Serialize;

/// A reply as it is written.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: Serialize> OutgoingResponse for Json<T> {
    type Body = BytesBody;

    fn try_into_http_response_inner(self) -> Result<http::Response<BytesBody>, IntoHttpError> {
        let mut response = http::Response::new(BytesBody(serde_json::to_vec(&self.0)?));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }
}

/// An empty reply that says by its status whether something was made.
pub(crate) struct Made(pub(crate) bool);

impl OutgoingResponse for Made {
    type Body = BytesBody;

    fn try_into_http_response_inner(self) -> Result<http::Response<BytesBody>, IntoHttpError> {
        let mut response = Json(serde_json::json!({})).try_into_http_response_inner()?;
        if self.0 {
            *response.status_mut() = http::StatusCode::CREATED;
        }
        Ok(response)
    }
}
