//! Thumbnails: made when somebody asks for one, once, and kept.

use std::{io, path::PathBuf, time::Duration};

use media::{
    Spooled,
    thumbnail::{Made, Method, Size, ThumbnailError, Wanted},
};
use ruma::ServerName;
use storage::{ThumbnailKey, ThumbnailRecord};

use super::{MediaAsker, Medium, blob_id, no_such_medium, to_the_end, upload::receive_error};
use crate::{Engine, EngineError, Result};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThumbnailCommand {
    /// In pixels.
    pub width: u64,
    /// In pixels.
    pub height: u64,
    /// Whether it is to have exactly that shape.
    pub crop: bool,
    /// Whether it may move.
    pub animated: bool,
}

/// Why there is no thumbnail of a content. It is remembered for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    TooLarge,
    NotAnImage,
    Broken,
}

impl Engine {
    /// Finds a thumbnail of a medium, or makes it.
    pub async fn media_thumbnail(
        &self,
        asker: &MediaAsker,
        origin: &ServerName,
        media_id: &str,
        timeout: Duration,
        command: ThumbnailCommand,
    ) -> Result<Medium> {
        let method = if command.crop { Method::Crop } else { Method::Scale };
        let size = Size::listed(command.width, command.height, method)
            .ok_or_else(|| EngineError::invalid_param("Width and height must be larger than 0"))?;
        let medium = self.medium(asker, origin, media_id, timeout).await?;
        let wanted = Wanted { size, animated: command.animated };
        let key = thumbnail_key(&medium, wanted);
        if let Some(thumbnail) = self.storage().thumbnail(&key).await? {
            return Ok(served(thumbnail));
        }
        let made = match self.repository().failed_thumbnails.get(&key.source) {
            Some(failure) => Err(failure),
            None => self.make_thumbnail(&medium, wanted, &key).await?,
        };
        made.map(served).map_err(|failure| self.refusal(origin, failure))
    }

    async fn make_thumbnail(
        &self,
        medium: &Medium,
        wanted: Wanted,
        key: &ThumbnailKey,
    ) -> Result<Result<ThumbnailRecord, Failure>> {
        let _one = self.repository().locks.lock(&format!("thumbnail {}", key.source)).await;
        if let Some(thumbnail) = self.storage().thumbnail(key).await? {
            return Ok(Ok(thumbnail));
        }
        let (file, _copy) = self.as_file(medium).await?;
        let failure = match self.repository().thumbnailer.make(file, wanted).await {
            Ok(made) => {
                let (engine, medium, key) = (self.clone(), medium.clone(), key.clone());
                let keeping = async move { engine.keep_thumbnail(&medium, made, &key).await };
                return to_the_end(keeping).await.map(Ok);
            }
            Err(ThumbnailError::Unreadable(error)) if error.kind() == io::ErrorKind::NotFound => {
                self.give_up_content(&medium.blob.sha256).await;
                return Err(no_such_medium());
            }
            Err(ThumbnailError::Unreadable(error)) => return Err(EngineError::internal(error)),
            Err(ThumbnailError::TooLarge) => Failure::TooLarge,
            Err(ThumbnailError::NotAnImage) => Failure::NotAnImage,
            Err(ThumbnailError::Broken) => Failure::Broken,
            // That may be the fault of a busy moment: the next one to ask may try again.
            Err(ThumbnailError::TooSlow) => return Err(EngineError::Busy),
        };
        self.repository().failed_thumbnails.insert(key.source.clone(), failure);
        Ok(Err(failure))
    }

    /// The medium as a file, and what has to live as long as that.
    async fn as_file(&self, medium: &Medium) -> Result<(PathBuf, Option<Spooled>)> {
        let settings = self.media_settings();
        if let Some(file) = settings.store.file(&blob_id(&medium.blob.sha256)?) {
            return Ok((file, None));
        }
        let body = self.read_medium(medium, 0..medium.size()).await?;
        let copy = settings.spool.receive(body, medium.size()).await.map_err(receive_error)?;
        Ok((copy.path().to_owned(), Some(copy)))
    }

    async fn keep_thumbnail(&self, medium: &Medium, made: Made, key: &ThumbnailKey) -> Result<ThumbnailRecord> {
        let (content_type, blob, _lock) = match made {
            Made::Original { content_type } => (content_type, medium.blob.clone(), None),
            Made::Smaller { content_type, bytes } => {
                let size = bytes.len() as u64;
                let body = Box::pin(futures_util::stream::once(async { Ok(bytes) }));
                let spooled = self.media_settings().spool.receive(body, size).await.map_err(receive_error)?;
                let (blob, lock) = self.put_blob(spooled).await?;
                (content_type, blob, Some(lock))
            }
        };
        let thumbnail = ThumbnailRecord { blob, content_type: content_type.to_owned() };
        self.storage().store_thumbnail(key, &thumbnail).await?;
        Ok(thumbnail)
    }

    fn refusal(&self, origin: &ServerName, failure: Failure) -> EngineError {
        let text = match failure {
            Failure::TooLarge => ThumbnailError::TooLarge,
            Failure::NotAnImage => ThumbnailError::NotAnImage,
            Failure::Broken => ThumbnailError::Broken,
        };
        match failure {
            Failure::TooLarge if self.is_own(origin) => EngineError::TooLarge(text.to_string()),
            Failure::TooLarge => EngineError::RemoteTooLarge(text.to_string()),
            Failure::NotAnImage | Failure::Broken => EngineError::BadRequest(text.to_string()),
        }
    }
}

fn thumbnail_key(medium: &Medium, wanted: Wanted) -> ThumbnailKey {
    let Size { width, height, method } = wanted.size;
    ThumbnailKey {
        source: medium.blob.sha256.clone(),
        width,
        height,
        method: method.as_str(),
        animated: wanted.animated,
    }
}

fn served(thumbnail: ThumbnailRecord) -> Medium {
    Medium { content_type: Some(thumbnail.content_type), filename: None, blob: thumbnail.blob }
}
