//! One room, as sliding sync shows it: all of it at first, and after that what is new.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use rules::{
    RoomSnapshot,
    change::{Position, StateEntry},
    room::StateKey,
};
use ruma::{
    OwnedEventId, OwnedUserId, RoomId, UserId,
    events::{AnySyncStateEvent, StateEventType},
    serde::Raw,
};
use serde::Deserialize;
use storage::StoredEvent;

use super::{
    connections::RoomTold,
    entry::Entry,
    request::Wanted,
    required::RequiredState,
    response::{Hero, SlidingRoom},
};
use crate::{
    ClientEvent, Engine, Requester, Result,
    push::shown,
    rooms::SeenEvent,
    sync::{
        changes::RoomChanges,
        state::{Base, member_key, senders},
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
    pub(super) fn from(&self, asked: &Asked<'_>) -> Option<Position> {
        let told = self.told?;
        // Who was away in between starts anew.
        let was_away = self.changes.is_some_and(|changes| changes.base == Base::Nothing);
        told.up_to.or(asked.since).filter(|_| !was_away)
    }

    fn is_expanded(&self) -> bool {
        self.told.is_some_and(|told| told.timeline_limit < self.wanted.timeline_limit)
    }

    fn is_dm_changed(&self) -> bool {
        self.told.is_some_and(|told| told.is_dm != self.entry.is_dm)
    }

    /// Whether there may be anything to tell.
    pub(super) fn is_due(&self) -> bool {
        if self.told.is_some() && !self.entry.is_joined() {
            return self.changes.is_some_and(|changes| changes.parts.timeline);
        }
        self.has_news() || self.changes.is_some_and(|changes| changes.parts.receipts)
    }

    /// Whether there may be anything to tell but that the user has read on.
    pub(super) fn has_news(&self) -> bool {
        let Some(told) = self.told else { return true };
        let has_changed = self.changes.is_some_and(|changes| changes.parts.timeline || changes.base == Base::Nothing);
        has_changed
            || told.up_to.is_some()
            || self.is_expanded()
            || self.is_dm_changed()
            || !told.required.includes(&self.wanted.required)
    }
}

impl Engine {
    /// A room that the user is joined to. Nothing if there is nothing to tell.
    pub(super) async fn sliding_room(&self, asked: &Asked<'_>, asking: &Asking<'_>) -> Result<Option<Built>> {
        let room_id = &*asking.entry.room_id;
        let from = asking.from(asked);
        let Some(snapshot) = self.room(room_id).await? else { return Ok(None) };
        let window = self.sliding_window(asked, asking, from).await?;
        let delta = match from {
            Some(from) if from < asked.now => self.storage().state_changes(room_id, from, asked.now).await?,
            _ => Vec::new(),
        };
        let has_avatar = delta.iter().any(|entry| entry.event_type == StateEventType::RoomAvatar);
        let became_known = from.is_none_or(|from| snapshot.complete_since > from);
        let is_affected = became_known || has_avatar || summary::is_affected(&delta);
        let (state, members) = self.sliding_state(asked, asking, from, &window, delta).await?;
        let mut room = SlidingRoom::default();
        if is_affected {
            self.add_summary(asked, &snapshot, &mut room).await?;
        }
        let orders = window.events.iter().filter_map(|seen| seen.event.order);
        let num_live = orders.filter(|order| asked.since.is_some_and(|since| *order > since)).count();
        let is_told = !window.events.is_empty() || !state.is_empty() || is_affected || asking.is_dm_changed();
        if !is_told && from.is_some() && !self.has_read(asked, asking).await? {
            return Ok(None);
        }
        room.unread = shown(self.unread(&asked.requester.user_id, room_id).await?.total());
        room.initial = from.is_none().then_some(true);
        room.unstable_expanded_timeline = asking.is_expanded() && from.is_some();
        room.is_dm = (asking.entry.is_dm || asking.is_dm_changed()).then_some(asking.entry.is_dm);
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

    async fn sliding_window(&self, asked: &Asked<'_>, asking: &Asking<'_>, from: Option<Position>) -> Result<Window> {
        let entry = asking.entry;
        let limit = asking.wanted.timeline_limit;
        let after = if asking.is_expanded() { None } else { from };
        if after.is_some_and(|after| after >= asked.now) {
            return Ok(Window::empty(asked.now));
        }
        let span = Span {
            room_id: &entry.room_id,
            user_id: &asked.requester.user_id,
            after,
            until: asked.now,
            joined_since: Some(entry.position),
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
        delta: Vec<StateEntry>,
    ) -> Result<(Vec<Raw<AnySyncStateEvent>>, HashSet<OwnedUserId>)> {
        let required = &asking.wanted.required;
        let told = asking.told.filter(|_| from.is_some());
        let known = told.map(|told| told.members.clone()).unwrap_or_default();
        let lazy: BTreeSet<OwnedUserId> = if required.lazy { concerned(&window.events) } else { BTreeSet::new() };
        let room_id = &*asking.entry.room_id;
        let mut event_ids = match told {
            None => self.values(room_id, asked.now, &|key| required.wants(key)).await?,
            Some(told) => {
                // Without a gap, the client can keep its list of members up to date.
                let is_kept = |member: &str| {
                    !window.limited && required.lazy || <&UserId>::try_from(member).is_ok_and(|id| known.contains(id))
                };
                let mut found = changed_state(delta, &is_kept, required);
                if !told.required.includes(required) {
                    let is_new = |key: &StateKey| required.wants(key) && !told.required.wants(key);
                    found.extend(self.values(room_id, asked.now, &is_new).await?);
                }
                found
            }
        };
        let new: Vec<StateKey> = lazy.iter().filter(|id| !known.contains(*id)).map(member_key).collect();
        event_ids.extend(self.values_of(room_id, asked.now, &new).await?.into_values());
        let unique: BTreeSet<OwnedEventId> = event_ids.into_iter().collect();
        let events = self.storage().readable_events(&unique.into_iter().collect::<Vec<_>>()).await?;
        let mut members: HashSet<OwnedUserId> = known.iter().cloned().chain(lazy).collect();
        if members.len() > LAZY_MEMBERS_MAX {
            members = concerned(&window.events).into_iter().collect();
        }
        Ok((self.raw_state(&events).await?, members))
    }

    pub(super) async fn values(
        &self,
        room_id: &RoomId,
        now: Position,
        wanted: &(dyn Fn(&StateKey) -> bool + Sync),
    ) -> Result<Vec<OwnedEventId>> {
        Ok(self.state_values(room_id, now, wanted).await?.into_values().collect())
    }

    pub(super) async fn raw_state(&self, events: &[Arc<StoredEvent>]) -> Result<Vec<Raw<AnySyncStateEvent>>> {
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
    pub(super) async fn has_read(&self, asked: &Asked<'_>, asking: &Asking<'_>) -> Result<bool> {
        let Some(from) = asking.from(asked).filter(|_| asking.changes.is_some_and(|changes| changes.parts.receipts))
        else {
            return Ok(false);
        };
        let (user_id, room_id) = (&asked.requester.user_id, &asking.entry.room_id);
        Ok(self.storage().read_changed(user_id, room_id).await? > from)
    }
}

impl Asked<'_> {
    pub(super) fn wants(&self, pdu: &rules::Pdu) -> bool {
        pdu.state_key.is_some() || !self.ignored.contains(&pdu.sender)
    }
}

/// What has changed of the wanted state, and of the members that the client knows.
fn changed_state(delta: Vec<StateEntry>, knows: &dyn Fn(&str) -> bool, required: &RequiredState) -> Vec<OwnedEventId> {
    let is_told = |entry: StateEntry| {
        let key = (entry.event_type, entry.state_key);
        let is_known = key.0 == StateEventType::RoomMember && knows(&key.1);
        entry.event_id.filter(|_| is_known || required.wants(&key))
    };
    delta.into_iter().filter_map(is_told).collect()
}

/// Who sent some events, and whose membership they change.
fn concerned(events: &[SeenEvent]) -> BTreeSet<OwnedUserId> {
    let mut users = senders(events);
    users.extend(events.iter().filter_map(|seen| seen.event.pdu.membership()).map(|(user_id, _)| user_id.clone()));
    users
}
