//! Following the log: waking whoever waits, and `/sync`.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#syncing>
//!
//! One answer covers exactly the log entries after the client's token and up to a position that is fixed before
//! anything is read. So nothing is told twice and nothing is left out, whatever happens meanwhile.

mod active;
mod changes;
mod devices;
mod ephemeral;
mod event_fields;
mod fan_out;
mod filter;
mod lazy;
mod recent;
mod relation_filter;
mod sliding;
mod state;
mod stays;
mod summary;
mod timeline;
mod token;
mod v3;

use std::{collections::BTreeMap, time::Duration};

use rules::change::Position;
use ruma::{
    OwnedRoomId, UserId,
    api::client::{filter::FilterDefinition, sync::sync_events::v3::Response},
    events::{AnySyncTimelineEvent, room::member::MembershipState},
    presence::PresenceState,
    serde::Raw,
};
use tokio::{sync::watch, time::Instant};

pub use self::relation_filter::RelationFilter;
pub use self::sliding::{
    AccountDataExtension, EncryptionExtension, Extensions, Hero, LimitedExtension, List, ListCount, ListFilters,
    RoomDetails, RoomExtension, RoomsExtension, SlidingExtensions, SlidingQuery, SlidingResponse, SlidingRoom,
    StickyEventsExtension, StickyRoom, Switch, ThreadSubscriptionsExtension, ToDeviceExtension, TokenQuery,
};
pub(crate) use self::{
    active::News,
    changes::{IGNORED_USERS, ignored_by},
    devices::{TO_DEVICE_MAX, ToDevicePage},
    filter::{allows, covers_room, lazy_loads},
    state::senders,
    timeline::{Eyes, Scanned},
    token::{SyncToken, TimelineToken},
    v3::presence_event,
};
use self::{
    active::{ActiveUsers, Listener},
    lazy::LazyMembers,
    sliding::{Connections, Indexes},
};
use crate::{Engine, EngineError, Requester, Result, locks::Locks};

/// The longest that a sync waits for something to happen: proxies tend to give up after a minute.
const TIMEOUT_MAX_MS: u64 = 60_000;
/// How long to wait for this process to catch up with the log. Reading it takes milliseconds, unless storage is down.
pub(crate) const CATCH_UP_MAX: Duration = Duration::from_secs(5);
/// How long to wait for a position that this process has not heard of: another one may have given it out just now.
const FOREIGN_TOKEN_MAX: Duration = Duration::from_millis(500);

/// What a client asks of `/sync`.
#[derive(Clone, Debug, Default)]
pub struct SyncQuery {
    /// Where the last answer ended; `None` to start anew.
    pub since: Option<String>,
    /// What the client wants to see.
    pub filter: FilterDefinition,
    /// The part of the timeline's filter that is about relations.
    pub relations: RelationFilter,
    /// Whether the client wants the whole state of its rooms.
    pub full_state: bool,
    /// How long to wait for something to happen, in milliseconds.
    pub timeout_ms: u64,
    /// Whether the client wants the state at the end of the timelines rather than at their start.
    pub use_state_after: bool,
    /// What this sync makes the device's presence; `None` to leave it alone.
    pub set_presence: Option<PresenceState>,
}

/// What `/sync` answers.
#[derive(Clone, Debug)]
pub struct SyncAnswer {
    /// As the specification has it.
    pub response: Response,
    /// What is sticky in rooms that the user is joined to, and not in their timelines.
    pub sticky: BTreeMap<OwnedRoomId, Vec<Raw<AnySyncTimelineEvent>>>,
}

/// What the engine keeps in memory for those who follow the log.
pub(crate) struct Sync {
    seen: watch::Sender<Position>,
    stopping: watch::Sender<bool>,
    users: ActiveUsers,
    lazy_members: LazyMembers,
    connections: Connections,
    indexes: Indexes,
    /// One at a time for each user and room: receipts only move forward.
    pub(crate) receipts: Locks,
}

impl Sync {
    pub(crate) fn new(head: Position) -> Self {
        Self {
            seen: watch::Sender::new(head),
            stopping: watch::Sender::new(false),
            users: ActiveUsers::default(),
            lazy_members: LazyMembers::new(),
            connections: Connections::new(),
            indexes: Indexes::new(),
            receipts: Locks::default(),
        }
    }

    /// Whoever waits is answered now, and nobody waits any more.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Tells the users in a room that who is typing changed.
    pub(crate) fn typing_changed(&self, room_id: &ruma::RoomId, typing: u64) {
        self.users.wake_room(room_id, News { typing, ..News::default() });
    }

    /// Tells the other users in some rooms that the presence of one changed.
    pub(crate) fn presence_changed<'a>(&self, about: &UserId, rooms: impl Iterator<Item = &'a ruma::RoomId>) {
        self.users.wake_for_presence(about, rooms);
    }

    /// Tells a user of some whom the user sees from now on, or sees anew.
    pub(crate) fn presence_of_others(&self, user_id: &UserId, others: &[ruma::OwnedUserId]) {
        self.users.wake_for_presences(user_id, others);
    }

    /// The rooms of a user are to be looked up anew: one was forgotten.
    pub(crate) fn forget_rooms(&self, user_id: &UserId) {
        self.indexes.forget(user_id);
    }

    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// The position up to which everything was heard.
    fn seen(&self) -> Position {
        *self.seen.borrow()
    }

    fn advance(&self, position: Position) {
        self.seen.send_replace(position);
    }

    /// Waits until this process has heard everything up to a position.
    pub(crate) async fn caught_up(&self, position: Position, patience: Duration) -> bool {
        let mut seen = self.seen.subscribe();
        let caught_up = seen.wait_for(|seen| *seen >= position);
        tokio::time::timeout(patience, caught_up).await.is_ok_and(|waited| waited.is_ok())
    }
}

