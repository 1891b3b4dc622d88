//! Finding a medium, here or where it comes from, and reading it.

use std::{ops::Range, time::Duration};

use media::{ByteStream, StoreError};
use ruma::{OwnedUserId, ServerName};
use storage::{MediaBlob, MediaRecord};

use super::{blob_id, check_place, no_such_medium, upload::store_error};
use crate::{Engine, EngineError, Result};

/// The longest that somebody may wait for a medium that is not uploaded yet.
const WAIT_MAX: Duration = Duration::from_mins(1);
/// How exactly it is known when a medium was last asked for: not each time is worth a commit.
const ACCESS_EXACT_MS: u64 = 60 * 60 * 1_000;

/// Who asks for a medium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaAsker {
    /// A user of this server.
    User(OwnedUserId),
    /// Somebody who may have what is here, but for whom nothing is fetched: another server.
    WithoutFetching,
    /// Nobody knows.
    Anybody,
}

/// A medium, ready to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Medium {
    /// The type that is claimed for it.
    pub content_type: Option<String>,
    /// The name that it was given.
    pub filename: Option<String>,
    pub(super) blob: MediaBlob,
}

/// The bytes of a part of a medium.
pub type MediaPart = ByteStream;

impl Medium {
    /// In bytes.
    pub fn size(&self) -> u64 {
        self.blob.size
    }

    /// What is the same only for the same content.
    pub fn hash(&self) -> &str {
        &self.blob.sha256
    }
}

impl Engine {
    /// Finds a medium. Whoever asks for one that is reserved waits for it for at most `timeout`.
    pub async fn medium(
        &self,
        asker: &MediaAsker,
        origin: &ServerName,
        media_id: &str,
        timeout: Duration,
    ) -> Result<Medium> {
        check_place(origin, media_id)?;
        let record = match asker {
            _ if !self.is_own(origin) => self.cached_medium(asker, origin, media_id, timeout.min(WAIT_MAX)).await?,
            // What is only reserved is no concern of those whom nobody knows.
            MediaAsker::Anybody => self.own_record(media_id).await?,
            MediaAsker::User(_) | MediaAsker::WithoutFetching => {
                self.uploaded_medium(media_id, timeout.min(WAIT_MAX)).await?
            }
        };
        if record.quarantined_by.is_some() || (*asker == MediaAsker::Anybody && !record.unauthenticated) {
            return Err(no_such_medium());
        }
        if let Err(error) = self.remember_access(&record).await {
            tracing::warn!(%error, "when a medium was last asked for could not be remembered");
        }
        let blob = record.blob.ok_or_else(no_such_medium)?;
        Ok(Medium { content_type: record.content_type, filename: record.filename, blob })
    }

    /// Reads a part of a medium, which lies within it. All of it is checked while it is read.
    pub async fn read_medium(&self, medium: &Medium, range: Range<u64>) -> Result<MediaPart> {
        let is_whole = range == (0..medium.size());
        match self.media_settings().store.read(&blob_id(&medium.blob.sha256)?, range).await {
            Ok(body) if is_whole => self.read_checked(medium, body),
            Ok(body) => Ok(body),
            Err(StoreError::Lost(_)) => {
                self.give_up_content(&medium.blob.sha256).await;
                Err(no_such_medium())
            }
            Err(error) => Err(store_error(error)),
        }
    }

    /// A medium of our own, perhaps only in a while.
    async fn uploaded_medium(&self, media_id: &str, timeout: Duration) -> Result<MediaRecord> {
        // Only the waiting is limited: what is there is found, however long that takes.
        let mut too_late = std::pin::pin!(tokio::time::sleep(timeout));
        loop {
            // Who listens before they look misses nothing.
            let mut uploaded = std::pin::pin!(self.repository().uploaded.notified());
            uploaded.as_mut().enable();
            let record = self.own_record(media_id).await?;
            if record.blob.is_some() {
                return Ok(record);
            }
            tokio::select! {
                () = uploaded => {}
                () = &mut too_late => return Err(EngineError::NotYetUploaded),
            }
        }
    }

    async fn own_record(&self, media_id: &str) -> Result<MediaRecord> {
        let record = self.storage().media(self.server_name(), media_id).await?.ok_or_else(no_such_medium)?;
        let expired = record.expires_ts.is_some_and(|expires_ts| expires_ts <= self.world().clock.now_ms());
        if expired { Err(no_such_medium()) } else { Ok(record) }
    }

    async fn cached_medium(
        &self,
        asker: &MediaAsker,
        origin: &ServerName,
        media_id: &str,
        timeout: Duration,
    ) -> Result<MediaRecord> {
        if let Some(record) = self.storage().media(origin, media_id).await? {
            return Ok(record);
        }
        match asker {
            MediaAsker::User(user_id) => self.fetch_medium(user_id, origin, media_id, timeout).await,
            MediaAsker::WithoutFetching | MediaAsker::Anybody => Err(no_such_medium()),
        }
    }

    async fn remember_access(&self, record: &MediaRecord) -> Result<()> {
        let now_ts = self.world().clock.now_ms();
        if now_ts.saturating_sub(record.accessed_ts) < ACCESS_EXACT_MS {
            return Ok(());
        }
        Ok(self.storage().touch_media(&record.origin, &record.media_id, now_ts).await?)
    }
}
