//! One room, as sliding sync shows it: all of it at first, and after that what is new.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use rules::{RoomSnapshot, change::Position, room::StateKey};
use ruma::{
    OwnedEventId, OwnedUserId, RoomId,
    events::{AnySyncStateEvent, StateEventType},
    serde::Raw,
};
use serde::Deserialize;
use storage::StoredEvent;

use super::{
    connections::RoomTold,
    index::Entry,
    request::{RequiredState, Wanted},
    response::{Hero, SlidingRoom},
};
use crate::{
    ClientEvent, Engine, Requester, Result,
    push::shown,
    sync::{
        changes::RoomChanges,
        state::senders,
        summary,
        timeline::{Span, Window},
    },
};

/// How many members that are loaded lazily are remembered as told, for each room of a connection.
const LAZY_MEMBERS_MAX: usize = 200;

/// What all rooms of one answer have in common.
pub(super) struct Asked<'a> {
    pub(super) requester: &'a Requester,
    pub(super) now: Position,
    /// Up to where the client was told everything, if it was told anything.
    pub(super) since: Option<Position>,
    /// Whose events the user does not want to see.
    pub(super) ignored: HashSet<OwnedUserId>,
}

/// One room of an answer.
pub(super) struct Asking<'a> {
    pub(super) entry: &'a Entry,
    pub(super) wanted: &'a Wanted,
    pub(super) told: Option<&'a RoomTold>,
    pub(super) changes: Option<&'a RoomChanges>,
    pub(super) is_dm: bool,
}

/// What the client is told, and what it then knows.
pub(super) struct Built {
    pub(super) room: SlidingRoom,
    pub(super) members: HashSet<OwnedUserId>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Member {
    displayname: serde_json::Value,
    avatar_url: serde_json::Value,
}

impl Asking<'_> {
    /// From where on the room is new to the client; `None` when all of it is.
    fn from(&self, asked: &Asked<'_>) -> Option<Position> {
        let told = self.told?;
        let from = told.up_to.or(asked.since)?;
        // Who was away in between starts anew.
        let has_come_back = self.entry.record.position > from;
        (!has_come_back).then_some(from)
    }

    fn is_expanded(&self) -> bool {
        self.told.is_some_and(|told| told.timeline_limit < self.wanted.timeline_limit)
    }

    /// Whether there may be anything to tell.
    pub(super) fn is_due(&self) -> bool {
        let Some(told) = self.told else { return true };
        let has_changed = self.changes.is_some_and(|changes| {
            changes.parts.timeline || changes.parts.receipts || changes.base == crate::sync::state::Base::Nothing
        });
        told.up_to.is_some() || self.is_expanded() || !told.required.includes(&self.wanted.required) || has_changed
    }
}

impl Engine {
    /// A room that the user is joined to. Nothing if there is nothing to tell.
    pub(super) async fn sliding_room(&self, asked: &Asked<'_>, asking: &Asking<'_>) -> Result<Option<Built>> {
        let record = &asking.entry.record;
        let room_id = &*record.room_id;
        let from = asking.from(asked);
        let Some(snapshot) = self.room(room_id).await? else { return Ok(None) };
        let window = self.sliding_window(asked, asking, from).await?;
        let (state, members) = self.sliding_state(asked, asking, from, &window).await?;
        let mut room = SlidingRoom::default();
        let is_affected = match from {
            Some(from) if from < asked.now => {
                let delta = self.storage().state_changes(room_id, from, asked.now).await?;
                let has_avatar = delta.iter().any(|entry| entry.event_type == StateEventType::RoomAvatar);
                has_avatar || summary::is_affected(&delta)
            }
            Some(_) => false,
            None => true,
        };
        if is_affected {
            self.add_summary(asked, &snapshot, &mut room).await?;
        }
        let orders = window.events.iter().filter_map(|seen| seen.event.order);
        let num_live = orders.filter(|order| asked.since.is_some_and(|since| *order > since)).count();
        let is_told = !window.events.is_empty() || !state.is_empty() || is_affected || from.is_none();
        if !is_told && !self.has_read(asked, asking, from).await? {
            return Ok(None);
        }
        room.unread = shown(self.unread(&asked.requester.user_id, room_id).await?.total());
        room.initial = from.is_none().then_some(true);
        room.unstable_expanded_timeline = asking.is_expanded() && from.is_some();
        room.is_dm = asking.is_dm.then_some(true);
        room.bump_stamp = u64::try_from(asking.entry.bump).ok();
        room.num_live = Some(num_live as u64);
        if !window.events.is_empty() || from.is_none() {
            room.limited = Some(window.limited);
            room.prev_batch = Some(window.start.to_string());
        }
        let events = self.client_events(asked.requester, &window.events, false).await?;
        room.timeline = events.into_iter().map(ClientEvent::into_raw).collect();
        room.required_state = state;
        Ok(Some(Built { room, members }))
    }

