//! What other servers hear when something is refused, and the one place that knows status codes and errcodes.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#api-standards>

use axum::response::{IntoResponse, Response};
use engine::EngineError;
use http::StatusCode;
use outbound::{AuthenticateError, VerifyError};
use ruma::{
    RoomVersionId,
    api::error::{ErrorBody, ErrorKind, IncompatibleRoomVersionErrorData, StandardErrorBody, UnknownTokenErrorData},
};
use serde_json::error::Category;

use crate::reply::Reply;

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DoorError {
    /// There is no such endpoint.
    #[error("Unrecognized request")]
    Unrecognized,
    /// There is such an endpoint, but with another method.
    #[error("Unrecognized request: wrong method")]
    WrongMethod,
    /// It is not proven who asks.
    #[error("{0}")]
    Unauthorized(String),
    /// The token that a user has shown a service is none, or none any more.
    #[error("Access token unknown or expired")]
    UnknownToken,
    /// The body is compressed.
    #[error("Compressed requests are not understood")]
    Encoded,
    /// The body is larger than so many bytes.
    #[error("The request is larger than {0} bytes")]
    BodyTooLarge(usize),
    /// The body came to an early end.
    #[error("The request broke off")]
    BodyBrokenOff,
    /// The body is not JSON.
    #[error("The request is not JSON: {0}")]
    NotJson(String),
    /// The body is JSON of the wrong shape.
    #[error("{0}")]
    BadJson(String),
    /// A parameter makes no sense.
    #[error("{0}")]
    InvalidParam(String),
    /// A room or an event is unknown, or may not be seen: which of the two is not said.
    #[error("Unknown room or event, or your server may not see it")]
    Hidden,
    /// A membership is not given, be it that there is no such room.
    #[error("Your server may not do that")]
    Refused,
    /// This is not there.
    #[error("Not found")]
    NotFound,
    /// Our own fault; the text is for the log.
    #[error("{0}")]
    Internal(String),
    /// The engine said no.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl DoorError {
    /// For what a server may read only when it is in the room: unknown and forbidden look alike.
    pub(crate) fn hidden(error: EngineError) -> Self {
        match error {
            EngineError::NotFound(_) | EngineError::Forbidden(_) => Self::Hidden,
            error => Self::Engine(error),
        }
    }

    /// For what a server may do to a room that it need not be in: unknown and forbidden look alike.
    pub(crate) fn refused(error: EngineError) -> Self {
        match error {
            EngineError::NotFound(_) | EngineError::Forbidden(_) => Self::Refused,
            error => Self::Engine(error),
        }
    }

    /// For JSON that was not understood.
    pub(crate) fn from_json(error: &serde_json::Error) -> Self {
        match error.classify() {
            Category::Data => Self::BadJson(error.to_string()),
            Category::Io | Category::Syntax | Category::Eof => Self::NotJson(error.to_string()),
        }
    }

    fn status_and_kind(&self) -> (StatusCode, ErrorKind) {
        match self {
            Self::Unrecognized => (StatusCode::NOT_FOUND, ErrorKind::Unrecognized),
            Self::WrongMethod => (StatusCode::METHOD_NOT_ALLOWED, ErrorKind::Unrecognized),
            Self::Unauthorized(_) => (StatusCode::UNAUTHORIZED, ErrorKind::Unauthorized),
            Self::UnknownToken => (StatusCode::UNAUTHORIZED, ErrorKind::UnknownToken(UnknownTokenErrorData::new())),
            Self::Encoded => (StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorKind::NotJson),
            Self::BodyTooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, ErrorKind::TooLarge),
            Self::BodyBrokenOff | Self::NotJson(_) => (StatusCode::BAD_REQUEST, ErrorKind::NotJson),
            Self::BadJson(_) => (StatusCode::BAD_REQUEST, ErrorKind::BadJson),
            Self::InvalidParam(_) => (StatusCode::BAD_REQUEST, ErrorKind::InvalidParam),
            Self::Hidden | Self::NotFound => (StatusCode::NOT_FOUND, ErrorKind::NotFound),
            Self::Refused => (StatusCode::FORBIDDEN, ErrorKind::Forbidden),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, ErrorKind::Unknown),
            Self::Engine(error) => of_engine(error),
        }
    }

    /// What may be said to the outside.
    fn message(&self) -> String {
        match self {
            Self::Internal(_) | Self::Engine(EngineError::Internal(_) | EngineError::Storage(_)) => {
                "Internal error".to_owned()
            }
            error => error.to_string(),
        }
    }
}

