//! Smaller images of images. Decoding is what hostile files aim at, so that the format is told by the first bytes, the
//! size is read before anything is decoded, few work at a time, each on a thread of its own, and whoever waits gives up
//! after a while.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#thumbnails>

mod animated;
mod make;
mod sizes;

use std::{io, path::PathBuf, sync::Arc, thread::available_parallelism, time::Duration};

use bytes::Bytes;
use tokio::sync::Semaphore;

pub use self::sizes::{Method, Size};

/// How long making a thumbnail may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long somebody waits until those who came before are done.
const WAITING_MAX: Duration = Duration::from_secs(30);

/// What is wanted: one of the sizes that are made, see [`Size::listed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// How large.
    pub size: Size,
    /// Whether it may move.
    pub animated: bool,
}

/// What came of it.
#[derive(Clone, Debug)]
pub enum Made {
    /// The image is no larger than what is wanted: it is its own thumbnail.
    Original {
        /// The type that its first bytes tell.
        content_type: &'static str,
    },
    /// A thumbnail.
    Smaller {
        /// The type.
        content_type: &'static str,
        /// The file.
        bytes: Bytes,
    },
}

/// What an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The type that its first bytes tell.
    pub content_type: &'static str,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
}

/// Why there is no thumbnail.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ThumbnailError {
    /// It is nothing that thumbnails are made of.
    #[error("thumbnails are made of PNG, JPEG, GIF and WebP images only")]
    NotAnImage,
    /// It has too many pixels, or bytes.
    #[error("the image is too large for a thumbnail")]
    TooLarge,
    /// It is broken.
    #[error("the image is broken")]
    Broken,
    /// It took too long, or so did what came before it. That says nothing of the image.
    #[error("the thumbnail was not made in time")]
    TooSlow,
    /// It could not be read.
    #[error("cannot read the image: {0}")]
    Unreadable(Arc<io::Error>),
}

/// Makes thumbnails. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Thumbnailer {
    places: Arc<Semaphore>,
}

impl Default for Thumbnailer {
    fn default() -> Self {
        let places = available_parallelism().map_or(1, |cores| cores.get() / 2).clamp(1, 4);
        Self { places: Arc::new(Semaphore::new(places)) }
    }
}

impl Thumbnailer {
    /// Looks what the image in a file is, without decoding it.
    pub async fn look(&self, file: PathBuf) -> Result<Seen, ThumbnailError> {
        self.work(move || make::look(&file)).await
    }

    /// Makes a thumbnail of the image in a file.
    pub async fn make(&self, file: PathBuf, wanted: Wanted) -> Result<Made, ThumbnailError> {
        let made = self.work(move || make::make(&file, wanted)).await;
        let outcome = if made.is_ok() { "made" } else { "failed" };
        metrics::counter!("media_thumbnails_total", "outcome" => outcome).increment(1);
        made
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ThumbnailError> + Send + 'static,
    ) -> Result<T, ThumbnailError> {
        let waiting = tokio::time::timeout(WAITING_MAX, Arc::clone(&self.places).acquire_owned());
        let place = waiting.await.map_err(|_| ThumbnailError::TooSlow)?.expect("the semaphore is never closed");
        let work = move || {
            // Who decodes cannot be stopped, so that its place is taken until it is done, whoever has given up.
            let _place = place;
            work()
        };
        let working = tokio::time::timeout(DEADLINE, tokio::task::spawn_blocking(work));
        working.await.map_err(|_| ThumbnailError::TooSlow)?.unwrap_or(Err(ThumbnailError::Broken))
    }
}

#[cfg(test)]
mod tests;
