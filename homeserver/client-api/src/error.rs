//! What clients hear when something goes wrong: the only place with status codes and errcodes.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#standard-error-response>

use appservices::CallError;
use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::BytesMut;
use engine::{EngineError, PolicyRefusal};
use keyserver::SignatureFailure;
use ruma::api::{
    OutgoingResponse, OutgoingResponseExt,
    client::uiaa::{AuthFlow, UiaaInfo, UiaaResponse},
    error::{
        BadStatusErrorData, DeserializationError, Error, ErrorBody, ErrorKind, FromHttpRequestError,
        IncompatibleRoomVersionErrorData, LimitExceededErrorData, RetryAfter, StandardErrorBody, UnknownTokenErrorData,
        WrongRoomKeysVersionErrorData,
    },
};
use storage::StorageError;

use crate::{
    Result,
    interactive::{Challenge, Stage},
};

/// When to come back to a server that is busy, or away from its database. Soon: both pass, and nobody waits for long.
const RETRY_AFTER_SECONDS: u64 = 5;

/// Why a request is not answered as asked.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// The engine's reasons.
    Engine(EngineError),
    /// There is no such endpoint.
    Unrecognized,
    /// The endpoint has no such method.
    MethodNotAllowed,
    /// There is no usable access token; the text says why.
    MissingToken(&'static str),
    /// The body is not JSON.
    NotJson(String),
    /// The body comes in a wrapping that we do not open.
    UnsupportedBody(&'static str),
    /// The body is larger than the endpoint takes.
    BodyTooLarge {
        /// What it takes.
        max_bytes: usize,
    },
    /// Too much in too short a time.
    LimitExceeded {
        /// When to try again.
        retry_after_ms: u64,
    },
    /// A part of a file that is not there.
    RangeNotSatisfiable {
        /// The size of the file.
        size: u64,
    },
    /// The alias belongs to a room already.
    AliasTaken,
    /// Account data of this type is not the client's to write here.
    ServerManaged(String),
    /// The user must confirm the action.
    Challenge(Box<Challenge>),
}

impl ApiError {
    pub(crate) fn bad_json(text: impl Into<String>) -> Self {
        EngineError::BadJson(text.into()).into()
    }

    pub(crate) fn invalid_param(text: impl Into<String>) -> Self {
        EngineError::InvalidParam(text.into()).into()
    }

    pub(crate) fn forbidden(text: impl Into<String>) -> Self {
        EngineError::Forbidden(text.into()).into()
    }

    /// Our own fault; `error` goes to the log.
    pub(crate) fn internal(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        EngineError::Internal(error.into().to_string()).into()
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<FromHttpRequestError> for ApiError {
    /// The body was checked to be an object before, so what fails as JSON has the wrong shape, but for what only the
    /// typed parser looks at: escapes and depth.
    fn from(error: FromHttpRequestError) -> Self {
        match error {
            FromHttpRequestError::Deserialization(DeserializationError::Json(error)) if error.is_data() => {
                Self::bad_json(error.to_string())
            }
            FromHttpRequestError::Deserialization(DeserializationError::Json(error)) => {
                Self::NotJson(error.to_string())
            }
            FromHttpRequestError::Deserialization(DeserializationError::Query(error)) => {
                let text = error.to_string();
                if text.starts_with("missing field") {
                    EngineError::MissingParam(text).into()
                } else {
                    Self::invalid_param(text)
                }
            }
            error => Self::invalid_param(error.to_string()),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match self {
            Self::Challenge(challenge) => write(UiaaResponse::AuthResponse(uiaa_info(*challenge))),
            Self::LimitExceeded { retry_after_ms } | Self::Engine(EngineError::LimitExceeded { retry_after_ms }) => {
                limit_exceeded(retry_after_ms)
            }
            Self::RangeNotSatisfiable { size } => {
                let mut response = write(standard(
                    StatusCode::RANGE_NOT_SATISFIABLE,
                    ErrorKind::InvalidParam,
                    "The file has no such part".to_owned(),
                ));
                response.headers_mut().insert(header::CONTENT_RANGE, unsatisfied(size));
                response
            }
            Self::Engine(EngineError::UnknownPos) => unknown_pos(),
            error => {
                let (status, kind, text) = error.standard();
                let mut response = write(standard(status, kind, text));
                if status == StatusCode::SERVICE_UNAVAILABLE {
                    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
                }
                response
            }
        }
    }
}

impl ApiError {
    fn standard(self) -> (StatusCode, ErrorKind, String) {
        let (status, kind, text) = match self {
            Self::Engine(error) => return of_engine(&error),
            Self::Unrecognized => (StatusCode::NOT_FOUND, ErrorKind::Unrecognized, "Unrecognized request"),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, ErrorKind::Unrecognized, "The endpoint has no such method")
            }
            Self::MissingToken(text) => (StatusCode::UNAUTHORIZED, ErrorKind::MissingToken, text),
            Self::NotJson(text) => return (StatusCode::BAD_REQUEST, ErrorKind::NotJson, text),
            Self::UnsupportedBody(text) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorKind::NotJson, text),
            Self::BodyTooLarge { max_bytes } => {
                let text = format!("The body is larger than {max_bytes} bytes");
                return (StatusCode::PAYLOAD_TOO_LARGE, ErrorKind::TooLarge, text);
            }
            Self::AliasTaken => (StatusCode::CONFLICT, ErrorKind::Unknown, "The room alias exists already"),
            Self::ServerManaged(event_type) => {
                let text = format!("{event_type} is managed by the server and has its own endpoint");
                return (StatusCode::METHOD_NOT_ALLOWED, ErrorKind::BadJson, text);
            }
            Self::LimitExceeded { .. } | Self::RangeNotSatisfiable { .. } | Self::Challenge(_) => {
                return of_engine(&EngineError::Busy);
            }
        };
        (status, kind, text.to_owned())
    }
}

/// The code of a signature that does not fit, which ruma has no name for.
const INVALID_SIGNATURE: &str = "M_INVALID_SIGNATURE";

/// Codes of a proposal (MSC4306).
const NOT_IN_THREAD: &str = "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD";
const CONFLICTING_UNSUBSCRIPTION: &str = "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION";

/// A code that ruma has no name for.
fn kind_of(errcode: &str) -> ErrorKind {
    serde_json::from_value(serde_json::json!({ "errcode": errcode })).unwrap_or(ErrorKind::Unknown)
}

fn of_engine(error: &EngineError) -> (StatusCode, ErrorKind, String) {
    let (status, kind) = match error {
        EngineError::Forbidden(_) | EngineError::ForeignUser(_) | EngineError::WrongCredentials => {
            (StatusCode::FORBIDDEN, ErrorKind::Forbidden)
        }
        EngineError::NotFound(_) => (StatusCode::NOT_FOUND, ErrorKind::NotFound),
        // What cannot be stored came from the client; what we write ourselves can.
        EngineError::InvalidParam(_) | EngineError::Storage(StorageError::Unstorable(_)) => {
            (StatusCode::BAD_REQUEST, ErrorKind::InvalidParam)
        }
        EngineError::MissingParam(_) | EngineError::NoDevice => (StatusCode::BAD_REQUEST, ErrorKind::MissingParam),
        EngineError::BadJson(_) => (StatusCode::BAD_REQUEST, ErrorKind::BadJson),
        EngineError::InvalidSignature(_) => (StatusCode::BAD_REQUEST, kind_of(INVALID_SIGNATURE)),
        EngineError::NotInThread => (StatusCode::BAD_REQUEST, kind_of(NOT_IN_THREAD)),
        EngineError::ConflictingUnsubscription => (StatusCode::CONFLICT, kind_of(CONFLICTING_UNSUBSCRIPTION)),
        EngineError::WrongBackupVersion(current) => {
            let data = WrongRoomKeysVersionErrorData::new(current.clone());
            (StatusCode::FORBIDDEN, ErrorKind::WrongRoomKeysVersion(data))
        }
        // `UnknownPos` is written as a whole: see `unknown_pos`.
        EngineError::NotLeft | EngineError::BadRequest(_) | EngineError::UnknownPos => {
            (StatusCode::BAD_REQUEST, ErrorKind::Unknown)
        }
        EngineError::BadState(_) => (StatusCode::FORBIDDEN, ErrorKind::BadState),
        EngineError::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, ErrorKind::TooLarge),
        EngineError::Exclusive(_) => (StatusCode::BAD_REQUEST, ErrorKind::Exclusive),
        EngineError::UnknownDevice => (StatusCode::BAD_REQUEST, ErrorKind::UnknownDevice),
        EngineError::Service(CallError::NoUrl) => (StatusCode::BAD_REQUEST, ErrorKind::UrlNotSet),
        EngineError::Service(CallError::TimedOut(_)) => (StatusCode::GATEWAY_TIMEOUT, ErrorKind::ConnectionTimeout),
        EngineError::Service(CallError::Refused { status, body }) => {
            let mut data = BadStatusErrorData::new();
            data.status = StatusCode::from_u16(*status).ok();
            data.body = Some(body.clone());
            (StatusCode::BAD_GATEWAY, ErrorKind::BadStatus(data))
        }
        EngineError::Service(_) => (StatusCode::BAD_GATEWAY, ErrorKind::ConnectionFailed),
        EngineError::RoomInUse => (StatusCode::BAD_REQUEST, ErrorKind::RoomInUse),
        EngineError::UserInUse => (StatusCode::BAD_REQUEST, ErrorKind::UserInUse),
        EngineError::InvalidUsername(_) => (StatusCode::BAD_REQUEST, ErrorKind::InvalidUsername),
        EngineError::WeakPassword(_) => (StatusCode::BAD_REQUEST, ErrorKind::WeakPassword),
        EngineError::UnknownToken { soft_logout } => {
            let mut data = UnknownTokenErrorData::new();
            data.soft_logout = *soft_logout;
            (StatusCode::UNAUTHORIZED, ErrorKind::UnknownToken(data))
        }
        EngineError::UserLocked => (StatusCode::UNAUTHORIZED, ErrorKind::UserLocked),
        EngineError::UserSuspended => (StatusCode::FORBIDDEN, ErrorKind::UserSuspended),
        EngineError::GuestForbidden(_) => (StatusCode::FORBIDDEN, ErrorKind::GuestAccessForbidden),
        EngineError::ThirdPartyIdInUse => (StatusCode::BAD_REQUEST, ErrorKind::ThreepidInUse),
        EngineError::ThirdPartyIdAuthFailed(_) => (StatusCode::BAD_REQUEST, ErrorKind::ThreepidAuthFailed),
        EngineError::MediumNotSupported(_) => (StatusCode::BAD_REQUEST, ErrorKind::ThreepidMediumNotSupported),
        EngineError::ProfileTooLarge(_) => (StatusCode::BAD_REQUEST, ErrorKind::ProfileTooLarge),
        EngineError::KeyTooLarge(_) => (StatusCode::BAD_REQUEST, ErrorKind::KeyTooLarge),
        EngineError::UserDeactivated => (StatusCode::FORBIDDEN, ErrorKind::UserDeactivated),
        EngineError::UnsupportedRoomVersion(_) => (StatusCode::BAD_REQUEST, ErrorKind::UnsupportedRoomVersion),
        EngineError::IncompatibleRoomVersion(version) => {
            let data = IncompatibleRoomVersionErrorData::new(version.clone());
            (StatusCode::BAD_REQUEST, ErrorKind::IncompatibleRoomVersion(data))
        }
        EngineError::NotRecommended(PolicyRefusal { status, errcode, .. }) => {
            (StatusCode::from_u16(*status).unwrap_or(StatusCode::FORBIDDEN), kind_of(errcode))
        }
        EngineError::UnableToAuthoriseJoin => (StatusCode::BAD_REQUEST, ErrorKind::UnableToAuthorizeJoin),
        EngineError::UnableToGrantJoin => (StatusCode::BAD_REQUEST, ErrorKind::UnableToGrantJoin),
        EngineError::DuplicateAnnotation => (StatusCode::BAD_REQUEST, ErrorKind::DuplicateAnnotation),
        EngineError::InviteBlocked => (StatusCode::FORBIDDEN, ErrorKind::InviteBlocked),
        EngineError::CannotLeaveServerNoticeRoom => (StatusCode::FORBIDDEN, ErrorKind::CannotLeaveServerNoticeRoom),
        EngineError::BadAlias(_) => (StatusCode::BAD_REQUEST, ErrorKind::BadAlias),
        EngineError::CannotFederate(_) => (StatusCode::BAD_GATEWAY, ErrorKind::Unknown),
        EngineError::RemoteTooLarge(_) => (StatusCode::BAD_GATEWAY, ErrorKind::TooLarge),
        EngineError::NotYetUploaded => (StatusCode::GATEWAY_TIMEOUT, ErrorKind::NotYetUploaded),
        EngineError::CannotOverwriteMedia => (StatusCode::CONFLICT, ErrorKind::CannotOverwriteMedia),
        // `LimitExceeded` is written as a whole: see `limit_exceeded`.
        EngineError::LimitExceeded { .. } => (StatusCode::TOO_MANY_REQUESTS, ErrorKind::Unknown),
        EngineError::SilentService => (StatusCode::REQUEST_TIMEOUT, ErrorKind::ConnectionTimeout),
        EngineError::Busy | EngineError::MembersUnknown => (StatusCode::SERVICE_UNAVAILABLE, ErrorKind::Unknown),
        EngineError::Storage(failure) if failure.is_passing() => {
            tracing::warn!(error = chain(failure), "A client's request cannot be answered now");
            let text = "The server cannot reach its database; try again".to_owned();
            return (StatusCode::SERVICE_UNAVAILABLE, ErrorKind::Unknown, text);
        }
        EngineError::Internal(_) | EngineError::Storage(_) => {
            tracing::error!(error = chain(error), "A client's request failed by our fault");
            let text = "Internal server error".to_owned();
            return (StatusCode::INTERNAL_SERVER_ERROR, ErrorKind::Unknown, text);
        }
    };
    (status, kind, error.to_string())
}

