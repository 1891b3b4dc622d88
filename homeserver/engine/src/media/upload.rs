//! Uploading: the bytes into a file of their own, then to where contents lie, then the record.

use media::{ByteStream, ReceiveError, Spooled, StoreError};
use ruma::UserId;
use storage::{MediaBlob, NewMedia, StoredMedia};
use tokio::sync::OwnedMutexGuard;

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
        self.check_upload(user_id, command.announced_bytes).await?;
        let mut media = self.receive_upload(user_id, self.world().random_string(MEDIA_ID_LENGTH), command).await?;
        let (blob, _lock) = self.put_blob(media.1).await?;
        media.0.blob = blob;
        match self.storage().store_media(&media.0, self.media_settings().user_quota_bytes).await? {
            StoredMedia::Stored => Ok(media.0.media_id),
            StoredMedia::OverQuota => Err(over_quota()),
            StoredMedia::Taken | StoredMedia::NotReserved => Err(EngineError::internal("a random media id was taken")),
        }
    }

    pub(super) fn media_settings(&self) -> &super::MediaSettings {
        &self.settings().media
    }

    /// What can be refused before the first byte is read.
    pub(super) async fn check_upload(&self, user_id: &UserId, announced_bytes: Option<u64>) -> Result<()> {
        let settings = self.media_settings();
        let announced_bytes = announced_bytes.unwrap_or(0);
        if announced_bytes > settings.upload_max_bytes {
            return Err(too_large(settings.upload_max_bytes));
        }
        if let Some(quota) = settings.user_quota_bytes {
            let used = self.storage().media_usage(user_id).await?.size;
            if used.saturating_add(announced_bytes) > quota {
                return Err(over_quota());
            }
        }
        Ok(())
    }

    /// Takes the bytes in. The record that is returned with them has no content yet.
    pub(super) async fn receive_upload(
        &self,
        user_id: &UserId,
        media_id: String,
        command: UploadCommand,
    ) -> Result<(NewMedia, Spooled)> {
        let settings = self.media_settings();
        let spooled = settings.spool.receive(command.body, settings.upload_max_bytes).await.map_err(receive_error)?;
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