impl Engine {
    /// What happened for a device since it last asked. Waits for something to happen, up to the timeout, unless the
    /// device starts anew or asks for the full state.
    ///
    /// Whoever waits is one of many: what is needed only before and after is boxed, for the future not to keep room for it.
    pub async fn sync(&self, requester: &Requester, query: &SyncQuery) -> Result<SyncAnswer> {
        let deadline = Instant::now() + Duration::from_millis(query.timeout_ms.min(TIMEOUT_MAX_MS));
        let since = query.since.as_deref().map(SyncToken::parse).transpose()?;
        let mut listener = Box::pin(self.listen(&requester.user_id)).await?;
        let _attendance = self.attend(requester, query.set_presence.as_ref())?;
        let since = match since {
            Some(token) if Box::pin(self.is_future(token)).await => None,
            since => since,
        };
        // What the device itself just did must be in the answer.
        if !Box::pin(self.inner.sync.caught_up(self.storage().head(), CATCH_UP_MAX)).await {
            return Err(EngineError::Busy);
        }
        let Some(since) = since.filter(|_| !query.full_state) else {
            let _turn = listener.turn().await?;
            return Box::pin(self.v3_response(requester, query, since)).await;
        };
        self.wait_and_answer(requester, query, since, &mut listener, deadline).await
    }

    async fn wait_and_answer(
        &self,
        requester: &Requester,
        query: &SyncQuery,
        mut since: SyncToken,
        listener: &mut Listener,
        deadline: Instant,
    ) -> Result<SyncAnswer> {
        let mut stopping = self.inner.sync.stopping();
        loop {
            let now = self.now(listener);
            // Looked up after `now`: what is before `now` has been heard.
            let is_of_before_restart = since.typing > now.typing || since.presence > now.presence;
            if listener.may_have_news(since) || is_of_before_restart || since.to_device < since.position {
                let _turn = listener.turn().await?;
                Box::pin(self.catch_up_with(listener)).await?;
                let answer = Box::pin(self.v3_response(requester, query, Some(since))).await?;
                since = SyncToken::parse(&answer.response.next_batch)?;
                if !v3::is_empty(&answer.response) {
                    return Ok(answer);
                }
            } else {
                // Only the position: what is typed or shown of presence counts a moment before it can be heard.
                since = SyncToken { typing: since.typing, presence: since.presence, ..now.max_of(since) };
            }
            if Instant::now() >= deadline {
                // A timer takes a millisecond even when its time is over.
                break;
            }
            let _waiting = Waiting::begin();
            tokio::select! {
                () = listener.changed() => {}
                () = tokio::time::sleep_until(deadline) => break,
                _ = stopping.wait_for(|stopping| *stopping) => break,
            }
        }
        let response = Box::pin(self.v3_nothing(requester, since)).await?;
        Ok(SyncAnswer { response, sticky: BTreeMap::new() })
    }

    /// Waits until this process knows all that a listener was woken for. Whoever is woken hears of a log entry a moment
    /// before it counts as heard; who looked at that moment would see nothing, and not be woken again.
    async fn catch_up_with(&self, listener: &Listener) -> Result<()> {
        let is_known = self.inner.sync.caught_up(listener.position(), CATCH_UP_MAX).await;
        if is_known { Ok(()) } else { Err(EngineError::Busy) }
    }

    fn now(&self, listener: &Listener) -> SyncToken {
        SyncToken {
            presence: listener.presence(),
            ..SyncToken::new(self.inner.sync.seen(), self.inner.rooms.typing.count())
        }
    }

    /// Starts to listen for a user, whose rooms are looked up the first time.
    async fn listen(&self, user_id: &UserId) -> Result<Listener> {
        // The time is a count that is higher than all that were given out before.
        let listener = self.inner.sync.users.listen(user_id, self.world().clock.now_ms())?;
        let load = async {
            let memberships = self.storage().memberships(user_id).await?;
            let joined = memberships.into_iter().filter(|record| record.membership == MembershipState::Join);
            self.inner.sync.users.add_rooms(user_id, joined.map(|record| record.room_id));
            // Read after the rooms are known: up to here something may have gone unheard, from here on nothing does.
            Ok(SyncToken::new(self.storage().head(), self.inner.rooms.typing.count()))
        };
        listener.load_once(load).await?;
        Ok(listener)
    }

    /// Whether a token was given out by a server that knew more than we do: the database was restored from a backup.
    /// The client must start anew, since other things have the numbers now.
    async fn is_future(&self, token: SyncToken) -> bool {
        if self.storage().is_lost(token.position) {
            return true;
        }
        token.position > self.storage().head() && !self.inner.sync.caught_up(token.position, FOREIGN_TOKEN_MAX).await
    }
}

impl SyncToken {
    fn max_of(self, other: Self) -> Self {
        Self {
            presence: self.presence.max(other.presence),
            ..Self::new(self.position.max(other.position), self.typing.max(other.typing))
        }
    }
}

/// Counts those who wait.
struct Waiting;

impl Waiting {
    fn begin() -> Self {
        metrics::gauge!("sync_waiting").increment(1);
        Self
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        metrics::gauge!("sync_waiting").decrement(1);
    }
}
