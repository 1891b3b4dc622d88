//! The content repository: what users upload, what other servers keep for theirs, and smaller images of both.
//!
//! Nobody is told of a medium, so that all of it is bookkeeping beside the log.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#content-repository>

mod download;
mod fair;
mod keeping;
mod lost;
mod preview;
mod quarantine;
mod remote;
mod reserve;
mod settings;
mod thumbnail;
mod upload;

use std::{sync::Arc, time::Duration};

use media::{BlobId, thumbnail::Thumbnailer};
use moka::{future, sync};
use ruma::{OwnedServerName, ServerName};
use serde_json::{Map, Value};
use tokio::sync::{Notify, OwnedMutexGuard, Semaphore};

pub use self::{
    download::{MediaAsker, MediaPart, Medium},
    settings::MediaSettings,
    thumbnail::ThumbnailCommand,
    upload::UploadCommand,
};
use crate::{Engine, EngineError, Result, locks::Locks};

/// How many media of other servers are fetched at the same time.
const FETCHES_MAX: usize = 32;
/// How many failures, or previews, are remembered.
const REMEMBERED_MAX: u64 = 10_000;
/// How long a server that does not answer is left alone.
const DEAD_FOR: Duration = Duration::from_mins(1);
/// How long it is known how much is fetched from a server: longer than anything is fetched.
const ORIGIN_FOR: Duration = Duration::from_mins(15);
/// How long it is believed that a medium cannot be had, or that no thumbnail can be made.
const ABSENT_FOR: Duration = Duration::from_mins(5);
/// How much the previews that are kept may take. Most are a kilobyte or two, but a page may say much of itself.
const PREVIEWS_MAX_BYTES: u64 = 16 * 1024 * 1024;
/// How long a preview is kept.
const PREVIEW_FOR: Duration = Duration::from_hours(1);

/// What the content repository remembers while the server runs.
pub(crate) struct Media {
    /// One at a time for each content, medium or thumbnail that is made or unmade.
    locks: Locks,
    /// Somebody has uploaded what they had reserved.
    uploaded: Notify,
    thumbnailer: Thumbnailer,
    /// Servers that did not answer, and media that could not be had.
    failed_origins: sync::Cache<OwnedServerName, ()>,
    failures: sync::Cache<String, remote::Failure>,
    failed_thumbnails: sync::Cache<String, thumbnail::Failure>,
    previews: future::Cache<String, Option<Arc<Map<String, Value>>>>,
    /// Places for fetching from each server, and for fetching at all.
    origins: sync::Cache<OwnedServerName, Arc<Semaphore>>,
    fetches: Arc<Semaphore>,
    shares: fair::Shares,
    /// How many bytes were fetched since it was last looked whether there is room for them.
    fetched_bytes: std::sync::atomic::AtomicU64,
}

impl Media {
    pub(crate) fn new() -> Self {
        let absent = || sync::Cache::builder().max_capacity(REMEMBERED_MAX).time_to_live(ABSENT_FOR);
        Self {
            locks: Locks::default(),
            uploaded: Notify::new(),
            thumbnailer: Thumbnailer::default(),
            failed_origins: sync::Cache::builder().max_capacity(REMEMBERED_MAX).time_to_live(DEAD_FOR).build(),
            failures: absent().build(),
            failed_thumbnails: sync::Cache::builder().max_capacity(REMEMBERED_MAX).time_to_live(ABSENT_FOR).build(),
            previews: future::Cache::builder()
                .max_capacity(PREVIEWS_MAX_BYTES)
                .weigher(|url: &String, preview| preview::weight(url, preview))
                .time_to_live(PREVIEW_FOR)
                .build(),
            origins: sync::Cache::builder().max_capacity(REMEMBERED_MAX).time_to_idle(ORIGIN_FOR).build(),
            fetches: Arc::new(Semaphore::new(FETCHES_MAX)),
            shares: fair::Shares::new(),
            fetched_bytes: std::sync::atomic::AtomicU64::new(0),
        }
    }
}

impl Engine {
    fn repository(&self) -> &Media {
        &self.inner.media
    }

    /// Keeps everybody else from making or unmaking something with that content.
    async fn lock_blob(&self, blob_id: &str) -> OwnedMutexGuard<()> {
        self.repository().locks.lock(&format!("blob {blob_id}")).await
    }

    fn is_own(&self, origin: &ServerName) -> bool {
        origin == self.server_name()
    }
}

/// Neither names a folder, nor anything else than a medium: what ruma takes for a server name may be two dots.
fn check_place(origin: &ServerName, media_id: &str) -> Result<()> {
    let host = origin.host();
    let proper = host.starts_with('[') || host.split('.').all(|label| !label.is_empty() && !label.starts_with('-'));
    if proper && media::is_media_id(media_id) {
        return Ok(());
    }
    Err(EngineError::invalid_param("This is no id of a medium"))
}

/// Does something to its end, whoever stops waiting for it: what is half done would be left lying around.
async fn to_the_end<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(work).await.unwrap_or_else(|error| Err(EngineError::internal(error)))
}

/// A hash as the database has it.
fn blob_id(sha256: &str) -> Result<BlobId> {
    BlobId::parse(sha256).ok_or_else(|| EngineError::internal("a content's hash in the database is none"))
}

fn no_such_medium() -> EngineError {
    EngineError::not_found("There is no such medium")
}

#[cfg(test)]
mod tests {
    use ruma::ServerName;

    use super::check_place;

    #[test]
    fn s_144_hostile_ids_of_media() {
        let good = [("example.org", "abc_-123"), ("example.org:8448", "a"), ("127.0.0.1", "a"), ("[::1]:8448", "a")];
        for (origin, media_id) in good {
            assert!(check_place(<&ServerName>::try_from(origin).unwrap(), media_id).is_ok(), "{origin}/{media_id}");
        }
        let hostile = [
            ("..", "x"),
            (".", "x"),
            ("example..org", "x"),
            (".example.org", "x"),
            ("example.org.", "x"),
            ("-example.org", "x"),
            ("example.org", ""),
            ("example.org", "."),
            ("example.org", ".."),
            ("example.org", "../../etc/passwd"),
            ("example.org", "..%2f..%2fetc%2fpasswd"),
            ("example.org", "a/b"),
            ("example.org", "a\\b"),
            ("example.org", "a?b"),
            ("example.org", "a#b"),
            ("example.org", "a b"),
            ("example.org", "a\0"),
            ("example.org", "a\r\nHost: evil"),
            ("example.org", "\u{ff0e}\u{ff0e}"),
            ("example.org", "\u{202e}abc"),
            ("example.org", "a.png"),
            ("example.org", "a:b"),
            ("example.org", "a@b"),
            ("example.org", "a;b"),
            ("example.org", "~root"),
        ];
        for (origin, media_id) in hostile {
            let accepted = <&ServerName>::try_from(origin).is_ok_and(|origin| check_place(origin, media_id).is_ok());
            assert!(!accepted, "{origin}/{media_id:?}");
        }
    }
}
