//! How long media are kept, and how what nobody needs any more is removed.

use storage::MediaPlace;

use super::{blob_id, to_the_end, upload::store_error};
use crate::{Engine, EngineError, Result};

/// How many are looked at in one go.
const BATCH: usize = 200;
/// How many goes one round has: the next one goes on.
const BATCHES_MAX: usize = 500;
/// A content that nothing was made of within this time was left over by a crash, or a client that went away.
const ORPHAN_AFTER_MS: u64 = 60 * 60 * 1_000;

impl Engine {
    /// Removes what an earlier process has left of uploads that were not finished. To be called before anybody uploads.
    pub fn discard_unfinished_uploads(&self) -> Result<()> {
        self.media_settings().spool.clear().map_err(EngineError::internal)
    }

    /// One round of removing what has been kept for long enough. Returns how many media and contents were removed.
    pub(crate) async fn keep_media(&self) -> Result<u64> {
        let now_ts = self.world().clock.now_ms();
        let settings = self.media_settings();
        let mut removed = self.storage().expire_reservations(now_ts).await?;
        if let Some(kept_ms) = settings.cache_kept_ms {
            removed += self.remove_stale(now_ts.saturating_sub(kept_ms), false).await?;
        }
        if let Some(kept_ms) = settings.uploads_kept_ms {
            removed += self.remove_stale(now_ts.saturating_sub(kept_ms), true).await?;
        }
        removed += self.shrink_media_cache().await?;
        removed += self.remove_orphans(now_ts.saturating_sub(ORPHAN_AFTER_MS)).await?;
        Ok(removed)
    }

    /// Removes all that can be fetched again and that nobody asked for since a time, in milliseconds since the epoch.
    /// Returns how many.
    pub async fn purge_media_cache(&self, before_ts: u64) -> Result<u64> {
        self.remove_stale(before_ts, false).await
    }

    async fn remove_stale(&self, before_ts: u64, uploads: bool) -> Result<u64> {
        let mut removed = 0;
        for _ in 0..BATCHES_MAX {
            let places = if uploads {
                self.storage().stale_local_media(before_ts, BATCH).await?
            } else {
                self.storage().stale_cached_media(before_ts, BATCH).await?
            };
            if places.is_empty() {
                break;
            }
            removed += self.remove_all(&places).await?;
        }
        Ok(removed)
    }

    /// Removes what was not asked for for the longest time, until the cache is as small as it should be.
    pub(super) async fn shrink_media_cache(&self) -> Result<u64> {
        let Some(max_bytes) = self.media_settings().cache_max_bytes else { return Ok(0) };
        let mut removed = 0;
        for _ in 0..BATCHES_MAX {
            let mut over = self.storage().cached_media_size().await?.saturating_sub(max_bytes);
            if over == 0 {
                break;
            }
            let places = self.storage().stale_cached_media(u64::MAX, BATCH).await?;
            if places.is_empty() {
                break;
            }
            for place in places {
                let record = self.storage().media(&place.origin, &place.media_id).await?;
                removed += self.remove_all(&[place]).await?;
                over = over.saturating_sub(record.and_then(|record| record.blob).map_or(0, |blob| blob.size));
                if over == 0 {
                    break;
                }
            }
        }
        Ok(removed)
    }

    async fn remove_all(&self, places: &[MediaPlace]) -> Result<u64> {
        let mut removed = 0;
        for MediaPlace { origin, media_id } in places {
            removed += u64::from(self.remove_medium(origin, media_id).await?);
        }
        Ok(removed)
    }

    /// Removes a medium, and its content if it was the last of it; `false` when there is none.
    pub(super) async fn remove_medium(&self, origin: &ruma::ServerName, media_id: &str) -> Result<bool> {
        let Some(record) = self.storage().media(origin, media_id).await? else { return Ok(false) };
        let deleted = self.storage().delete_media(origin, media_id).await?;
        if let Some(blob) = record.blob {
            self.remove_blob(&blob.sha256).await?;
        }
        Ok(deleted)
    }

    async fn remove_orphans(&self, before_ts: u64) -> Result<u64> {
        let mut removed = 0;
        for _ in 0..BATCHES_MAX {
            let orphans = self.storage().orphaned_blobs(before_ts, BATCH).await?;
            let before = removed;
            for sha256 in orphans {
                removed += u64::from(self.remove_blob(&sha256).await?);
            }
            if removed == before {
                break;
            }
        }
        Ok(removed)
    }

    /// Removes a content that nothing is made of. The content goes first, and its row when that is certain: what cannot
    /// be removed now is found again by its row. Meanwhile nobody believes the row, since whoever is about to make
    /// something of the content waits for the lock, and then puts the content again.
    pub(super) async fn remove_blob(&self, sha256: &str) -> Result<bool> {
        let (engine, sha256) = (self.clone(), sha256.to_owned());
        let removing = async move {
            let _lock = engine.lock_blob(&sha256).await;
            if !engine.storage().is_unused_blob(&sha256).await? {
                return Ok(false);
            }
            engine.media_settings().store.delete(&blob_id(&sha256)?).await.map_err(store_error)?;
            Ok(engine.storage().forget_blob(&sha256).await?)
        };
        to_the_end(removing).await
    }
}
