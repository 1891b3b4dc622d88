//! Sliding sync: windows on the rooms of a user, latest first, and what is new in those that the client looks at.
//!
//! Proposal: <https://github.com/matrix-org/matrix-spec-proposals/pull/4186>. What changed between two points is found
//! out as for the other kind of sync; here is only what the client was told, which rooms it looks at, and how they are
//! shown.

mod away;
mod connections;
mod devices;
mod entry;
mod extensions;
mod index;
mod lists;
mod ordered;
mod request;
mod required;
mod response;
mod room;
mod sticky;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use ruma::{OwnedRoomId, events::room::member::MembershipState};
use tokio::time::Instant;

pub(crate) use self::{connections::Connections, index::Indexes};
use self::{
    connections::{Kept, RoomTold, Seen, Told},
    extensions::Telling,
    index::ALL_ROOMS,
    lists::Views,
    request::Wanted,
    room::{Asked, Asking},
};
pub use self::{
    request::{
        Extensions, LimitedExtension, List, ListFilters, RoomDetails, RoomExtension, SlidingQuery, Switch, TokenQuery,
    },
    response::{
        AccountDataExtension, EncryptionExtension, Hero, ListCount, RoomsExtension, SlidingExtensions, SlidingResponse,
        SlidingRoom, StickyEventsExtension, StickyRoom, ThreadSubscriptionsExtension, ToDeviceExtension,
    },
};
use super::{
    CATCH_UP_MAX, TIMEOUT_MAX_MS, Waiting,
    active::Listener,
    changes::{Changes, RoomChanges},
    state::Base,
    token::SyncToken,
};
use crate::{Engine, EngineError, Requester, Result};

/// How many rooms of one answer are worked on at the same time: as many as the database has readers, usually.
const ROOMS_AT_ONCE: usize = 4;
/// How long the name of a connection is, in characters.
const NONCE_LENGTH: usize = 12;

/// An answer, and what the client was told with it.
struct Answer {
    response: SlidingResponse,
    told: Told,
}

/// What changed in rooms, by room.
type ByRoom<'a> = BTreeMap<&'a OwnedRoomId, &'a RoomChanges>;

impl Engine {
    /// What is new for one connection of a device. Waits for something to happen, up to the timeout, unless the
    /// connection starts anew. As for the other kind of sync, what is not needed while waiting is boxed.
    pub async fn sliding_sync(&self, requester: &Requester, query: &SlidingQuery) -> Result<SlidingResponse> {
        query.check()?;
        let deadline = Instant::now() + Duration::from_millis(query.timeout_ms.min(TIMEOUT_MAX_MS));
        let conn_id = query.conn_id.as_deref().unwrap_or_default();
        let after = query.pos.as_deref();
        let connections = &self.inner.sync.connections;
        let (attempt, told) = connections.begin(requester, conn_id, after).ok_or(EngineError::UnknownPos)?;
        let mut listener = Box::pin(self.listen(&requester.user_id)).await?;
        let _attendance = self.attend(requester, query.set_presence.as_ref())?;
        // What the device itself just did must be in the answer.
        if !Box::pin(self.inner.sync.caught_up(self.storage().head(), CATCH_UP_MAX)).await {
            return Err(EngineError::Busy);
        }
        let start = Answer { response: SlidingResponse::default(), told: (*told).clone() };
        let mut answer = self.sliding_answer(requester, query, start, &mut listener, deadline).await?;
        let nonce = || self.world().random_string(NONCE_LENGTH);
        let told = Arc::new(answer.told);
        answer.response.pos = match (connections.keep(requester, conn_id, (attempt, after), nonce, told), after) {
            (Kept::As(pos), _) => pos,
            // Nobody waits for this. Whoever gets it all the same is told nothing, and goes on from where they were.
            (Kept::Superseded, Some(after)) => {
                answer.response = SlidingResponse::default();
                Box::pin(self.complete_extensions(requester, query, &mut answer.response.extensions)).await?;
                after.to_owned()
            }
            _ => return Err(EngineError::UnknownPos),
        };
        answer.response.txn_id.clone_from(&query.txn_id);
        Ok(answer.response)
    }

