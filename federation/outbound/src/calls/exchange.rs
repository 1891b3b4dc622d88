//! The one way in which a call is made: sign, send, check the status, read the answer.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::{
    Method,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, RoomVersionId, ServerName};
use serde::{Deserialize, de::DeserializeOwned};

use super::{CallError, Federation, path::Target};
use crate::{ByteStream, CallLimits, TransportError, x_matrix::sign_request};

/// From this size on, an answer is parsed on a thread of its own: that takes milliseconds then, and up to seconds.
const PARSE_INLINE_MAX_BYTES: usize = 1024 * 1024;
/// As much of another server's words as we put into our log.
const ERROR_TEXT_MAX_CHARS: usize = 200;
/// As much of a refusal as is read where the answer could be large.
const ERROR_BODY_MAX_BYTES: usize = 64 * 1024;

#[derive(Default, Deserialize)]
struct ErrorBody {
    errcode: Option<String>,
    error: Option<String>,
    room_version: Option<String>,
}

impl Federation {
    /// A call without a body.
    pub(super) async fn get<T: DeserializeOwned + Send + 'static>(
        &self,
        destination: &ServerName,
        target: Target,
        limits: CallLimits,
    ) -> Result<T, CallError> {
        self.call(destination, Method::GET, target, None, limits).await
    }

    /// A call, and its answer.
    pub(super) async fn call<T: DeserializeOwned + Send + 'static>(
        &self,
        destination: &ServerName,
        method: Method,
        target: Target,
        body: Option<CanonicalJsonObject>,
        limits: CallLimits,
    ) -> Result<T, CallError> {
        let answer = self.exchange(destination, method, target, body, limits).await?;
        if answer.len() < PARSE_INLINE_MAX_BYTES {
            return parse(&answer);
        }
        let parsing = tokio::task::spawn_blocking(move || parse(&answer)).await;
        parsing.unwrap_or_else(|error| Err(CallError::Malformed(format!("parsing it failed: {error}"))))
    }

    async fn exchange(
        &self,
        destination: &ServerName,
        method: Method,
        target: Target,
        body: Option<CanonicalJsonObject>,
        limits: CallLimits,
    ) -> Result<Bytes, CallError> {
        let request = self.signed(destination, method, target, body)?;
        let answer = self.inner.transport.send(destination, request, limits).await?;
        if answer.status().is_success() {
            return Ok(answer.into_body());
        }
        Err(refusal(&answer))
    }

    /// A call whose answer is read while it comes. One that is no success is read at once.
    pub(super) async fn get_streamed(
        &self,
        destination: &ServerName,
        target: Target,
        limits: CallLimits,
    ) -> Result<http::Response<ByteStream>, CallError> {
        let request = self.signed(destination, Method::GET, target, None)?;
        success(self.inner.transport.stream(destination, request, limits).await?).await
    }

    /// The same without saying who asks.
    pub(super) async fn get_unsigned(
        &self,
        destination: &ServerName,
        target: Target,
        limits: CallLimits,
    ) -> Result<http::Response<ByteStream>, CallError> {
        let request = http::Request::get(target.into_string()).body(Bytes::new()).expect("the target is encoded");
        success(self.inner.transport.stream(destination, request, limits).await?).await
    }

    /// A request that says who asks, and whom.
    fn signed(
        &self,
        destination: &ServerName,
        method: Method,
        target: Target,
        body: Option<CanonicalJsonObject>,
    ) -> Result<http::Request<Bytes>, CallError> {
        if *destination == *self.server_name() {
            return Err(CallError::Denied("it is this server".to_owned()));
        }
        let target = target.into_string();
        let body = body.map(|body| CanonicalJsonValue::Object(body).to_string());
        let signature = sign_request(&self.inner.key, destination, &method, &target, body.as_deref());
        let mut request = http::Request::builder()
            .method(method)
            .uri(target)
            .header(AUTHORIZATION, signature)
            .header(ACCEPT, "application/json");
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        Ok(request.body(body.map(Bytes::from).unwrap_or_default()).expect("the target is encoded"))
    }
}

/// An answer that is a success, or points elsewhere; of any other the reason.
async fn success(answer: http::Response<ByteStream>) -> Result<http::Response<ByteStream>, CallError> {
    if answer.status().is_success() || answer.status().is_redirection() {
        return Ok(answer);
    }
    let (head, mut body) = answer.into_parts();
    let mut text = BytesMut::new();
    while let Some(Ok(piece)) = body.next().await {
        text.extend_from_slice(&piece);
        if text.len() > ERROR_BODY_MAX_BYTES {
            break;
        }
    }
    Err(refusal(&http::Response::from_parts(head, text.freeze())))
}

pub(super) fn parse<T: DeserializeOwned>(answer: &Bytes) -> Result<T, CallError> {
    serde_json::from_slice(answer).map_err(|error| CallError::Malformed(error.to_string()))
}

pub(super) fn refusal(answer: &http::Response<Bytes>) -> CallError {
    let ErrorBody { errcode, error, room_version } = serde_json::from_slice(answer.body()).unwrap_or_default();
    let cut = |text: String| text.chars().take(ERROR_TEXT_MAX_CHARS).collect();
    CallError::Refused {
        status: answer.status().as_u16(),
        errcode: errcode.map(cut),
        error: error.map(cut),
        room_version: room_version.and_then(|version| RoomVersionId::try_from(version).ok()),
    }
}

impl From<TransportError> for CallError {
    fn from(error: TransportError) -> Self {
        match error {
            TransportError::Unreachable(reason) => Self::Unreachable(reason),
            TransportError::Denied(reason) => Self::Denied(reason),
            TransportError::TooLarge { .. } => Self::TooLarge,
            TransportError::Deadline(_) => Self::Deadline,
        }
    }
}

/// An event of ours, as a body.
pub(super) fn event_body(json: &str) -> Result<CanonicalJsonObject, CallError> {
    serde_json::from_str(json).map_err(|error| CallError::Malformed(format!("our own event: {error}")))
}
