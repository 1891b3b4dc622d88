//! Names for media that are uploaded later, so that a message with one can be sent before.

use ruma::UserId;
use storage::{MediaPlace, StoredMedia};

use super::{
    UploadCommand, check_place, no_such_medium, to_the_end,
    upload::{MEDIA_ID_LENGTH, over_quota},
};
use crate::{Engine, EngineError, Result};

/// How long a name is reserved: the specification's recommendation, for those whose connection comes and goes.
const RESERVED_MS: u64 = 24 * 60 * 60 * 1_000;
/// How many names one user may have reserved: an album of pictures.
const RESERVATIONS_MAX: u64 = 50;
/// When to try again, if there are as many.
const RETRY_AFTER_MS: u64 = 60_000;

impl Engine {
    /// Reserves a name, and returns it with the time until when it is reserved.
    pub async fn reserve_media(&self, user_id: &UserId) -> Result<(String, u64)> {
        self.check_upload(user_id, None).await?;
        let now_ts = self.world().clock.now_ms();
        let expires_ts = now_ts + RESERVED_MS;
        let media_id = self.world().random_string(MEDIA_ID_LENGTH);
        let place = MediaPlace { origin: self.server_name().to_owned(), media_id };
        let reserved = self.storage().reserve_media(&place, user_id, now_ts, expires_ts, RESERVATIONS_MAX).await?;
        if reserved {
            Ok((place.media_id, expires_ts))
        } else {
            Err(EngineError::LimitExceeded { retry_after_ms: RETRY_AFTER_MS })
        }
    }

    /// Keeps what a user uploads under a name that they have reserved.
    pub async fn upload_reserved_media(
        &self,
        user_id: &UserId,
        origin: &ruma::ServerName,
        media_id: &str,
        command: UploadCommand,
    ) -> Result<()> {
        check_place(origin, media_id)?;
        if !self.is_own(origin) {
            return Err(no_such_medium());
        }
        self.check_reservation(user_id, media_id).await?;
        let room_bytes = self.check_upload(user_id, command.announced_bytes).await?;
        let (media, spooled) = self.receive_upload(user_id, media_id.to_owned(), command, room_bytes).await?;
        let engine = self.clone();
        let keeping = async move {
            let stored = engine.keep_upload(media, spooled, true).await;
            engine.repository().uploaded.notify_waiters();
            stored
        };
        match to_the_end(keeping).await? {
            StoredMedia::Stored => Ok(()),
            StoredMedia::OverQuota => Err(over_quota()),
            // It was there a moment ago: somebody was faster, or it took too long.
            StoredMedia::Taken | StoredMedia::NotReserved => Err(EngineError::CannotOverwriteMedia),
        }
    }

    async fn check_reservation(&self, user_id: &UserId, media_id: &str) -> Result<()> {
        let record = self.storage().media(self.server_name(), media_id).await?.ok_or_else(no_such_medium)?;
        if record.uploader.as_deref() != Some(user_id) {
            return Err(EngineError::forbidden("Somebody else has reserved this"));
        }
        if record.blob.is_some() {
            return Err(EngineError::CannotOverwriteMedia);
        }
        let now_ts = self.world().clock.now_ms();
        if record.expires_ts.is_none_or(|expires_ts| expires_ts <= now_ts) { Err(no_such_medium()) } else { Ok(()) }
    }
}