/// The code for a signature that was not taken.
pub(crate) fn signature_errcode(failure: SignatureFailure) -> &'static str {
    match failure {
        SignatureFailure::NotFound => "M_NOT_FOUND",
        SignatureFailure::Differs | SignatureFailure::InvalidSignature => INVALID_SIGNATURE,
        SignatureFailure::TooMany => "M_LIMIT_EXCEEDED",
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn standard(status: StatusCode, kind: ErrorKind, text: String) -> Error {
    Error::new(status, ErrorBody::Standard(StandardErrorBody::new(kind, text)))
}

/// The body says milliseconds, the header seconds: rounded up, lest a client that trusts it comes too early.
fn limit_exceeded(retry_after_ms: u64) -> Response {
    let mut data = LimitExceededErrorData::new();
    data.retry_after = Some(RetryAfter::Delay(std::time::Duration::from_millis(retry_after_ms)));
    let kind = ErrorKind::LimitExceeded(data);
    let mut response = write(standard(StatusCode::TOO_MANY_REQUESTS, kind, "Too many requests".to_owned()));
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after_ms.div_ceil(1000)));
    response
}

fn unsatisfied(size: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("bytes */{size}")).unwrap_or(HeaderValue::from_static("bytes */0"))
}

/// An errcode of a proposal (MSC4186), which ruma has no name for.
fn unknown_pos() -> Response {
    let body = serde_json::json!({ "errcode": "M_UNKNOWN_POS", "error": EngineError::UnknownPos.to_string() });
    write(Error::new(StatusCode::BAD_REQUEST, ErrorBody::Json(body)))
}

