//! Sliding sync: windows on the rooms of a user, latest first, and what is new in those that the client looks at.
//!
//! Proposal: <https://github.com/matrix-org/matrix-spec-proposals/pull/4186>. What changed between two points is found
//! out as for the other kind of sync; here is only what the client was told, which rooms it looks at, and how they are
//! shown.

mod connections;
mod devices;
mod extensions;
mod index;
mod lists;
mod request;
mod response;
mod room;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use ruma::{OwnedRoomId, events::room::member::MembershipState};
use storage::AccountDataRecord;
use tokio::time::Instant;

pub(crate) use self::connections::Connections;
use self::{
    connections::{RoomTold, Told},
    extensions::Telling,
    index::RoomIndex,
    lists::Views,
    room::{Asked, Asking},
};
pub use self::{
    request::{
        Extensions, LimitedExtension, List, ListFilters, RoomDetails, RoomExtension, SlidingQuery, Switch,
        ToDeviceQuery,
    },
    response::{
        AccountDataExtension, EncryptionExtension, Hero, ListCount, RoomsExtension, SlidingExtensions, SlidingResponse,
        SlidingRoom, ThreadSubscriptionsExtension, ToDeviceExtension,
    },
};
use super::{
    CATCH_UP_MAX, TIMEOUT_MAX_MS, Waiting,
    active::Listener,
    changes::{Changes, RoomChanges, Selection},
};
use crate::{Engine, EngineError, Requester, Result, accounts::hides_invitations};

/// How many rooms of one answer are worked on at the same time: as many as the database has readers, usually.
const ROOMS_AT_ONCE: usize = 4;
/// How long the name of a connection is, in characters.
const NONCE_LENGTH: usize = 12;

/// An answer, and what the client was told with it.
struct Answer {
    response: SlidingResponse,
    told: Told,
    index: Option<Arc<RoomIndex>>,
}

impl Engine {
    /// What is new for one connection of a device. Waits for something to happen, up to the timeout, unless the
    /// connection starts anew.
    pub async fn sliding_sync(&self, requester: &Requester, query: SlidingQuery) -> Result<SlidingResponse> {
        query.check()?;
        let deadline = Instant::now() + Duration::from_millis(query.timeout_ms.min(TIMEOUT_MAX_MS));
        let conn_id = query.conn_id.as_deref().unwrap_or_default();
        let (told, index) = match &query.pos {
            Some(pos) => {
                let resumed = self.inner.sync.connections.resume(requester, conn_id, pos);
                resumed.ok_or(EngineError::UnknownPos)?
            }
            None => (Arc::default(), None),
        };
        let mut listener = self.listen(&requester.user_id).await?;
        let _attendance = self.attend(requester, query.set_presence.as_ref());
        // What the device itself just did must be in the answer.
        if !self.inner.sync.caught_up(self.storage().head(), CATCH_UP_MAX).await {
            return Err(EngineError::Busy);
        }
        let start = Answer { response: SlidingResponse::default(), told: (*told).clone(), index };
        let mut answer = self.sliding_answer(requester, &query, start, &mut listener, deadline).await?;
        let nonce = || self.world().random_string(NONCE_LENGTH);
        let (told, index) = (Arc::new(answer.told), answer.index);
        let connections = &self.inner.sync.connections;
        answer.response.pos = connections.keep(requester, conn_id, query.pos.as_deref(), nonce, told, index);
        answer.response.txn_id = query.txn_id;
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
        let mut more_waits = self.acknowledge(requester, query, &answer.told).await?;
        loop {
            let is_news = answer.told.token.is_none_or(|token| listener.may_have_news(token));
            if is_news || answer.told.fingerprint != fingerprint || std::mem::take(&mut more_waits) {
                let _turn = listener.turn().await?;
                let (is_first, counts) = (answer.told.token.is_none(), answer.told.counts.clone());
                answer = self.sliding_response(requester, query, answer.told, answer.index).await?;
                answer.told.fingerprint = fingerprint;
                if is_first || !answer.response.is_empty() || answer.told.counts != counts {
                    return Ok(answer);
                }
            }
            answer.response.lists.clone_from(&answer.told.counts);
            let _waiting = Waiting::begin();
            tokio::select! {
                () = listener.changed() => {}
                () = tokio::time::sleep_until(deadline) => break,
                _ = stopping.wait_for(|stopping| *stopping) => break,
            }
        }
        self.complete_extensions(requester, query, &mut answer.response.extensions).await?;
        Ok(answer)
    }

    /// What is new for somebody who was told this.
    async fn sliding_response(
        &self,
        requester: &Requester,
        query: &SlidingQuery,
        mut told: Told,
        index: Option<Arc<RoomIndex>>,
    ) -> Result<Answer> {
        let selection = Selection { room: &|_| true, left: false, unchanged: false };
        let changes = self.changes(&requester.user_id, told.token, &selection).await?;
        let wants_rooms = !query.lists.is_empty() || !query.room_subscriptions.is_empty();
        let index = if wants_rooms { Some(self.index_for(requester, index, &changes).await?) } else { None };
        let views = match &index {
            Some(index) => self.views(&requester.user_id, query, index).await?,
            None => Views::default(),
        };
        let since = told.token.map(|token| token.position);
        let asked = Asked { requester, now: changes.now.position, since, ignored: changes.ignored.clone() };
        let by_room = changes.rooms.iter().map(|changes| (&changes.record.room_id, changes)).collect();
        let rooms = match &index {
            Some(index) => self.sliding_rooms(&asked, index, &views, &by_room, &mut told).await?,
            None => BTreeMap::new(),
        };
        mark_missed(&mut told, &views, &changes, since);
        let telling = Telling { requester, query, views: &views, changes: &changes, since, rooms: &rooms };
        let extensions = self.sliding_extensions(&telling, &mut told).await?;
        told.token = Some(changes.now);
        told.counts.clone_from(&views.counts);
        let response = SlidingResponse { lists: views.counts, rooms, extensions, ..SlidingResponse::default() };
        Ok(Answer { response, told, index })
    }