    /// A room that the user has left, or was removed from, and that the client was told of.
    pub(super) async fn sliding_left(&self, asked: &Asked<'_>, changes: &RoomChanges) -> Result<SlidingRoom> {
        let record = &changes.record;
        let window = match changes.left_at {
            Some(until) => {
                let span = Span {
                    room_id: &record.room_id,
                    user_id: &asked.requester.user_id,
                    after: changes.told,
                    until,
                    joined_since: None,
                };
                self.window(span, 10, &|pdu| asked.wants(pdu)).await?
            }
            None => Window::empty(asked.now),
        };
        let mut room = SlidingRoom::default();
        let events = self.client_events(asked.requester, &window.events, false).await?;
        room.timeline = events.into_iter().map(ClientEvent::into_raw).collect();
        room.limited = Some(window.limited);
        room.prev_batch = Some(window.start.to_string());
        room.num_live = Some(window.events.len() as u64);
        room.bump_stamp = u64::try_from(record.position).ok();
        let member = self.stored_event(&record.event_id).await?;
        let member: Vec<Arc<StoredEvent>> = member.into_iter().collect();
        room.required_state = self.raw_state(&member).await?;
        Ok(room)
    }

    /// A room that the user is invited to, or has knocked on.
    pub(super) async fn sliding_invited(&self, asking: &Asking<'_>) -> Result<SlidingRoom> {
        let record = &asking.entry.record;
        Ok(SlidingRoom {
            bump_stamp: u64::try_from(asking.entry.bump).ok(),
            name: asking.entry.traits.name.clone(),
            initial: Some(true),
            is_dm: asking.is_dm.then_some(true),
            invite_state: Some(self.stripped_state_of(record).await?),
            ..SlidingRoom::default()
        })
    }

    async fn sliding_window(&self, asked: &Asked<'_>, asking: &Asking<'_>, from: Option<Position>) -> Result<Window> {
        let record = &asking.entry.record;
        let limit = asking.wanted.timeline_limit;
        let after = if asking.is_expanded() { None } else { from };
        if after.is_some_and(|after| after >= asked.now) {
            return Ok(Window::empty(asked.now));
        }
        let span = Span {
            room_id: &record.room_id,
            user_id: &asked.requester.user_id,
            after,
            until: asked.now,
            joined_since: Some(record.position),
        };
        self.window(span, limit, &|pdu| asked.wants(pdu)).await
    }

    /// The state that is wanted and new to the client, and the members whom it knows then.
    async fn sliding_state(
        &self,
        asked: &Asked<'_>,
        asking: &Asking<'_>,
        from: Option<Position>,
        window: &Window,
    ) -> Result<(Vec<Raw<AnySyncStateEvent>>, HashSet<OwnedUserId>)> {
        let required = &asking.wanted.required;
        let told = asking.told.filter(|_| from.is_some());
        let known = told.map(|told| told.members.clone()).unwrap_or_default();
        let lazy: BTreeSet<OwnedUserId> = if required.lazy { senders(&window.events) } else { BTreeSet::new() };
        let new: HashSet<&str> = lazy.iter().filter(|id| !known.contains(*id)).map(|id| id.as_str()).collect();
        let is_lazy = |key: &StateKey| key.0 == StateEventType::RoomMember && new.contains(key.1.as_str());
        let room_id = &*asking.entry.record.room_id;
        let event_ids = match told {
            None => self.values(room_id, asked.now, &|key| required.wants(key) || is_lazy(key)).await?,
            Some(told) => {
                let mut found = self.changed_state(asked, room_id, from, &known, required).await?;
                if !told.required.includes(required) {
                    let is_new = |key: &StateKey| required.wants(key) && !told.required.wants(key);
                    found.extend(self.values(room_id, asked.now, &is_new).await?);
                }
                if !new.is_empty() {
                    found.extend(self.values(room_id, asked.now, &is_lazy).await?);
                }
                found
            }
        };
        let unique: BTreeSet<OwnedEventId> = event_ids.into_iter().collect();
        let events = self.storage().events(&unique.into_iter().collect::<Vec<_>>()).await?;
        let mut members: HashSet<OwnedUserId> = known.iter().cloned().chain(lazy).collect();
        if members.len() > LAZY_MEMBERS_MAX {
            members = senders(&window.events).into_iter().collect();
        }
        Ok((self.raw_state(&events).await?, members))
    }

