//! What the client of one user does: syncing from token to token, filling the gaps of limited timelines by pagination,
//! and keeping all that it was told.

use std::{collections::BTreeMap, ops::RangeInclusive};

use engine::{ClientEvent, Engine, MessagesQuery, Requester, SyncQuery};
use ruma::{
    OwnedEventId, OwnedRoomId, RoomId, UInt,
    api::client::{
        filter::{FilterDefinition, RoomEventFilter},
        sync::sync_events::v3::{JoinedRoom, LeftRoom, Response, State, Timeline},
    },
    serde::Raw,
};
use serde_json::Value;

use crate::{Failure, dice::Dice};

/// More pages than any gap has.
const PAGES_MAX: usize = 500;

/// A client that remembers.
pub(crate) struct Client {
    uses_state_after: bool,
    pub(crate) since: Option<String>,
    pub(crate) rooms: BTreeMap<OwnedRoomId, SeenRoom>,
}

/// What a client was told of a room.
#[derive(Default)]
pub(crate) struct SeenRoom {
    /// The times that the user was in the room, oldest first.
    pub(crate) stays: Vec<Stay>,
    /// Positions of which the client is not told what happened.
    pub(crate) untold: Vec<RangeInclusive<i64>>,
    /// The state that the client believes to be current, by type and state key; only if it uses `state_after`.
    pub(crate) state: Option<BTreeMap<(String, String), OwnedEventId>>,
}

/// What a client was told of one time that its user was in a room.
#[derive(Default)]
pub(crate) struct Stay {
    /// Whether the room is no longer among those that the user is in.
    pub(crate) over: bool,
    /// Whether it was over when the client first heard of it.
    pub(crate) over_at_once: bool,
    /// The events of the timeline, oldest first: those from before the user came in as far as the server shows them,
    /// then those that came while the user was in.
    pub(crate) events: Vec<OwnedEventId>,
    /// Up to which position the client knows the room.
    pub(crate) until: i64,
}

impl Client {
    pub(crate) fn new(uses_state_after: bool) -> Self {
        Self { uses_state_after, since: None, rooms: BTreeMap::new() }
    }

    /// Syncs once, and fills whatever gaps the answer has.
    pub(crate) async fn sync(
        &mut self,
        engine: &Engine,
        requester: &Requester,
        dice: &mut Dice,
    ) -> Result<(), Failure> {
        let limit = *dice.pick(&[1, 2, 3, 5, 10, 50]);
        let query = SyncQuery {
            since: self.since.clone(),
            filter: filter(limit),
            full_state: false,
            timeout_ms: 0,
            use_state_after: self.uses_state_after,
            ..SyncQuery::default()
        };
        let response = engine.sync(requester, &query).await?.response;
        self.take(engine, requester, response, dice).await
    }

    async fn take(
        &mut self,
        engine: &Engine,
        requester: &Requester,
        response: Response,
        dice: &mut Dice,
    ) -> Result<(), Failure> {
        let since = self.since.replace(response.next_batch.clone());
        let until = position(&response.next_batch)?;
        let pager = Pager { engine, requester, since, limit: dice.between(1, 20) };
        for (room_id, room) in response.rooms.join {
            self.take_joined(&pager, room_id, room, until).await?;
        }
        for (room_id, room) in response.rooms.leave {
            self.take_left(&pager, room_id, room, until).await?;
        }
        for room_id in response.rooms.invite.keys() {
            self.take_invited(room_id, until);
        }
        for stay in self.rooms.values_mut().filter_map(|room| room.stays.last_mut()).filter(|stay| !stay.over) {
            stay.until = until;
        }
        Ok(())
    }

    async fn take_joined(
        &mut self,
        pager: &Pager<'_>,
        room_id: OwnedRoomId,
        room: JoinedRoom,
        until: i64,
    ) -> Result<(), Failure> {
        let seen = self.rooms.entry(room_id.clone()).or_default();
        let is_new = seen.stays.last().is_none_or(|stay| stay.over);
        if is_new {
            seen.stays.push(Stay::default());
            seen.state = self.uses_state_after.then(BTreeMap::new);
        }
        let events = pager.whole(&room_id, &room.timeline, seen, is_new).await?;
        if let Some(stay) = seen.stays.last_mut() {
            stay.events.extend(events);
            stay.until = until;
        }
        seen.take_state(&room.state)
    }

    /// Out and invited again between two syncs: the answer has no place for what happened before the user left.
    fn take_invited(&mut self, room_id: &RoomId, until: i64) {
        let Some(seen) = self.rooms.get_mut(room_id) else { return };
        if let Some(stay) = seen.stays.last_mut().filter(|stay| !stay.over) {
            seen.untold.push(stay.until + 1..=until);
            stay.over = true;
        }
        seen.state = None;
    }