    async fn sliding_answer(
        &self,
        requester: &Requester,
        query: &SlidingQuery,
        mut answer: Answer,
        listener: &mut Listener,
        deadline: Instant,
    ) -> Result<Answer> {
        let mut stopping = self.inner.sync.stopping();
        let fingerprint = query.fingerprint();
        let mut more_waits = Box::pin(self.acknowledge(requester, query, &answer.told)).await?;
        loop {
            let is_same = answer.told.fingerprint == fingerprint;
            if is_news(&answer.told, listener) || !is_same || std::mem::take(&mut more_waits) {
                let _turn = listener.turn().await?;
                Box::pin(self.catch_up_with(listener)).await?;
                let (is_first, counts) = (answer.told.token.is_none(), answer.told.counts.clone());
                answer = self.sliding_response(requester, query, answer.told, is_same).boxed().await?;
                answer.told.fingerprint = fingerprint;
                if is_first || !answer.response.is_empty() || answer.told.counts != counts {
                    return Ok(answer);
                }
            }
            answer.response.lists.clone_from(&answer.told.counts);
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
        Box::pin(self.complete_extensions(requester, query, &mut answer.response.extensions)).await?;
        Ok(answer)
    }

    /// What is new for somebody who was told this, and asks the same as last time, or something else.
    async fn sliding_response(
        &self,
        requester: &Requester,
        query: &SlidingQuery,
        mut told: Told,
        is_same: bool,
    ) -> Result<Answer> {
        let (changes, views) = self.look(requester, query, told.token, is_same).await?;
        let since = told.token.map(|token| token.position);
        let asked = Asked { requester, now: changes.now.position, since, ignored: changes.ignored.clone() };
        let by_room: ByRoom<'_> = changes.rooms.iter().map(|changes| (&changes.record.room_id, changes)).collect();
        let rooms = self.sliding_rooms(&asked, query, &views, &by_room, &mut told).await?;
        note_missed(&mut told, &views, &changes, since);
        let telling =
            Telling { requester, query, views: &views, changes: &changes, by_room: &by_room, since, rooms: &rooms };
        let extensions = self.sliding_extensions(&telling, &mut told).await?;
        told.token = Some(changes.now);
        told.counts.clone_from(&views.counts);
        let response = SlidingResponse { lists: views.counts, rooms, extensions, ..SlidingResponse::default() };
        Ok(Answer { response, told })
    }

    /// What changed, and which rooms the client looks at of which something may be new.
    async fn look(
        &self,
        requester: &Requester,
        query: &SlidingQuery,
        since: Option<SyncToken>,
        is_same: bool,
    ) -> Result<(Changes, Views)> {
        let user_id = &requester.user_id;
        if !query.wants_rooms() {
            return Ok((self.changes(user_id, since, &ALL_ROOMS).await?, Views::default()));
        }
        let index = self.inner.sync.indexes.of(user_id);
        // Nobody else brings the rooms up to date while it is found out what changed: they are of the same moment.
        let mut index = index.lock().await;
        let changes = self.changes(user_id, since, &ALL_ROOMS).await?;
        let is_made_anew = self.refresh_index(user_id, &mut index, since, &changes).await?;
        let touched = || changes.rooms.iter().map(|room| room.record.room_id.clone()).collect();
        let touched = (is_same && !is_made_anew).then(touched);
        let mut views = self.views(user_id, query, &mut index, touched).await?;
        self.hold_back(&mut views).await?;
        index.forget_lists();
        Ok((changes, views))
    }

    /// Whoever wants all members of a room is not shown it before they are known, which is a change of the room.
    async fn hold_back(&self, views: &mut Views) -> Result<()> {
        let mut held_back = Vec::new();
        for (room_id, (entry, wanted)) in &views.rooms {
            let wants_members = entry.is_joined() && wanted.required.wants_all_members();
            if wants_members && !self.members_known(room_id).await?.all {
                held_back.push(room_id.clone());
            }
        }
        for room_id in held_back {
            views.rooms.remove(&room_id);
        }
        Ok(())
    }

    async fn sliding_rooms(
        &self,
        asked: &Asked<'_>,
        query: &SlidingQuery,
        views: &Views,
        changes: &ByRoom<'_>,
        told: &mut Told,
    ) -> Result<BTreeMap<OwnedRoomId, SlidingRoom>> {
        if !query.wants_rooms() {
            return Ok(BTreeMap::new());
        }
        let before = told.rooms.clone();
        let due = views.rooms.iter().map(|(room_id, (entry, wanted))| {
            let changes = changes.get(room_id).copied();
            Asking { entry, wanted, told: before.get(room_id), changes }
        });
        // Boxed, for the compiler cannot tell otherwise that futures with so many borrows may go from thread to thread.
        let due = due.filter(Asking::is_due).map(|asking| self.sliding_one(asked, asking).boxed());
        let due: Vec<_> = due.collect();
        let mut built = stream::iter(due).buffered(ROOMS_AT_ONCE);
        let mut rooms = BTreeMap::new();
        while let Some((room_id, room, now_told)) = built.try_next().await? {
            told.rooms.insert_mut(room_id.clone(), now_told);
            rooms.extend(room.map(|room| (room_id, room)));
        }
        for (room_id, changes) in changes {
            let is_over = matches!(changes.record.membership, MembershipState::Leave | MembershipState::Ban);
            let was_in = asked.since.is_some() && changes.left_at.is_some();
            let known = before.get(*room_id);
            if is_over && (known.is_some() || was_in) && !views.rooms.contains_key(*room_id) {
                told.rooms.remove_mut(*room_id);
                let after = known.and_then(|told| told.up_to).or(asked.since);
                rooms.extend(
                    self.sliding_left(asked, room_id, after, None).await?.map(|room| ((*room_id).clone(), room)),
                );
            }
        }
        Ok(rooms)
    }

    async fn sliding_one(
        &self,
        asked: &Asked<'_>,
        asking: Asking<'_>,
    ) -> Result<(OwnedRoomId, Option<SlidingRoom>, RoomTold)> {
        let room_id = asking.entry.room_id.clone();
        let mut now_told = asking.now_told(asked);
        // What others have read changes nothing in the room.
        let is_silent = !asking.has_news() && !self.has_read(asked, &asking).await?;
        let room = if is_silent {
            None
        } else if asking.entry.is_joined() {
            let built = self.sliding_room(asked, &asking).await?;
            built.map(|built| {
                now_told.members = Arc::new(built.members);
                built.room
            })
        } else if asking.entry.is_over() {
            let after = asking.told.and_then(|told| told.up_to.or(asked.since));
            self.sliding_left(asked, &room_id, after, Some(asking.wanted)).await?
        } else {
            self.sliding_invited(asked, &asking).await?
        };
        Ok((room_id, room, now_told))
    }
}

impl Asking<'_> {
    /// What the client knows once it is told.
    fn now_told(&self, asked: &Asked<'_>) -> RoomTold {
        let Wanted { timeline_limit, required, .. } = self.wanted;
        let now_told = RoomTold {
            up_to: None,
            timeline_limit: *timeline_limit,
            required: required.clone(),
            members: Arc::default(),
            is_dm: self.entry.is_dm,
            account_data: Seen::Nothing,
            receipts: Seen::Nothing,
            missed_typing: false,
        };
        let Some(told) = self.told.filter(|_| self.from(asked).is_some()) else { return now_told };
        RoomTold {
            // Asking for less and then for more again is no reason to be told everything again.
            timeline_limit: told.timeline_limit.max(*timeline_limit),
            required: if told.required == *required { told.required.clone() } else { required.clone() },
            members: told.members.clone(),
            account_data: told.account_data,
            receipts: told.receipts,
            missed_typing: told.missed_typing,
            ..now_told
        }
    }
}

/// Whether anything may have happened that sliding sync tells of, which does not tell of presence.
fn is_news(told: &Told, listener: &mut Listener) -> bool {
    let presence = listener.presence();
    told.token.is_none_or(|token| listener.may_have_news(SyncToken { presence, ..token }))
}

/// Rooms that the client was told of, but does not look at now: what happened there is still to be told.
fn note_missed(told: &mut Told, views: &Views, changes: &Changes, since: Option<rules::change::Position>) {
    let Some(since) = since else { return };
    for changes in changes.rooms.iter().filter(|room| room.parts.timeline) {
        let room_id = &changes.record.room_id;
        let Some(room) = told.rooms.get(room_id).filter(|_| !views.rooms.contains_key(room_id)) else { continue };
        if changes.base == Base::Nothing {
            // Who was away in between starts anew.
            told.rooms.remove_mut(room_id);
        } else if room.up_to.is_none() {
            told.note(room_id, |room| room.up_to = Some(since));
        }
    }
}
