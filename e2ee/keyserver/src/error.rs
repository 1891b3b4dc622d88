//! Why the key server did not do something.

use storage::{CommitError, StorageError};

/// The result of an action.
pub type Result<T, E = KeyError> = std::result::Result<T, E>;

/// Why something was not done. The texts may be shown to clients, but for the last two.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Keys of the wrong shape.
    #[error("{0}")]
    BadJson(String),
    /// A value that makes no sense here.
    #[error("{0}")]
    InvalidParam(String),
    /// A signature that is missing or does not fit.
    #[error("{0}")]
    InvalidSignature(String),
    /// A value is missing.
    #[error("{0}")]
    MissingParam(String),
    /// Not allowed.
    #[error("{0}")]
    Forbidden(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// Larger than allowed.
    #[error("{0}")]
    TooLarge(String),
    /// The backup's version is not the current one, which is this.
    #[error("Wrong backup version; the current one is {0}")]
    WrongBackupVersion(String),
    /// The memory failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The changes could not be made.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl KeyError {
    pub(crate) fn bad_json(text: impl Into<String>) -> Self {
        Self::BadJson(text.into())
    }
}
