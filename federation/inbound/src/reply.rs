//! Turning answers of the engine into answers over HTTP.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::BytesMut;
use http::{StatusCode, header};
use ruma::api::{OutgoingResponse, OutgoingResponseExt as _};
use serde::Serialize;

use crate::{Door, error::DoorError};

/// An answer of one of ruma's types.
pub(crate) struct Reply<T>(pub(crate) T);

impl<T: OutgoingResponse> IntoResponse for Reply<T> {
    fn into_response(self) -> Response {
        match self.0.try_into_http_response::<BytesMut>() {
            Ok(response) => response.map(|body| Body::from(body.freeze())),
            Err(error) => DoorError::Internal(format!("an answer cannot be written: {error}")).into_response(),
        }
    }
}

/// Writes an answer of so many events or ids: where they are many, without keeping others waiting.
pub(crate) async fn large(door: &Door, size: usize, reply: impl IntoResponse + Send + 'static) -> Response {
    door.engine.apart(size, move || reply.into_response()).await
}

/// An answer of a shape that ruma has no type for.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_string(&self.0) {
            Ok(body) => (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
            Err(error) => DoorError::Internal(format!("an answer cannot be written: {error}")).into_response(),
        }
    }
}