    /// The rooms of the user, looked up anew where they changed.
    async fn index_for(
        &self,
        requester: &Requester,
        index: Option<Arc<RoomIndex>>,
        changes: &Changes,
    ) -> Result<Arc<RoomIndex>> {
        let Some(mut index) = index else { return Ok(Arc::new(self.room_index(&requester.user_id).await?)) };
        let news = changes.rooms.iter().filter(|room| room.parts.timeline);
        let records: Vec<_> = news.map(|room| room.record.clone()).collect();
        let changes_all = |record: &AccountDataRecord| hides_invitations(&record.event_type);
        if changes.account_data.iter().any(changes_all) {
            return Ok(Arc::new(self.room_index(&requester.user_id).await?));
        }
        let has_direct = changes.account_data.iter().any(|record| record.event_type == "m.direct");
        if !records.is_empty() || has_direct {
            let fresh = Arc::make_mut(&mut index);
            self.refresh_index(fresh, records).await?;
            if has_direct {
                fresh.direct = self.direct_rooms(&requester.user_id).await?;
            }
        }
        Ok(index)
    }

    async fn sliding_rooms(
        &self,
        asked: &Asked<'_>,
        index: &RoomIndex,
        views: &Views,
        changes: &HashMap<&OwnedRoomId, &RoomChanges>,
        told: &mut Told,
    ) -> Result<BTreeMap<OwnedRoomId, SlidingRoom>> {
        let before = told.rooms.clone();
        let due = views.rooms.iter().filter_map(|(room_id, wanted)| {
            let entry = index.rooms.get(room_id)?;
            let asking = Asking {
                entry,
                wanted,
                told: before.get(room_id),
                changes: changes.get(room_id).copied(),
                is_dm: index.direct.contains(room_id),
            };
            let is_ignored = !entry.is_joined() && asked.ignored.contains(&entry.record.sender);
            (asking.is_due() && !is_ignored).then_some(asking)
        });
        // Boxed, for the compiler cannot tell otherwise that futures with so many borrows may go from thread to thread.
        let due: Vec<_> = due.map(|asking| self.sliding_one(asked, asking).boxed()).collect();
        let mut built = stream::iter(due).buffered(ROOMS_AT_ONCE);
        let mut rooms = BTreeMap::new();
        while let Some((room_id, room, now_told)) = built.try_next().await? {
            told.rooms.insert_mut(room_id.clone(), now_told);
            rooms.extend(room.map(|room| (room_id, room)));
        }
        for (room_id, changes) in changes {
            let is_over = matches!(changes.record.membership, MembershipState::Leave | MembershipState::Ban);
            if is_over && told.rooms.contains_key(*room_id) {
                told.rooms.remove_mut(*room_id);
                rooms.insert((*room_id).clone(), self.sliding_left(asked, changes).await?);
            }
        }
        Ok(rooms)
    }

    async fn sliding_one(
        &self,
        asked: &Asked<'_>,
        asking: Asking<'_>,
    ) -> Result<(OwnedRoomId, Option<SlidingRoom>, RoomTold)> {
        let room_id = asking.entry.record.room_id.clone();
        let mut now_told = RoomTold {
            up_to: None,
            timeline_limit: asking.wanted.timeline_limit,
            required: Arc::new(asking.wanted.required.clone()),
            members: Arc::default(),
            has_account_data: asking.told.is_some_and(|told| told.has_account_data),
            has_receipts: asking.told.is_some_and(|told| told.has_receipts),
        };
        if let Some(told) = asking.told {
            // Asking for less and then for more again is no reason to be told everything again.
            now_told.timeline_limit = now_told.timeline_limit.max(told.timeline_limit);
            now_told.members = told.members.clone();
        }
        if !asking.entry.is_joined() {
            return Ok((room_id, Some(self.sliding_invited(&asking).await?), now_told));
        }
        let built = self.sliding_room(asked, &asking).await?;
        let room = built.map(|built| {
            now_told.members = Arc::new(built.members);
            built.room
        });
        Ok((room_id, room, now_told))
    }
}

/// Rooms that the client was told of, but does not look at now: what happened there is still to be told.
fn mark_missed(told: &mut Told, views: &Views, changes: &Changes, since: Option<rules::change::Position>) {
    let Some(since) = since else { return };
    let news = changes.rooms.iter().filter(|room| room.parts.timeline).map(|room| &room.record.room_id);
    for room_id in news.filter(|room_id| !views.rooms.contains_key(*room_id)) {
        if let Some(mut room) = told.rooms.get(room_id).filter(|room| room.up_to.is_none()).cloned() {
            room.up_to = Some(since);
            told.rooms.insert_mut(room_id.clone(), room);
        }
    }
}