fn uiaa_info(challenge: Challenge) -> UiaaInfo {
    let auth_types = |stages: &[Stage]| stages.iter().map(|stage| stage.auth_type()).collect::<Vec<_>>();
    let mut info = UiaaInfo::new(challenge.flows.iter().map(|flow| AuthFlow::new(auth_types(flow))).collect());
    info.completed = auth_types(&challenge.completed);
    // Not required by the specification where there are none, but by clients that read them.
    info.params = serde_json::value::to_raw_value(&challenge.params).ok();
    info.session = Some(challenge.session);
    info.auth_error =
        challenge.refusal.map(|text| Box::new(StandardErrorBody::new(ErrorKind::Forbidden, text.to_owned())));
    info
}

/// Writes a reply.
pub(crate) fn answer(response: impl OutgoingResponse) -> Result<Response> {
    let response = response.try_into_http_response::<BytesMut>().map_err(ApiError::internal)?;
    Ok(response.map(|body| Body::from(body.freeze())))
}

fn write(response: impl OutgoingResponse) -> Response {
    answer(response).unwrap_or_else(|error| {
        tracing::error!(?error, "An error reply could not be written");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    })
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use engine::EngineError;
    use serde_json::{Value, json};

    use super::ApiError;

    async fn reply(error: ApiError) -> (u16, Option<String>, Value) {
        let response = error.into_response();
        let status = response.status().as_u16();
        let retry_after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        (status, retry_after, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn internal_errors_tell_nothing() {
        let (status, _, body) = reply(EngineError::Internal("a secret".to_owned()).into()).await;
        assert_eq!(status, 500);
        assert_eq!(body, json!({ "errcode": "M_UNKNOWN", "error": "Internal server error" }));
    }

    #[tokio::test]
    async fn r_07_a_database_that_is_away_is_no_fault_of_the_request() {
        let (status, retry_after, body) = reply(EngineError::Storage(storage::StorageError::Closed).into()).await;
        assert_eq!((status, retry_after.as_deref()), (503, Some("5")));
        assert_eq!(body["errcode"], "M_UNKNOWN");
        let (status, retry_after, _) = reply(EngineError::Busy.into()).await;
        assert_eq!((status, retry_after.as_deref()), (503, Some("5")));
    }

    #[tokio::test]
    async fn s_152_limits_say_when_to_come_back() {
        let (status, retry_after, body) = reply(ApiError::LimitExceeded { retry_after_ms: 1_200 }).await;
        assert_eq!((status, retry_after.as_deref()), (429, Some("2")));
        assert_eq!(
            body,
            json!({ "errcode": "M_LIMIT_EXCEEDED", "error": "Too many requests", "retry_after_ms": 1_200 })
        );
    }
}
