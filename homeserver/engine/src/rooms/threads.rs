//! The threads of a room.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#querying-threads-in-a-room>

use ruma::{OwnedEventId, OwnedUserId, RoomId};
use storage::ThreadsRange;

use super::SeenEvent;
use crate::{ClientEvent, Engine, Requester, Result, sync::TimelineToken};

/// How many threads a page has at most, and when the client does not say.
const PAGE_THREADS_MAX: usize = 100;
const PAGE_THREADS_DEFAULT: usize = 20;

/// A page of threads.
#[derive(Clone, Debug)]
pub struct ThreadsPage {
    /// The roots, that of the thread with the latest event first.
    pub chunk: Vec<ClientEvent>,
    /// From where to read on; `None` when there is nothing more.
    pub next_batch: Option<String>,
}

impl Engine {
    /// A page of the roots of a room's threads: of all, or only of those that the asker takes part in.
    pub async fn threads(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        only_participated: bool,
        from: Option<&str>,
        limit: Option<usize>,
    ) -> Result<ThreadsPage> {
        let from = from.map(TimelineToken::parse).transpose()?.map(|token| token.0);
        let view = self.reading_view(requester, room_id).await?;
        let ignored: Vec<OwnedUserId> = self.ignored_users(&requester.user_id).await?.into_iter().collect();
        let limit = limit.unwrap_or(PAGE_THREADS_DEFAULT).clamp(1, PAGE_THREADS_MAX);
        let range = ThreadsRange {
            until: from.unwrap_or(i64::MAX),
            visible_until: view.reads_until().unwrap_or(i64::MAX),
            limit: limit + 1,
            participant: only_participated.then_some(&*requester.user_id),
            ignored: &ignored,
        };
        let mut threads = self.storage().threads(room_id, range).await?;
        let has_more = threads.len() > limit;
        threads.truncate(limit);
        let last = threads.last().filter(|_| has_more).map(|thread| TimelineToken(thread.order - 1));
        let roots: Vec<OwnedEventId> = threads.into_iter().map(|thread| thread.target_id).collect();
        let roots = self.storage().readable_events(&roots).await?;
        let seen: Vec<SeenEvent> = roots.into_iter().filter_map(|root| view.see(root)).collect();
        let chunk = self.client_events(requester, &seen, true).await?;
        Ok(ThreadsPage { chunk, next_batch: last.map(|token| token.to_string()) })
    }
}
