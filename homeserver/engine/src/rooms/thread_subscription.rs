//! Which threads a user follows.
//!
//! Proposals: <https://github.com/matrix-org/matrix-spec-proposals/pull/4306>, and, for how clients hear of it,
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4308>. Push rules do not ask for it: to those whose clients
//! know nothing of it, threads would fall silent.

use std::{collections::BTreeMap, sync::Arc};

use rules::{Change, change::Position, event::relation::THREAD};
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId, UserId};
use serde::Serialize;
use storage::{StoredEvent, Submission, ThreadSubscriptionRecord};

use super::commit_error;
use crate::{Engine, EngineError, Requester, Result};

/// How many threads a page has at most, and when the client does not say.
pub(crate) const PAGE_SUBSCRIPTIONS_MAX: usize = 100;

/// Threads that a user follows, or does not any more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ThreadSubscriptionChanges {
    /// Those that the user follows, by room and root.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub subscribed: BTreeMap<OwnedRoomId, BTreeMap<OwnedEventId, ThreadSubscription>>,
    /// Those that the user does not any more.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unsubscribed: BTreeMap<OwnedRoomId, BTreeMap<OwnedEventId, ThreadUnsubscription>>,
    /// Where those that changed before begin; `None` when there are no more.
    #[serde(skip)]
    pub more: Option<String>,
}

/// A thread is followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ThreadSubscription {
    /// Whether a client did that of itself.
    pub automatic: bool,
    /// Which of several changes to one thread is the latest.
    pub bump_stamp: Position,
}

/// A thread is not followed any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ThreadUnsubscription {
    /// Which of several changes to one thread is the latest.
    pub bump_stamp: Position,
}

/// A stretch of the log that was not told yet: from its end backwards, so that the latest changes come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Untold {
    /// What happened up to here was told before.
    pub(crate) since: Position,
    /// What happened after this was, too.
    pub(crate) until: Position,
}

impl Untold {
    fn parse(token: &str) -> Result<Self> {
        let parts = token.split_once('_').and_then(|(until, since)| Some((until.parse().ok()?, since.parse().ok()?)));
        let (until, since) = parts.ok_or_else(|| EngineError::invalid_param("`from` is not a token of ours"))?;
        Ok(Self { since, until })
    }
}

impl Engine {
    /// Whether the asker follows a thread: `None` if not, else whether a client did that of itself.
    pub async fn thread_subscription(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        thread_root: &EventId,
    ) -> Result<Option<bool>> {
        self.event_to_follow(requester, room_id, thread_root).await?;
        let record = self.storage().thread_subscription(&requester.user_id, room_id, thread_root).await?;
        Ok(record.filter(|record| record.subscribed).map(|record| record.automatic))
    }

    /// Follows a thread. `cause` names the event of the thread for which a client does it of itself.
    pub async fn subscribe_to_thread(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        thread_root: &EventId,
        cause: Option<&EventId>,
    ) -> Result<()> {
        self.event_to_follow(requester, room_id, thread_root).await?;
        let cause = match cause {
            Some(cause) => Some(self.event_of_thread(requester, room_id, thread_root, cause).await?),
            None => None,
        };
        let _lock = self.lock_subscription(&requester.user_id, thread_root).await;
        let known = self.storage().thread_subscription(&requester.user_id, room_id, thread_root).await?;
        if is_needless(known.as_ref(), cause.as_ref())? {
            return Ok(());
        }
        self.commit_subscription(requester, room_id, thread_root, true, cause.is_some()).await
    }

    /// Follows a thread no more.
    pub async fn unsubscribe_from_thread(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        thread_root: &EventId,
    ) -> Result<()> {
        self.event_to_follow(requester, room_id, thread_root).await?;
        let _lock = self.lock_subscription(&requester.user_id, thread_root).await;
        let known = self.storage().thread_subscription(&requester.user_id, room_id, thread_root).await?;
        if known.is_none_or(|known| !known.subscribed) {
            return Ok(());
        }
        self.commit_subscription(requester, room_id, thread_root, false, false).await
    }

