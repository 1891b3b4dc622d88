//! Replies whose shape is our own: where ruma has no type for them, or one that leaves out what clients expect.

use http::{HeaderValue, header::CONTENT_TYPE};
use ruma::api::{BytesBody, OutgoingResponse, error::IntoHttpError};
use serde::Serialize;

/// A reply with a JSON body.
pub(crate) struct JsonReply<T>(pub(crate) T);

impl<T: Serialize> OutgoingResponse for JsonReply<T> {
    type Body = BytesBody;

    fn try_into_http_response_inner(self) -> Result<http::Response<BytesBody>, IntoHttpError> {
        let mut response = http::Response::new(BytesBody(serde_json::to_vec(&self.0)?));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }
}
