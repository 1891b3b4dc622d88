//! What an administrator does about media. Who may is for the caller to have asked.

use ruma::{ServerName, UserId};
use storage::{MediaRecord, MediaUsage};

use super::no_such_medium;
use crate::{Engine, Result};

/// How many media of a user are looked at in one go.
const BATCH: usize = 200;

impl Engine {
    /// Keeps a medium from being served to anybody, and its content under whatever name it comes again.
    pub async fn quarantine_medium(&self, by: &UserId, origin: &ServerName, media_id: &str) -> Result<()> {
        let now_ts = self.world().clock.now_ms();
        let found = self.storage().quarantine_media(origin, media_id, by, now_ts).await?;
        found.then_some(()).ok_or_else(no_such_medium)
    }

    /// Serves a medium again, and its content.
    pub async fn release_medium(&self, origin: &ServerName, media_id: &str) -> Result<()> {
        let found = self.storage().release_media(origin, media_id).await?;
        found.then_some(()).ok_or_else(no_such_medium)
    }

    /// Has a medium stay when all of a user's are quarantined, or no longer.
    pub async fn protect_medium(&self, origin: &ServerName, media_id: &str, protected: bool) -> Result<()> {
        let found = self.storage().protect_media(origin, media_id, protected).await?;
        found.then_some(()).ok_or_else(no_such_medium)
    }

    /// Quarantines all that a user has uploaded, but for what is protected, and returns how many.
    pub async fn quarantine_media_of(&self, by: &UserId, user_id: &UserId) -> Result<u64> {
        let (mut from, mut count) = (0, 0);
        loop {
            let media = self.storage().media_of(user_id, from, BATCH).await?;
            if media.is_empty() {
                return Ok(count);
            }
            from += media.len() as u64;
            for medium in media.iter().filter(|medium| !medium.protected) {
                self.quarantine_medium(by, &medium.origin, &medium.media_id).await?;
                count += 1;
            }
        }
    }

    /// Deletes all that a user has uploaded for good, but for what is protected, and returns how many.
    pub async fn delete_media_of(&self, user_id: &UserId) -> Result<u64> {
        let (mut kept, mut count) = (0, 0);
        loop {
            let media = self.storage().media_of(user_id, kept, BATCH).await?;
            if media.is_empty() {
                return Ok(count);
            }
            for medium in media {
                if !medium.protected && self.remove_medium(&medium.origin, &medium.media_id).await? {
                    count += 1;
                } else {
                    kept += 1;
                }
            }
        }
    }

    /// Deletes a medium for good, or what is kept of another server's.
    pub async fn delete_medium(&self, origin: &ServerName, media_id: &str) -> Result<()> {
        self.remove_medium(origin, media_id).await?.then_some(()).ok_or_else(no_such_medium)
    }

    /// What is known of a medium.
    pub async fn medium_record(&self, origin: &ServerName, media_id: &str) -> Result<MediaRecord> {
        self.storage().media(origin, media_id).await?.ok_or_else(no_such_medium)
    }

    /// What a user has uploaded, the latest first, after so many; and how much it is altogether.
    pub async fn media_of(&self, user_id: &UserId, from: u64, limit: usize) -> Result<(Vec<MediaRecord>, MediaUsage)> {
        Ok((self.storage().media_of(user_id, from, limit).await?, self.storage().media_usage(user_id).await?))
    }
}
