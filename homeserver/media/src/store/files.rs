//! Blobs as files, in folders named after the first two bytes of their hashes.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, stream};

use super::{BlobStore, StoreError};
use crate::{BlobId, ByteStream, Spooled, spool::blocking};

/// How much is read at a time.
const READ_BYTES: u64 = 128 * 1024;

/// Errors of folders in which nothing can have been made.
const CANNOT_HAVE_CHANGED: [io::ErrorKind; 3] =
    [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::InvalidInput];

/// Blobs in a folder.
#[derive(Debug)]
pub struct Files {
    folder: PathBuf,
    /// That the folder itself is certain to be found again.
    made: Arc<OnceLock<()>>,
}

impl Files {
    /// Blobs in a folder, which is made when it is needed. What is put there must come from the same file system.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, made: Arc::default() }
    }

    fn path(&self, blob_id: &BlobId) -> PathBuf {
        let name = blob_id.as_str();
        self.folder.join(&name[..2]).join(&name[2..4]).join(name)
    }
}

impl BlobStore for Files {
    fn put(&self, blob: Spooled) -> BoxFuture<'_, Result<(), StoreError>> {
        let path = self.path(&blob.blob_id);
        Box::pin(async move {
            let (to, folder, made) = (path.clone(), self.folder.clone(), Arc::clone(&self.made));
            let putting = blocking(move || {
                if made.get().is_none() {
                    make_durably(&folder)?;
                    let _ = made.set(());
                }
                place(blob, &to)
            });
            putting.await.map_err(|error| StoreError::Files { path, error })
        })
    }

    fn read<'a>(&'a self, blob_id: &'a BlobId, range: Range<u64>) -> BoxFuture<'a, Result<ByteStream, StoreError>> {
        let path = self.path(blob_id);
        Box::pin(async move {
            let (from, folder) = (path.clone(), self.folder.clone());
            let opened = blocking(move || open(&from, &folder, &range));
            let opened = opened.await.map_err(|error| StoreError::Files { path, error })?;
            let opened = opened.ok_or_else(|| StoreError::Lost(blob_id.clone()))?;
            Ok(stream::try_unfold(opened, |reading| blocking(move || read_piece(reading))).boxed())
        })
    }

    fn size<'a>(&'a self, blob_id: &'a BlobId) -> BoxFuture<'a, Result<Option<u64>, StoreError>> {
        let path = self.path(blob_id);
        Box::pin(async move {
            let of = path.clone();
            let size = blocking(move || match fs::metadata(of) {
                Ok(metadata) => Ok(Some(metadata.len())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            });
            size.await.map_err(|error| StoreError::Files { path, error })
        })
    }

    fn delete<'a>(&'a self, blob_id: &'a BlobId) -> BoxFuture<'a, Result<(), StoreError>> {
        let path = self.path(blob_id);
        Box::pin(async move {
            let gone = path.clone();
            let removed = blocking(move || match fs::remove_file(gone) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            });
            removed.await.map_err(|error| StoreError::Files { path, error })
        })
    }

    fn file(&self, blob_id: &BlobId) -> Option<PathBuf> {
        Some(self.path(blob_id))
    }
}

/// Makes a folder, and has every folder above it remember the next one.
fn make_durably(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for above in folder.canonicalize()?.ancestors().skip(1) {
        match File::open(above).and_then(|above| above.sync_all()) {
            // In what cannot be opened, or not be written to, nothing was made.
            Err(error) if CANNOT_HAVE_CHANGED.contains(&error.kind()) => {}
            done => done?,
        }
    }
    Ok(())
}

/// Moves a flushed file to its place, and makes the move durable. That the file is there already does not say that
/// somebody has done the latter: they may have been killed in between.
fn place(blob: Spooled, path: &Path) -> io::Result<()> {
    let inner = path.parent().unwrap_or(path);
    let outer = inner.parent().unwrap_or(inner);
    fs::create_dir_all(inner)?;
    if !fs::metadata(path).is_ok_and(|there| there.len() == blob.size) {
        blob.move_to(path)?;
    }
    let root = outer.parent().unwrap_or(outer);
    for folder in [inner, outer, root] {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

type Reading = (File, u64);

/// A file from where it is to be read, and how much of it; `None` when it is not there, or too short. When the folder of all
/// is not there, that says nothing about one file.
fn open(path: &Path, folder: &Path, range: &Range<u64>) -> io::Result<Option<Reading>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && folder.exists() => return Ok(None),
        file => file?,
    };
    if file.metadata()?.len() < range.end {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(range.start))?;
    Ok(Some((file, range.end.saturating_sub(range.start))))
}

fn read_piece((mut file, left): Reading) -> io::Result<Option<(Bytes, Reading)>> {
    if left == 0 {
        return Ok(None);
    }
    let mut piece = vec![0; left.min(READ_BYTES) as usize];
    file.read_exact(&mut piece)?;
    let left = left - piece.len() as u64;
    Ok(Some((piece.into(), (file, left))))
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;
    use crate::Spool;

    #[tokio::test]
    async fn a_blob_is_kept_once_read_in_parts_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (spool, store) = (Spool::new(folder.path().join("incoming")), Files::new(folder.path().join("blobs")));
        let content: Vec<u8> = (0..300_000_u32).map(|number| number as u8).collect();
        let mut blob_id = None;
        for _ in 0..2 {
            let body = stream::iter([Ok(Bytes::from(content.clone()))]).boxed();
            let blob = spool.receive(body, 1 << 20).await.unwrap();
            blob_id = Some(blob.blob_id.clone());
            store.put(blob).await.unwrap();
        }
        let blob_id = blob_id.unwrap();
        assert_eq!(store.size(&blob_id).await.unwrap(), Some(300_000));
        let read = |range: Range<u64>| {
            let (store, blob_id) = (&store, &blob_id);
            async move { store.read(blob_id, range).await.unwrap().try_collect::<Vec<Bytes>>().await.unwrap().concat() }
        };
        assert_eq!(read(0..300_000).await, content);
        assert_eq!(read(131_000..131_100).await, content[131_000..131_100]);
        assert_eq!(read(5..5).await, b"");
        assert_eq!(fs::read_dir(folder.path().join("incoming")).unwrap().count(), 0);
        store.delete(&blob_id).await.unwrap();
        store.delete(&blob_id).await.unwrap();
        assert_eq!(store.size(&blob_id).await.unwrap(), None);
        assert!(store.read(&blob_id, 0..1).await.is_err());
    }
}