    /// A page of the threads that the asker follows or does not any more, what changed last first. `from` continues an
    /// earlier page.
    pub async fn thread_subscriptions(
        &self,
        requester: &Requester,
        from: Option<&str>,
        limit: Option<usize>,
    ) -> Result<ThreadSubscriptionChanges> {
        let everything = Untold { since: 0, until: self.storage().head() };
        let untold = from.map_or(Ok(everything), Untold::parse)?;
        self.thread_subscriptions_in(&requester.user_id, untold, limit.unwrap_or(PAGE_SUBSCRIPTIONS_MAX)).await
    }

    /// The latest changes in a stretch of the log.
    pub(crate) async fn thread_subscriptions_in(
        &self,
        user_id: &UserId,
        untold: Untold,
        limit: usize,
    ) -> Result<ThreadSubscriptionChanges> {
        let limit = limit.clamp(1, PAGE_SUBSCRIPTIONS_MAX);
        let Untold { since, until } = untold;
        let mut records = self.storage().thread_subscriptions(user_id, since, until, limit + 1).await?;
        let has_more = records.len() > limit;
        records.truncate(limit);
        let more = records.last().filter(|_| has_more).map(|last| format!("{}_{since}", last.position - 1));
        let mut changes = ThreadSubscriptionChanges { more, ..ThreadSubscriptionChanges::default() };
        for ThreadSubscriptionRecord { room_id, thread_root, subscribed, automatic, position } in records {
            if subscribed {
                let subscription = ThreadSubscription { automatic, bump_stamp: position };
                changes.subscribed.entry(room_id).or_default().insert(thread_root, subscription);
            } else {
                let unsubscription = ThreadUnsubscription { bump_stamp: position };
                changes.unsubscribed.entry(room_id).or_default().insert(thread_root, unsubscription);
            }
        }
        Ok(changes)
    }

    /// An event that the asker may see. Whether there are others is not told.
    async fn event_to_follow(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<Arc<StoredEvent>> {
        let (view, event) = self.event_in_view(requester, room_id, event_id).await?;
        let seen = view.see(event).ok_or_else(|| EngineError::not_found("There is no such event"))?;
        Ok(seen.event)
    }

    /// The event of a thread for which the thread is to be followed.
    async fn event_of_thread(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        thread_root: &EventId,
        event_id: &EventId,
    ) -> Result<Arc<StoredEvent>> {
        let event = match self.event_to_follow(requester, room_id, event_id).await {
            Err(EngineError::NotFound(_)) => return Err(EngineError::NotInThread),
            event => event?,
        };
        let relation = event.pdu.relation();
        let is_in_thread =
            relation.is_some_and(|relation| relation.rel_type == THREAD && relation.event_id == thread_root);
        if is_in_thread { Ok(event) } else { Err(EngineError::NotInThread) }
    }

    async fn lock_subscription(&self, user_id: &UserId, thread_root: &EventId) -> impl Drop + use<> {
        self.inner.account_data.lock(&format!("{user_id} {thread_root}")).await
    }

    async fn commit_subscription(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        thread_root: &EventId,
        subscribed: bool,
        automatic: bool,
    ) -> Result<()> {
        let change = Change::ThreadSubscription {
            user_id: requester.user_id.clone(),
            room_id: room_id.to_owned(),
            thread_root: thread_root.to_owned(),
            subscribed,
            automatic,
        };
        let submission = Submission { room: None, changes: vec![change] };
        self.storage().commit(submission).await.map(drop).map_err(commit_error)
    }
}

/// Whether the user follows the thread as is asked for already. What a client does of itself changes nothing of what the
/// user did, and does not undo that the user stopped following the thread after the event for which it does.
fn is_needless(known: Option<&ThreadSubscriptionRecord>, cause: Option<&Arc<StoredEvent>>) -> Result<bool> {
    let Some(known) = known else { return Ok(false) };
    if known.subscribed {
        return Ok(cause.is_some() || !known.automatic);
    }
    match cause {
        Some(cause) if cause.order.is_none_or(|order| order < known.position) => {
            Err(EngineError::ConflictingUnsubscription)
        }
        _ => Ok(false),
    }
}
