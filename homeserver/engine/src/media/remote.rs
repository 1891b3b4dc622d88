//! Fetching what other servers have: once, however many ask for it at the same time, and to the end, whoever leaves.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use media::{ReceiveError, disposition};
use outbound::{CallError, RemoteMedia};
use ruma::{OwnedServerName, OwnedUserId, ServerName, UserId};
use storage::{MediaBlob, MediaPlace, MediaRecord, NewMedia};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::no_such_medium;
use crate::{Engine, EngineError, Result};

/// How long the other server is asked to wait for a medium that is not uploaded yet: less than how long its answer is
/// waited for.
const ORIGIN_WAITS_MAX: Duration = Duration::from_secs(20);
/// How long a fetch waits for others to be done.
const PLACE_WAIT_MAX: Duration = Duration::from_secs(30);
/// How many media are fetched from one server at the same time, so that a slow one does not keep all others waiting.
const AT_ONCE_PER_ORIGIN: usize = 6;

/// Why a medium cannot be had. It is remembered for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    NotFound,
    TooLarge,
    Broken,
}

impl From<Failure> for EngineError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotFound => no_such_medium(),
            Failure::TooLarge => Self::RemoteTooLarge("The medium is too large to be fetched".to_owned()),
            Failure::Broken => Self::CannotFederate("The other server's answer makes no sense".to_owned()),
        }
    }
}

impl Engine {
    /// A medium of another server.
    pub(super) async fn fetch_medium(
        &self,
        user_id: &UserId,
        origin: &ServerName,
        media_id: &str,
        timeout: Duration,
    ) -> Result<MediaRecord> {
        let place = MediaPlace { origin: origin.to_owned(), media_id: media_id.to_owned() };
        self.check_failures(&place)?;
        let (engine, user_id) = (self.clone(), user_id.to_owned());
        // Others may wait for the same, and it is of use to whoever asks next.
        let fetching = tokio::spawn(async move { engine.fetch_once(user_id, place, timeout).await });
        fetching.await.unwrap_or_else(|error| Err(EngineError::internal(error)))
    }

    fn check_failures(&self, place: &MediaPlace) -> Result<()> {
        let repository = self.repository();
        if repository.failed_origins.contains_key(&place.origin) {
            return Err(unreachable());
        }
        repository.failures.get(&key(place)).map_or(Ok(()), |failure| Err(failure.into()))
    }

    async fn fetch_once(&self, user_id: OwnedUserId, place: MediaPlace, timeout: Duration) -> Result<MediaRecord> {
        let repository = self.repository();
        let _one = repository.locks.lock(&key(&place)).await;
        if let Some(record) = self.storage().media(&place.origin, &place.media_id).await? {
            return Ok(record);
        }
        self.check_failures(&place)?;
        let now_ms = self.world().clock.now_ms();
        let _own_place = repository.shares.place(&user_id, now_ms).await?;
        let _place_of_origin = place_in(self.places_of(&place.origin)).await?;
        let _place = place_in(Arc::clone(&repository.fetches)).await?;
        let received = Arc::new(AtomicU64::new(0));
        let record = self.fetch_now(&place, timeout, &received).await;
        // Also what broke off, or was too large in the end: it has cost as much.
        repository.shares.count(&user_id, received.load(Ordering::Relaxed), now_ms);
        let outcome = if record.is_ok() { "fetched" } else { "failed" };
        metrics::counter!("media_fetches_total", "outcome" => outcome).increment(1);
        let record = record?;
        self.make_room(record.blob.as_ref().map_or(0, |blob| blob.size)).await;
        Ok(record)
    }

    fn places_of(&self, origin: &OwnedServerName) -> Arc<Semaphore> {
        self.repository().origins.get_with_by_ref(origin, || Arc::new(Semaphore::new(AT_ONCE_PER_ORIGIN)))
    }

