//! What can go wrong, in the field's terms, but free of HTTP: each door turns it into status and errcode.

use keyserver::KeyError;
use ruma::{OwnedUserId, RoomVersionId};
use storage::StorageError;

use crate::rooms::commit_error;

/// The result of a verb.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;

/// Why a verb was not done. The texts may be shown to clients, but for those of `Internal` and `Storage`.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Not allowed.
    #[error("{0}")]
    Forbidden(String),
    /// There is no such thing, or the asker may not know that there is.
    #[error("{0}")]
    NotFound(String),
    /// A parameter has a value that makes no sense.
    #[error("{0}")]
    InvalidParam(String),
    /// A parameter is missing.
    #[error("{0}")]
    MissingParam(String),
    /// JSON of the wrong shape.
    #[error("{0}")]
    BadJson(String),
    /// The room is not in a state for that.
    #[error("{0}")]
    BadState(String),
    /// A signature that is missing or does not fit.
    #[error("{0}")]
    InvalidSignature(String),
    /// The backup's version is not the current one, which is this.
    #[error("Wrong backup version")]
    WrongBackupVersion(String),
    /// Only for those who have left the room.
    #[error("You must leave the room before you can forget it")]
    NotLeft,
    /// Larger than allowed.
    #[error("{0}")]
    TooLarge(String),
    /// The alias belongs to a room already.
    #[error("Room alias is taken")]
    RoomInUse,
    /// The user id is taken.
    #[error("User ID already taken")]
    UserInUse,
    /// The user or the alias belongs to an application service, or to none that asks.
    #[error("{0}")]
    Exclusive(String),
    /// The user that an application service speaks for has no such device.
    #[error("The user has no such device")]
    UnknownDevice,
    /// Only for those who have a device: an application service names it by `device_id`.
    #[error("This can be done by a device only: name one by `device_id`")]
    NoDevice,
    /// The application service did not do what was asked of it.
    #[error("The application service {0}")]
    Service(#[from] appservices::CallError),
    /// No user id can be made of it.
    #[error("{0}")]
    InvalidUsername(String),
    /// The password is too easy.
    #[error("{0}")]
    WeakPassword(String),
    /// The token is not, or no longer, valid. With `soft_logout` the device remains and may refresh or log in again.
    #[error("Unknown or expired token")]
    UnknownToken {
        /// Whether the device remains.
        soft_logout: bool,
    },
    /// The account was deactivated.
    #[error("This account has been deactivated")]
    UserDeactivated,
    /// An administrator has locked the account.
    #[error("This account has been locked")]
    UserLocked,
    /// An administrator has suspended the account.
    #[error("You cannot do this while your account is suspended")]
    UserSuspended,
    /// Guests may not do that.
    #[error("{0}")]
    GuestForbidden(String),
    /// The address belongs to an account already.
    #[error("This address belongs to another account")]
    ThirdPartyIdInUse,
    /// It was not shown that the address is theirs.
    #[error("{0}")]
    ThirdPartyIdAuthFailed(String),
    /// Addresses of this kind cannot be added here.
    #[error("{0}")]
    MediumNotSupported(String),
    /// The profile would grow too large.
    #[error("{0}")]
    ProfileTooLarge(String),
    /// The name of the profile field is too long.
    #[error("{0}")]
    KeyTooLarge(String),
    /// User unknown or password wrong: which of the two is not said.
    #[error("Invalid username or password")]
    WrongCredentials,
    /// This server does not know the room version.
    #[error("This server does not support room version {0}")]
    UnsupportedRoomVersion(RoomVersionId),
    /// The server of the user who wants to enter does not know the version of the room.
    #[error("The room has version {0}, which the server does not support")]
    IncompatibleRoomVersion(RoomVersionId),
    /// The policy server of the room does not sign the event.
    #[error("{}", .0.error)]
    NotRecommended(crate::PolicyRefusal),
    /// We cannot tell whether a restricted join is allowed; another server in the room might.
    #[error("This server cannot tell whether the join is allowed")]
    UnableToAuthoriseJoin,
    /// None of our users in the room could authorise the restricted join.
    #[error("This server has no user in the room who could let the user in")]
    UnableToGrantJoin,
    /// The alias does not point where it is said to.
    #[error("{0}")]
    BadAlias(String),
    /// The user has said so of the event already.
    #[error("You have reacted to the event in this way already")]
    DuplicateAnnotation,
    /// The event for which a thread is to be followed is not in it.
    #[error("The event is not in this thread")]
    NotInThread,
    /// The user stopped following the thread after the event for which it is to be followed.
    #[error("The user has unsubscribed from this thread since then")]
    ConflictingUnsubscription,
    /// What is asked for cannot be, for a reason that has no code of its own.
    #[error("{0}")]
    BadRequest(String),
    /// Not all members of the room are known yet.
    #[error("This server is still learning who is in the room; try again in a while")]
    MembersUnknown,
    /// The user does not want to be invited.
    #[error("The user does not accept this invitation")]
    InviteBlocked,
    /// The server speaks to the user in that room.
    #[error("You cannot leave the room in which the server speaks to you")]
    CannotLeaveServerNoticeRoom,
    /// The other server could not be reached, or answered with what makes no sense.
    #[error("{0}")]
    CannotFederate(String),
    /// The sender is not a user of this server.
    #[error("{0} is not a user of this server")]
    ForeignUser(OwnedUserId),
    /// The connection of a sliding sync is not known, or no longer.
    #[error("Unknown position; start anew")]
    UnknownPos,
    /// The medium is reserved, but not there yet.
    #[error("The medium is not uploaded yet")]
    NotYetUploaded,
    /// The medium is there, and media do not change.
    #[error("The medium is uploaded already")]
    CannotOverwriteMedia,
    /// What another server has is larger than we take.
    #[error("{0}")]
    RemoteTooLarge(String),
    /// An application service was asked whether something exists, and gave no answer.
    #[error("The application service that would know gives no answer; try again later")]
    SilentService,
    /// Too much in too short a time.
    #[error("Too many requests")]
    LimitExceeded {
        /// When to try again.
        retry_after_ms: u64,
    },
    /// The server is overloaded or stopping.
    #[error("The server is busy; try again")]
    Busy,
    /// Our own fault; the text is for the log.
    #[error("{0}")]
    Internal(String),
    /// The memory failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl EngineError {
    pub(crate) fn forbidden(text: impl Into<String>) -> Self {
        Self::Forbidden(text.into())
    }

    pub(crate) fn not_found(text: impl Into<String>) -> Self {
        Self::NotFound(text.into())
    }

    pub(crate) fn invalid_param(text: impl Into<String>) -> Self {
        Self::InvalidParam(text.into())
    }

    pub(crate) fn internal(text: impl std::fmt::Display) -> Self {
        Self::Internal(text.to_string())
    }
}

impl From<KeyError> for EngineError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::BadJson(text) => Self::BadJson(text),
            KeyError::InvalidParam(text) => Self::InvalidParam(text),
            KeyError::InvalidSignature(text) => Self::InvalidSignature(text),
            KeyError::MissingParam(text) => Self::MissingParam(text),
            KeyError::Forbidden(text) => Self::Forbidden(text),
            KeyError::NotFound(text) => Self::NotFound(text),
            KeyError::TooLarge(text) => Self::TooLarge(text),
            KeyError::WrongBackupVersion(version) => Self::WrongBackupVersion(version),
            KeyError::Storage(error) => Self::Storage(error),
            KeyError::Commit(error) => commit_error(error),
        }
    }
}

impl From<rules::event::BuildError> for EngineError {
    fn from(error: rules::event::BuildError) -> Self {
        use rules::event::{BuildError, ReadError};
        match error {
            BuildError::ForeignSender(user_id) => Self::ForeignUser(user_id),
            BuildError::Unfit(ReadError::Format(text)) if text.contains("bytes") => Self::TooLarge(text),
            BuildError::Unfit(error) => Self::BadJson(error.to_string()),
            BuildError::Sign(error) => Self::internal(error),
        }
    }
}
