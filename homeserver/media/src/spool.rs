//! Where bytes go while they arrive: into a file of their own, hashed on the way, under a limit.
//!
//! Hashing and writing happen on the threads for blocking work, a few at a time, so that many uploads at once take
//! neither the processors nor the disk from everything else. The file is flushed every few megabytes: what lies unwritten
//! in the page cache would have to be written by the next commit of the database.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::available_parallelism,
};

use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::{BlobId, ByteStream};

/// How much of a body is collected before it is written. So much memory is taken by each that is arriving.
const CHUNK_BYTES: usize = 256 * 1024;
/// How much may lie unwritten in the page cache.
const FLUSH_EVERY_BYTES: u64 = 8 * 1024 * 1024;

/// The folder of what is arriving. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Spool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    counter: AtomicU64,
    /// Places for writing.
    writers: Semaphore,
}

/// Why something did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// There is more of it than the limit.
    #[error("larger than {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// The other end broke off.
    #[error("broke off: {0}")]
    BrokenOff(#[source] io::Error),
    /// It could not be written.
    #[error("cannot write to {path:?}: {error}")]
    Disk {
        /// Where to.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
}

/// What has arrived: a whole file, on the disk. It is removed when this is dropped.
#[derive(Debug)]
pub struct Spooled {
    file: TemporaryFile,
    /// The hash of its content.
    pub blob_id: BlobId,
    /// Its length in bytes.
    pub size: u64,
}

impl Spooled {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.file.0
    }

    /// Moves it to another place of the same file system.
    pub(crate) fn move_to(self, path: &Path) -> io::Result<()> {
        fs::rename(&self.file.0, path)
    }
}

#[derive(Debug)]
struct TemporaryFile(PathBuf);

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // It is not there any more when it was moved to where it belongs.
        let _ = fs::remove_file(&self.0);
    }
}

impl Spool {
    /// What arrives goes into this folder, which is made when it is needed.
    pub fn new(folder: PathBuf) -> Self {
        let places = available_parallelism().map_or(1, |cores| cores.get() / 2).clamp(1, 8);
        Self { inner: Arc::new(Inner { folder, counter: AtomicU64::new(0), writers: Semaphore::new(places) }) }
    }

    /// Removes what an earlier process left unfinished. Not to be called while one uses the folder.
    pub fn clear(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.inner.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes in a body of at most `limit_bytes`.
    pub async fn receive(&self, mut body: ByteStream, limit_bytes: u64) -> Result<Spooled, ReceiveError> {
        let mut writing = self.create().await?;
        let mut buffer = Vec::with_capacity(CHUNK_BYTES);
        let mut size = 0;
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(ReceiveError::BrokenOff)?;
            size += piece.len() as u64;
            if size > limit_bytes {
                return Err(ReceiveError::TooLarge { limit_bytes });
            }
            for part in piece.chunks(CHUNK_BYTES) {
                if buffer.len() + part.len() > CHUNK_BYTES {
                    (writing, buffer) = self.write(writing, buffer, false).await?;
                }
                buffer.extend_from_slice(part);
            }
        }
        let (writing, _) = self.write(writing, buffer, true).await?;
        let blob_id = BlobId::from_digest(&writing.hash.finalize());
        Ok(Spooled { file: writing.path, blob_id, size })
    }

    async fn create(&self) -> Result<Writing, ReceiveError> {
        let number = self.inner.counter.fetch_add(1, Ordering::Relaxed);
        let path = self.inner.folder.join(format!("{}-{number}", std::process::id()));
        let folder = self.inner.folder.clone();
        let named = path.clone();
        let created = blocking(move || {
            fs::create_dir_all(folder)?;
            File::options().write(true).create_new(true).open(&named)
        });
        let file = created.await.map_err(|error| ReceiveError::Disk { path: path.clone(), error })?;
        Ok(Writing { path: TemporaryFile(path), file, hash: Sha256::new(), unflushed: 0 })
    }

    /// Writes what was collected, and gives the buffer back.
    async fn write(
        &self,
        mut writing: Writing,
        mut buffer: Vec<u8>,
        last: bool,
    ) -> Result<(Writing, Vec<u8>), ReceiveError> {
        let _place = self.inner.writers.acquire().await.expect("the semaphore is never closed");
        let path = writing.path.0.clone();
        let written = blocking(move || {
            writing.hash.update(&buffer);
            writing.file.write_all(&buffer)?;
            writing.unflushed += buffer.len() as u64;
            if last {
                writing.file.sync_all()?;
            } else if writing.unflushed >= FLUSH_EVERY_BYTES {
                writing.file.sync_data()?;
                writing.unflushed = 0;
            }
            buffer.clear();
            Ok((writing, buffer))
        });
        written.await.map_err(|error| ReceiveError::Disk { path, error })
    }
}

/// A file that is being written.
struct Writing {
    path: TemporaryFile,
    file: File,
    hash: Sha256,
    unflushed: u64,
}

/// Runs what blocks where it may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::{StreamExt, stream};

    use super::*;

    fn body(pieces: Vec<io::Result<Bytes>>) -> ByteStream {
        stream::iter(pieces).boxed()
    }

    fn files_in(folder: &Path) -> usize {
        fs::read_dir(folder).map_or(0, Iterator::count)
    }

    #[tokio::test]
    async fn what_arrives_is_hashed_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::new(folder.path().to_owned());
        let large = Bytes::from(vec![7; 600 * 1024]);
        let spooled = spool.receive(body(vec![Ok(large.clone()), Ok(Bytes::from_static(b"end"))]), 1 << 20).await;
        let spooled = spooled.unwrap();
        assert_eq!(spooled.size, 600 * 1024 + 3);
        let content = fs::read(spooled.path()).unwrap();
        assert_eq!(content.len() as u64, spooled.size);
        assert_eq!(spooled.blob_id, BlobId::from_digest(&Sha256::digest(&content)));
        drop(spooled);
        assert_eq!(files_in(folder.path()), 0, "what nobody keeps is removed");
    }

    #[tokio::test]
    async fn s_146_over_the_limit_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::new(folder.path().to_owned());
        let endless = stream::repeat_with(|| Ok(Bytes::from(vec![0; 64 * 1024]))).boxed();
        let refused = spool.receive(endless, 1 << 20).await;
        assert!(matches!(refused, Err(ReceiveError::TooLarge { limit_bytes: 1_048_576 })));
        let broken = spool.receive(body(vec![Ok(Bytes::from_static(b"a")), Err(io::Error::other("gone"))]), 10).await;
        assert!(matches!(broken, Err(ReceiveError::BrokenOff(_))));
        assert_eq!(files_in(folder.path()), 0);
    }
}