    /// Fetches a medium, and says meanwhile how many bytes of it have come.
    async fn fetch_now(&self, place: &MediaPlace, timeout: Duration, received: &Arc<AtomicU64>) -> Result<MediaRecord> {
        let max_bytes = self.media_settings().remote_max_bytes;
        let asked = self.federation().download_media(
            &place.origin,
            &place.media_id,
            timeout.min(ORIGIN_WAITS_MAX),
            usize::try_from(max_bytes).unwrap_or(usize::MAX),
        );
        let remote = match asked.await {
            Ok(remote) => remote,
            Err(error) => return Err(self.failed(place, &error)),
        };
        let RemoteMedia { content_type, content_disposition, body } = remote;
        let received = Arc::clone(received);
        let count = move |piece: &Bytes| {
            received.fetch_add(piece.len() as u64, Ordering::Relaxed);
        };
        let body = body.inspect_ok(count).boxed();
        let spooled = match self.media_settings().spool.receive(body, max_bytes).await {
            Ok(spooled) => spooled,
            Err(error) => return Err(self.not_received(place, error)),
        };
        let (blob, _lock) = self.put_blob(spooled).await?;
        let media = self.fetched(place, blob, content_type, content_disposition.as_deref());
        self.storage().store_media(&media, None).await?;
        self.storage().media(&place.origin, &place.media_id).await?.ok_or_else(no_such_medium)
    }

    fn fetched(
        &self,
        place: &MediaPlace,
        blob: MediaBlob,
        content_type: Option<String>,
        content_disposition: Option<&str>,
    ) -> NewMedia {
        NewMedia {
            origin: place.origin.clone(),
            media_id: place.media_id.clone(),
            blob,
            content_type,
            filename: content_disposition.and_then(disposition::filename),
            uploader: None,
            preview: false,
            unauthenticated: self.media_settings().unauthenticated_access,
            created_ts: self.world().clock.now_ms(),
        }
    }

    /// Remembers why the other server did not answer as asked.
    fn failed(&self, place: &MediaPlace, error: &CallError) -> EngineError {
        tracing::debug!(%error, origin = %place.origin, "a medium cannot be fetched");
        let failure = match error {
            CallError::Unreachable(_) => {
                self.repository().failed_origins.insert(place.origin.clone(), ());
                return unreachable();
            }
            // Whoever asks for what is not uploaded can make a server slow. It may be quick with everything else.
            CallError::Deadline => return unreachable(),
            CallError::Refused { errcode: Some(errcode), .. } if errcode == "M_NOT_YET_UPLOADED" => {
                return EngineError::NotYetUploaded;
            }
            CallError::Refused { status: 404, .. } => Failure::NotFound,
            // That passes.
            CallError::Refused { status: 429 | 500.., .. } => return Failure::Broken.into(),
            CallError::Refused { errcode: Some(errcode), .. } if errcode == "M_TOO_LARGE" => Failure::TooLarge,
            CallError::TooLarge => Failure::TooLarge,
            CallError::Refused { .. } | CallError::Malformed(_) | CallError::Denied(_) => Failure::Broken,
        };
        self.remember(place, failure)
    }

    fn not_received(&self, place: &MediaPlace, error: ReceiveError) -> EngineError {
        match error {
            ReceiveError::TooLarge { .. } => self.remember(place, Failure::TooLarge),
            ReceiveError::BrokenOff(error) if error.kind() == std::io::ErrorKind::FileTooLarge => {
                self.remember(place, Failure::TooLarge)
            }
            ReceiveError::BrokenOff(_) => Failure::Broken.into(),
            error @ ReceiveError::Disk { .. } => EngineError::internal(error),
        }
    }

    fn remember(&self, place: &MediaPlace, failure: Failure) -> EngineError {
        self.repository().failures.insert(key(place), failure);
        failure.into()
    }

    /// Looks after a while of fetching whether there is still room, instead of waiting for the next round.
    async fn make_room(&self, fetched_bytes: u64) {
        let Some(max_bytes) = self.media_settings().cache_max_bytes else { return };
        let total = self.repository().fetched_bytes.fetch_add(fetched_bytes, Ordering::Relaxed) + fetched_bytes;
        if total < max_bytes / 10 {
            return;
        }
        self.repository().fetched_bytes.store(0, Ordering::Relaxed);
        if let Err(error) = self.shrink_media_cache().await {
            tracing::warn!(%error, "the cache of other servers' media could not be made smaller; trying again later");
        }
    }
}

fn key(place: &MediaPlace) -> String {
    format!("{}/{}", place.origin, place.media_id)
}

/// A place, unless there is none for too long.
pub(super) async fn place_in(places: Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
    let waiting = tokio::time::timeout(PLACE_WAIT_MAX, places.acquire_owned());
    Ok(waiting.await.map_err(|_| EngineError::Busy)?.expect("the semaphore is never closed"))
}

fn unreachable() -> EngineError {
    EngineError::CannotFederate("The medium's server cannot be reached".to_owned())
}
