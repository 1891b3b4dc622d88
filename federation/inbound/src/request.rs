//! Reading requests: their bodies within limits, then what they ask.

use axum::{
    RequestPartsExt as _,
    body::Body,
    extract::{FromRequest, OriginalUri, RawPathParams, Request},
};
use bytes::Bytes;
use http::{header, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use ruma::{
    OwnedEventId, OwnedRoomId,
    api::{
        IncomingRequest, IncomingRequestExt as _,
        error::{DeserializationError, FromHttpRequestError},
    },
};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::error::DoorError;

/// The largest body of a request that is not a transaction, in bytes. The largest honest one is an invite: an event of
/// 64 KiB and, at 64 KiB each, some events of room state.
pub(crate) const BODY_MAX_BYTES: usize = 1024 * 1024;

/// What a request asks.
pub(crate) trait Ask: Sized + Send {
    /// The largest body that is read, in bytes.
    const BODY_MAX_BYTES: usize = BODY_MAX_BYTES;

    /// Reads it. `arguments` are the parameters in the path, decoded, in order.
    fn read(request: http::Request<&[u8]>, arguments: &[&str]) -> Result<Self, DoorError>;
}

impl<T: IncomingRequest + Send> Ask for T {
    fn read(request: http::Request<&[u8]>, arguments: &[&str]) -> Result<Self, DoorError> {
        T::try_from_http_request(request, arguments).map_err(|error| match error {
            FromHttpRequestError::Deserialization(DeserializationError::Json(error)) => DoorError::from_json(&error),
            error => DoorError::InvalidParam(error.to_string()),
        })
    }
}

/// An event that is put under its id: what the first versions of the membership endpoints ask.
pub(crate) struct PutEvent {
    /// The room, by the path.
    pub(crate) room_id: OwnedRoomId,
    /// The event, by the path.
    pub(crate) event_id: OwnedEventId,
    /// The body.
    pub(crate) event: Box<RawValue>,
}

impl Ask for PutEvent {
    fn read(request: http::Request<&[u8]>, arguments: &[&str]) -> Result<Self, DoorError> {
        let &[room_id, event_id] = arguments else {
            return Err(DoorError::Internal("the route has no room and event id".to_owned()));
        };
        let invalid = |error: ruma::IdParseError| DoorError::InvalidParam(error.to_string());
        Ok(Self {
            room_id: room_id.try_into().map_err(invalid)?,
            event_id: event_id.try_into().map_err(invalid)?,
            event: serde_json::from_slice(request.body()).map_err(|error| DoorError::from_json(&error))?,
        })
    }
}

/// A request that need not be signed.
pub(crate) struct Open<T>(pub(crate) T);

impl<T: Ask, S: Send + Sync> FromRequest<S> for Open<T> {
    type Rejection = DoorError;

    async fn from_request(request: Request, _: &S) -> Result<Self, DoorError> {
        let request = Whole::read(request, T::BODY_MAX_BYTES).await?;
        Ok(Self(request.ask()?))
    }
}

/// A request with its whole body.
pub(crate) struct Whole {
    parts: Parts,
    arguments: Vec<String>,
    pub(crate) body: Bytes,
}

impl Whole {
    /// Reads a request.
    pub(crate) async fn read(request: Request, body_max_bytes: usize) -> Result<Self, DoorError> {
        let (mut parts, body) = request.into_parts();
        let arguments = parts.extract::<RawPathParams>().await;
        let arguments = arguments.map_err(|error| DoorError::InvalidParam(error.body_text()))?;
        let arguments = arguments.iter().map(|(_, value)| value.to_owned()).collect();
        let body = read_body(&parts, body, body_max_bytes).await?;
        Ok(Self { parts, arguments, body })
    }

    /// The method.
    pub(crate) fn method(&self) -> &http::Method {
        &self.parts.method
    }

    /// Path and query as they stood in the request line: routers that are nested in others see less.
    pub(crate) fn raw_target(&self) -> String {
        let original = self.parts.extensions.get::<OriginalUri>().map_or(&self.parts.uri, |original| &original.0);
        original.path_and_query().map_or_else(|| "/".to_owned(), |target| target.as_str().to_owned())
    }

    /// What it asks.
    pub(crate) fn ask<T: Ask>(self) -> Result<T, DoorError> {
        self.require_object()?;
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        T::read(http::Request::from_parts(self.parts, &self.body), &arguments)
    }

    /// Every body of a federation request is an object. The parser would take a list of the values for one.
    fn require_object(&self) -> Result<(), DoorError> {
        let first = self.body.iter().find(|byte| !byte.is_ascii_whitespace());
        if first.is_none_or(|byte| *byte == b'{') {
            return Ok(());
        }
        serde_json::from_slice::<IgnoredAny>(&self.body).map_err(|error| DoorError::from_json(&error))?;
        Err(DoorError::BadJson("The request is no object".to_owned()))
    }
}

async fn read_body(parts: &Parts, body: Body, max_bytes: usize) -> Result<Bytes, DoorError> {
    let encoding = parts.headers.get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(DoorError::Encoded);
    }
    let announced = parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > max_bytes as u64) {
        return Err(DoorError::BodyTooLarge(max_bytes));
    }
    match Limited::new(body, max_bytes).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(DoorError::BodyTooLarge(max_bytes)),
        Err(_) => Err(DoorError::BodyBrokenOff),
    }
}
