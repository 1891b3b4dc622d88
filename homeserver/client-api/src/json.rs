//! Replies of a shape that ruma has no type for.

use http::{HeaderValue, header::CONTENT_TYPE};
use ruma::api::{BytesBody, OutgoingResponse, OutgoingResponseExt as _, error::IntoHttpError};
use serde::Serialize;

use crate::{Door, error::ApiError};

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

/// A reply that is written already.
pub(crate) struct Written(http::Response<Vec<u8>>);

impl Written {
    /// Makes and writes a reply that tells of so many events: where they are many, without keeping others waiting.
    pub(crate) async fn large<T: OutgoingResponse>(
        door: &Door,
        size: usize,
        reply: impl FnOnce() -> T + Send + 'static,
    ) -> crate::Result<Self> {
        let writing = door.engine.apart(size, move || reply().try_into_http_response());
        Ok(Self(writing.await.map_err(ApiError::internal)?))
    }
}

impl OutgoingResponse for Written {
    type Body = BytesBody;

    fn try_into_http_response_inner(self) -> Result<http::Response<BytesBody>, IntoHttpError> {
        Ok(self.0.map(BytesBody))
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
