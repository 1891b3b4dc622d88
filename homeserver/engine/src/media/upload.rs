//! Uploading: the bytes into a file of their own, then to where contents lie, then the record.

use media::{ByteStream, ReceiveError, Spooled, StoreError};
use ruma::UserId;
use storage::{MediaBlob, NewMedia, StoredMedia};
use tokio::sync::OwnedMutexGuard;

use super::to_the_end;
use crate::{Engine, EngineError, Result};

/// So many characters cannot be guessed.
pub(super) const MEDIA_ID_LENGTH: usize = 24;

/// What is uploaded.
pub struct UploadCommand {
    /// The type that is claimed.
    pub content_type: Option<String>,
    /// The name that it was given.
    pub filename: Option<String>,
    /// How long it is said to be, if it is said.
    pub announced_bytes: Option<u64>,
    /// The bytes.
    pub body: ByteStream,
}

impl Engine {
    /// Keeps what a user uploads, and returns the id that it is given.
    pub async fn upload_media(&self, user_id: &UserId, command: UploadCommand) -> Result<String> {
        let room_bytes = self.check_upload(user_id, command.announced_bytes).await?;
        let media_id = self.world().random_string(MEDIA_ID_LENGTH);
        let (media, spooled) = self.receive_upload(user_id, media_id.clone(), command, room_bytes).await?;
        let engine = self.clone();
        match to_the_end(async move { engine.keep_upload(media, spooled, false).await }).await? {
            StoredMedia::Stored => Ok(media_id),
            StoredMedia::OverQuota => Err(over_quota()),
            StoredMedia::Taken | StoredMedia::NotReserved => Err(EngineError::internal("a random media id was taken")),
        }
    }

    /// Keeps what was received, under a name that was reserved or a new one.
    pub(super) async fn keep_upload(
        &self,
        mut media: NewMedia,
        spooled: Spooled,
        is_reserved: bool,
    ) -> Result<StoredMedia> {
        let (blob, lock) = self.put_blob(spooled).await?;
        media.blob = blob;
        let quota_bytes = self.media_settings().user_quota_bytes;
        let stored = if is_reserved {
            self.storage().complete_media(&media, quota_bytes).await?
        } else {
            self.storage().store_media(&media, quota_bytes).await?
        };
        drop(lock);
        if stored != StoredMedia::Stored
            && let Err(error) = self.remove_blob(&media.blob.sha256).await
        {
            tracing::warn!(%error, "what an upload has left is not removed yet; trying again later");
        }
        Ok(stored)
    }

    pub(super) fn media_settings(&self) -> &super::MediaSettings {
        &self.settings().media
    }

    /// What can be refused before the first byte is read. Returns how much may come.
    pub(super) async fn check_upload(&self, user_id: &UserId, announced_bytes: Option<u64>) -> Result<u64> {
        let settings = self.media_settings();
        let announced_bytes = announced_bytes.unwrap_or(0);
        if announced_bytes > settings.upload_max_bytes {
            return Err(too_large(settings.upload_max_bytes));
        }
        let Some(quota) = settings.user_quota_bytes else { return Ok(settings.upload_max_bytes) };
        let used = self.storage().media_usage(user_id).await?.size;
        if used.saturating_add(announced_bytes) > quota {
            return Err(over_quota());
        }
        Ok(settings.upload_max_bytes.min(quota - used))
    }

    /// Takes the bytes in, as many as there is room for. The record that is returned with them has no content yet.
    pub(super) async fn receive_upload(
        &self,
        user_id: &UserId,
        media_id: String,
        command: UploadCommand,
        room_bytes: u64,
    ) -> Result<(NewMedia, Spooled)> {
        let settings = self.media_settings();
        let spooled = match settings.spool.receive(command.body, room_bytes).await {
            Err(ReceiveError::TooLarge { .. }) if room_bytes < settings.upload_max_bytes => return Err(over_quota()),
            received => received.map_err(receive_error)?,
        };
        let media = NewMedia {
            origin: self.server_name().to_owned(),
            media_id,
            blob: MediaBlob { sha256: String::new(), size: 0 },
            content_type: command.content_type,
            filename: command.filename,
            uploader: Some(user_id.to_owned()),
            preview: false,
            unauthenticated: settings.unauthenticated_access,
            created_ts: self.world().clock.now_ms(),
        };
        Ok((media, spooled))
    }

    /// Puts a content where contents lie. As long as the lock is held, nobody removes it for want of a record.
    pub(super) async fn put_blob(&self, spooled: Spooled) -> Result<(MediaBlob, OwnedMutexGuard<()>)> {
        let blob = MediaBlob { sha256: spooled.blob_id.to_string(), size: spooled.size };
        let lock = self.lock_blob(&blob.sha256).await;
        self.storage().announce_blob(&blob, self.world().clock.now_ms()).await?;
        self.media_settings().store.put(spooled).await.map_err(store_error)?;
        Ok((blob, lock))
    }
}

pub(super) fn receive_error(error: ReceiveError) -> EngineError {
    match error {
        ReceiveError::TooLarge { limit_bytes } => too_large(limit_bytes),
        ReceiveError::BrokenOff(_) => EngineError::BadRequest("The upload broke off".to_owned()),
        error @ ReceiveError::Disk { .. } => EngineError::internal(error),
    }
}

pub(super) fn store_error(error: StoreError) -> EngineError {
    EngineError::internal(error)
}

pub(super) fn over_quota() -> EngineError {
    EngineError::forbidden("You have uploaded as much as you may")
}

fn too_large(limit_bytes: u64) -> EngineError {
    EngineError::TooLarge(format!("An upload may have at most {limit_bytes} bytes"))
}