fn of_engine(error: &EngineError) -> (StatusCode, ErrorKind) {
    use EngineError as E;

    match error {
        E::Forbidden(_) | E::ForeignUser(_) | E::NotRecommended(_) => (StatusCode::FORBIDDEN, ErrorKind::Forbidden),
        E::NotFound(_) => (StatusCode::NOT_FOUND, ErrorKind::NotFound),
        E::InvalidParam(_) => (StatusCode::BAD_REQUEST, ErrorKind::InvalidParam),
        E::MissingParam(_) => (StatusCode::BAD_REQUEST, ErrorKind::MissingParam),
        E::BadJson(_) => (StatusCode::BAD_REQUEST, ErrorKind::BadJson),
        E::BadState(_) => (StatusCode::BAD_REQUEST, ErrorKind::BadState),
        E::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, ErrorKind::TooLarge),
        E::UnsupportedRoomVersion(version) | E::IncompatibleRoomVersion(version) => incompatible(version),
        E::UnableToAuthoriseJoin => (StatusCode::BAD_REQUEST, ErrorKind::UnableToAuthorizeJoin),
        E::InviteBlocked => (StatusCode::FORBIDDEN, ErrorKind::InviteBlocked),
        E::UnableToGrantJoin => (StatusCode::BAD_REQUEST, ErrorKind::UnableToGrantJoin),
        E::SilentService => (StatusCode::GATEWAY_TIMEOUT, ErrorKind::Unknown),
        E::Busy | E::MembersUnknown => (StatusCode::SERVICE_UNAVAILABLE, ErrorKind::Unknown),
        E::Storage(error) if error.is_passing() => (StatusCode::SERVICE_UNAVAILABLE, ErrorKind::Unknown),
        E::CannotFederate(_) => (StatusCode::BAD_GATEWAY, ErrorKind::Unknown),
        E::NotLeft | E::BadRequest(_) => (StatusCode::BAD_REQUEST, ErrorKind::Unknown),
        E::NotYetUploaded => (StatusCode::GATEWAY_TIMEOUT, ErrorKind::NotYetUploaded),
        // The rest is about our users' own accounts and aliases, which no other server can ask for.
        _ => (StatusCode::INTERNAL_SERVER_ERROR, ErrorKind::Unknown),
    }
}

fn incompatible(version: &RoomVersionId) -> (StatusCode, ErrorKind) {
    let data = IncompatibleRoomVersionErrorData::new(version.clone());
    (StatusCode::BAD_REQUEST, ErrorKind::IncompatibleRoomVersion(data))
}

impl From<AuthenticateError> for DoorError {
    fn from(error: AuthenticateError) -> Self {
        match error {
            AuthenticateError::NotJson => Self::NotJson(error.to_string()),
            AuthenticateError::Key(VerifyError::Storage(error)) => Self::Engine(error.into()),
            error => Self::Unauthorized(error.to_string()),
        }
    }
}

impl IntoResponse for DoorError {
    fn into_response(self) -> Response {
        let (status, kind) = self.status_and_kind();
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(error = %self, "a request of another server failed");
        }
        let body = StandardErrorBody::new(kind, self.message());
        Reply(ErrorBody::Standard(body).into_error(status)).into_response()
    }
}