    async fn take_left(
        &mut self,
        pager: &Pager<'_>,
        room_id: OwnedRoomId,
        room: LeftRoom,
        until: i64,
    ) -> Result<(), Failure> {
        let seen = self.rooms.entry(room_id.clone()).or_default();
        let is_new = seen.stays.last().is_none_or(|stay| stay.over);
        // Else in and out between two syncs, or an invitation that came to nothing.
        if is_new {
            seen.stays.push(Stay { over_at_once: true, ..Stay::default() });
        }
        let events = pager.whole(&room_id, &room.timeline, seen, is_new).await?;
        if let Some(stay) = seen.stays.last_mut() {
            stay.events.extend(events);
            stay.over = true;
            stay.until = until;
        }
        seen.state = None;
        Ok(())
    }
}

impl Stay {
    /// Whether it was none: all that was told is that an invitation came to nothing, or that the user was banned.
    pub(crate) fn is_notice(&self) -> bool {
        self.over_at_once && self.events.len() <= 1
    }
}

impl SeenRoom {
    /// All events that were told.
    pub(crate) fn heard(&self) -> impl Iterator<Item = &OwnedEventId> {
        self.stays.iter().flat_map(|stay| &stay.events)
    }

    /// All events that were told as part of the room's timeline: those of notices may come again with it.
    pub(crate) fn told(&self) -> impl Iterator<Item = &OwnedEventId> {
        self.stays.iter().filter(|stay| !stay.is_notice()).flat_map(|stay| &stay.events)
    }

    fn take_state(&mut self, state: &State) -> Result<(), Failure> {
        let (Some(known), State::After(after)) = (&mut self.state, state) else { return Ok(()) };
        for event in &after.events {
            let event: Value = serde_json::from_str(event.json().get()).map_err(Failure::new)?;
            let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
            let event_id = text("event_id").try_into().map_err(Failure::new)?;
            known.insert((text("type"), text("state_key")), event_id);
        }
        Ok(())
    }
}

/// Reads what a limited timeline left out.
struct Pager<'a> {
    engine: &'a Engine,
    requester: &'a Requester,
    since: Option<String>,
    limit: usize,
}

impl Pager<'_> {
    /// The events of a timeline and those that it left out: since the last sync, or, where the room was not among those
    /// that the user is in, all that were not told at an earlier time.
    async fn whole(
        &self,
        room_id: &RoomId,
        timeline: &Timeline,
        seen: &SeenRoom,
        is_new: bool,
    ) -> Result<Vec<OwnedEventId>, Failure> {
        let mut events = Vec::new();
        if timeline.limited {
            let from = timeline.prev_batch.clone();
            let from = from.ok_or_else(|| Failure::new("a limited timeline without prev_batch"))?;
            let to = if is_new { None } else { self.since.clone() };
            events = page_back(self.engine, self.requester, room_id, Some(from), to, self.limit).await?;
            events.reverse();
            if is_new {
                events.retain(|event_id| seen.told().all(|told| told != event_id));
            }
        }
        events.extend(ids(&timeline.events)?);
        Ok(events)
    }
}

/// Reads a timeline backwards as far as it goes: newest first.
pub(crate) async fn page_back(
    engine: &Engine,
    requester: &Requester,
    room_id: &RoomId,
    mut from: Option<String>,
    to: Option<String>,
    limit: usize,
) -> Result<Vec<OwnedEventId>, Failure> {
    let mut events = Vec::new();
    for _ in 0..PAGES_MAX {
        let query = MessagesQuery {
            room_id: room_id.to_owned(),
            from,
            to: to.clone(),
            forward: false,
            limit,
            filter: RoomEventFilter::default(),
        };
        let page = engine.messages(requester, query).await?;
        for event in &page.chunk {
            events.push(id_of(event)?);
        }
        match page.end {
            None => return Ok(events),
            end => from = end,
        }
    }
    Err(Failure::new(format!("pagination of {room_id} for {} does not end", requester.user_id)))
}

/// The id of an event.
pub(crate) fn id_of(event: &ClientEvent) -> Result<OwnedEventId, Failure> {
    let event: Value = serde_json::from_str(event.get()).map_err(Failure::new)?;
    event["event_id"].as_str().unwrap_or_default().try_into().map_err(Failure::new)
}

fn ids<T>(events: &[Raw<T>]) -> Result<Vec<OwnedEventId>, Failure> {
    let id = |event: &Raw<T>| event.get_field("event_id").map_err(Failure::new)?.ok_or_else(no_id);
    events.iter().map(id).collect()
}

fn no_id() -> Failure {
    Failure::new("an event without an id")
}

/// A filter that limits timelines.
pub(crate) fn filter(limit: u32) -> FilterDefinition {
    let mut filter = FilterDefinition::default();
    filter.room.timeline.limit = Some(UInt::from(limit));
    filter
}

/// The position in a token: tests may know what clients must not.
fn position(token: &str) -> Result<i64, Failure> {
    let number = token.strip_prefix('s').and_then(|rest| rest.split('_').next()).and_then(|text| text.parse().ok());
    number.ok_or_else(|| Failure::new(format!("{token:?} is not of the form that was expected")))
}
