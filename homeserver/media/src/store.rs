//! Where blobs lie: in a folder, or in object storage.

mod files;
mod s3;

use std::{fmt, io, ops::Range, path::PathBuf};

use futures_util::future::BoxFuture;

pub use self::{
    files::Files,
    s3::{S3, S3Options},
};
use crate::{BlobId, ByteStream, Spooled};

/// Keeps blobs. A blob is there as a whole or not at all, and is durable once it was put.
pub trait BlobStore: fmt::Debug + Send + Sync + 'static {
    /// Keeps a blob under the hash of its content. One that is there already stays.
    fn put(&self, blob: Spooled) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The bytes of a range that lies within the blob; [`StoreError::Lost`] when it is not there.
    fn read<'a>(&'a self, blob_id: &'a BlobId, range: Range<u64>) -> BoxFuture<'a, Result<ByteStream, StoreError>>;

    /// How large a blob is; `None` when it is not there.
    fn size<'a>(&'a self, blob_id: &'a BlobId) -> BoxFuture<'a, Result<Option<u64>, StoreError>>;

    /// Removes a blob, if it is there.
    fn delete<'a>(&'a self, blob_id: &'a BlobId) -> BoxFuture<'a, Result<(), StoreError>>;

    /// The file that a blob is, where it is one.
    fn file(&self, blob_id: &BlobId) -> Option<PathBuf>;
}

/// Why a blob cannot be kept, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The blob is not there, or not as long as it should be.
    #[error("{0} is missing or cut short")]
    Lost(BlobId),
    /// A file or folder.
    #[error("{path:?}: {error}")]
    Files {
        /// Which.
        path: PathBuf,
        /// What went wrong.
        #[source]
        error: io::Error,
    },
    /// The object storage.
    #[error("the object storage: {0}")]
    Object(#[from] object_store::Error),
}