    async fn values(
        &self,
        room_id: &RoomId,
        now: Position,
        wanted: &(dyn Fn(&StateKey) -> bool + Sync),
    ) -> Result<Vec<OwnedEventId>> {
        Ok(self.state_values(room_id, now, wanted).await?.into_values().collect())
    }

    /// What of the wanted state has changed. Members who were told lazily are told of when they change.
    async fn changed_state(
        &self,
        asked: &Asked<'_>,
        room_id: &RoomId,
        from: Option<Position>,
        known: &HashSet<OwnedUserId>,
        required: &RequiredState,
    ) -> Result<Vec<OwnedEventId>> {
        let Some(from) = from.filter(|from| *from < asked.now) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for entry in self.storage().state_changes(room_id, from, asked.now).await? {
            let key = (entry.event_type, entry.state_key);
            let is_known = key.0 == StateEventType::RoomMember && known.iter().any(|id| id.as_str() == key.1);
            if required.wants(&key) || is_known {
                found.extend(entry.event_id);
            }
        }
        Ok(found)
    }

    async fn raw_state(&self, events: &[Arc<StoredEvent>]) -> Result<Vec<Raw<AnySyncStateEvent>>> {
        let served = self.client_state(events, false).await?;
        Ok(served.into_iter().map(ClientEvent::into_raw).collect())
    }

    async fn add_summary(&self, asked: &Asked<'_>, snapshot: &RoomSnapshot, room: &mut SlidingRoom) -> Result<()> {
        room.joined_count = Some(snapshot.joined_count());
        room.invited_count = Some(snapshot.invited_count());
        let name = self.state_pdu(snapshot, &StateEventType::RoomName, "").await?;
        room.name = name.and_then(|event| event.content_str("name"));
        room.name = room.name.take().filter(|name| !name.is_empty());
        let avatar = self.state_pdu(snapshot, &StateEventType::RoomAvatar, "").await?;
        room.avatar = avatar.map(|event| event.content_str("url").into());
        if room.name.is_none() {
            let heroes = self.summary(snapshot, &asked.requester.user_id).await?.heroes;
            room.heroes = Some(self.heroes_with_profiles(snapshot, heroes).await?);
        }
        Ok(())
    }

    async fn heroes_with_profiles(&self, snapshot: &RoomSnapshot, heroes: Vec<OwnedUserId>) -> Result<Vec<Hero>> {
        let mut told = Vec::with_capacity(heroes.len());
        for user_id in heroes {
            let event = self.state_pdu(snapshot, &StateEventType::RoomMember, user_id.as_str()).await?;
            let member: Member = event.and_then(|event| event.content_as()).unwrap_or_default();
            let text = |value: serde_json::Value| value.as_str().map(ToOwned::to_owned);
            told.push(Hero { user_id, displayname: text(member.displayname), avatar_url: text(member.avatar_url) });
        }
        Ok(told)
    }

    /// Whether the user has read on in a room, so that there is less to be read.
    async fn has_read(&self, asked: &Asked<'_>, asking: &Asking<'_>, from: Option<Position>) -> Result<bool> {
        if !asking.changes.is_some_and(|changes| changes.parts.receipts) {
            return Ok(false);
        }
        let room_id = &asking.entry.record.room_id;
        let receipts = self.storage().receipts_since(room_id, from.unwrap_or(0), asked.now).await?;
        Ok(receipts.iter().any(|receipt| receipt.user_id == asked.requester.user_id))
    }
}

impl Asked<'_> {
    fn wants(&self, pdu: &rules::Pdu) -> bool {
        pdu.state_key.is_some() || !self.ignored.contains(&pdu.sender)
    }
}
