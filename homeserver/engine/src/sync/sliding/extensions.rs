//! What sliding sync tells besides rooms: account data, receipts, who is typing.

use std::collections::{BTreeMap, HashSet};

use rules::change::Position;
use ruma::{
    OwnedEventId, OwnedRoomId,
    api::client::filter::{Filter, RoomEventFilter},
    serde::Raw,
};
use storage::{AccountDataRecord, ReceiptRecord};

use super::{
    connections::{Seen, Told},
    lists::Views,
    request::{RoomExtension, SlidingQuery},
    response::{AccountDataExtension, RoomsExtension, SlidingExtensions, SlidingRoom, ThreadSubscriptionsExtension},
};
use crate::{
    Engine, Requester, Result, ThreadSubscriptionChanges,
    accounts::is_deleted,
    rooms::{PAGE_SUBSCRIPTIONS_MAX, Untold},
    sync::{
        changes::{Changes, RoomChanges, show_push_rules},
        ephemeral, v3,
    },
};

/// What extensions are made from.
pub(super) struct Telling<'a> {
    pub(super) requester: &'a Requester,
    pub(super) query: &'a SlidingQuery,
    pub(super) views: &'a Views,
    pub(super) changes: &'a Changes,
    pub(super) by_room: &'a BTreeMap<&'a OwnedRoomId, &'a RoomChanges>,
    pub(super) since: Option<Position>,
    /// The rooms of the answer.
    pub(super) rooms: &'a BTreeMap<OwnedRoomId, SlidingRoom>,
}

impl Telling<'_> {
    fn covers(&self, extension: &RoomExtension, room_id: &OwnedRoomId) -> bool {
        let shown = self.views.rooms.get(room_id);
        shown.is_some_and(|(_, wanted)| extension.covers(room_id.as_str(), &wanted.lists, wanted.is_subscribed))
    }

    /// The rooms that an extension is for, of those of which something may be new.
    fn covered(&self, extension: &RoomExtension) -> Vec<&OwnedRoomId> {
        self.views.rooms.keys().filter(|room_id| self.covers(extension, room_id)).collect()
    }

    /// What happened in rooms that an extension is not for now, and is to be told when it is.
    fn note_missed(&self, told: &mut Told) {
        let Some(since) = self.since else { return };
        let extensions = &self.query.extensions;
        for (room_id, changes) in self.by_room {
            let receipts = changes.parts.receipts && !self.covers(&extensions.receipts, room_id);
            let account_data = !changes.account_data.is_empty() && !self.covers(&extensions.account_data, room_id);
            let typing = changes.typing.is_some() && !self.covers(&extensions.typing, room_id);
            if receipts || account_data || typing {
                told.note(room_id, |room| {
                    if receipts {
                        room.receipts.miss(since);
                    }
                    if account_data {
                        room.account_data.miss(since);
                    }
                    room.missed_typing |= typing;
                });
            }
        }
        if !extensions.account_data.enabled && !self.changes.account_data.is_empty() {
            told.account_data.miss(since);
        }
    }
}

impl Engine {
    /// All extensions; `told` learns what was told.
    pub(super) async fn sliding_extensions(&self, telling: &Telling<'_>, told: &mut Told) -> Result<SlidingExtensions> {
        let wanted = &telling.query.extensions;
        let mut extensions = SlidingExtensions::default();
        if wanted.account_data.enabled {
            extensions.account_data = Some(self.account_data_extension(telling, told).await?);
        }
        if wanted.receipts.enabled {
            extensions.receipts = Some(self.receipts_extension(telling, told).await?);
        }
        if wanted.typing.enabled {
            extensions.typing = Some(self.typing_extension(telling, told)?);
        }
        if wanted.thread_subscriptions.enabled {
            extensions.thread_subscriptions = self.thread_subscriptions_extension(telling, told).await?;
        }
        if wanted.sticky_events.enabled {
            extensions.sticky_events = self.sticky_events_extension(telling).await?;
        }
        telling.note_missed(told);
        self.add_device_extensions(telling, told, &mut extensions).await?;
        Ok(extensions)
    }

    async fn account_data_extension(&self, telling: &Telling<'_>, told: &mut Told) -> Result<AccountDataExtension> {
        let user_id = &telling.requester.user_id;
        let now = telling.changes.now.position;
        let covered = telling.covered(&telling.query.extensions.account_data);
        let after = |room_id: &OwnedRoomId| {
            told.rooms.get(room_id).map_or(Seen::Nothing, |room| room.account_data).up_to(telling.since)
        };
        let after: BTreeMap<&OwnedRoomId, Option<Position>> = covered.iter().map(|id| (*id, after(id))).collect();
        let global_after = told.account_data.up_to(telling.since);
        // Who was told nothing of something comes first.
        let oldest = after.values().copied().fold(global_after, Option::min);
        let mut records: Vec<AccountDataRecord> = if oldest.is_some() && oldest == telling.since {
            let of_rooms = telling.by_room.values().flat_map(|changes| &changes.account_data);
            of_rooms.chain(&telling.changes.account_data).cloned().collect()
        } else {
            let mut records = self.storage().account_data_since(user_id, oldest.unwrap_or(0), now).await?;
            show_push_rules(user_id, global_after.unwrap_or(0), now, &mut records)?;
            records
        };
        // Who was told nothing need not hear of what is gone.
        let is_new = |record: &AccountDataRecord, after: Option<Position>| {
            after.map_or_else(|| !is_deleted(&record.content), |after| record.position > after)
        };
        records.retain(|record| match &record.room_id {
            Some(room_id) => after.get(room_id).is_some_and(|after| is_new(record, *after)),
            None => is_new(record, global_after),
        });
        let mut by_room: BTreeMap<OwnedRoomId, Vec<AccountDataRecord>> = BTreeMap::new();
        for record in records.extract_if(.., |record| record.room_id.is_some()) {
            if let Some(room_id) = record.room_id.clone() {
                by_room.entry(room_id).or_default().push(record);
            }
        }
        let global = v3::account_data::global(&records, &Filter::default())?.events;
        let mut extension = AccountDataExtension { global, rooms: BTreeMap::new() };
        for (room_id, records) in by_room {
            let events = v3::account_data::of_room(&records, &RoomEventFilter::default())?.events;
            extension.rooms.insert(room_id, events);
        }
        told.account_data = Seen::All;
        note_seen(told, &covered, |room| &mut room.account_data);
        Ok(extension)
    }

    async fn receipts_extension(&self, telling: &Telling<'_>, told: &mut Told) -> Result<RoomsExtension> {
        let covered = telling.covered(&telling.query.extensions.receipts);
        let mut extension = RoomsExtension::default();
        for room_id in &covered {
            let seen = told.rooms.get(*room_id).map_or(Seen::Nothing, |room| room.receipts);
            let receipts = self.new_receipts(telling, room_id, seen).await?;
            let event = ephemeral::one_receipt_event(receipts, &telling.requester.user_id)?;
            extension.rooms.extend(event.map(|event| ((*room_id).clone(), event)));
        }
        note_seen(told, &covered, |room| &mut room.receipts);
        Ok(extension)
    }

    /// The receipts that are new to the client. With events that it sees for the first time come all the receipts on
    /// them, and with a room the user's own.
    async fn new_receipts(
        &self,
        telling: &Telling<'_>,
        room_id: &OwnedRoomId,
        seen: Seen,
    ) -> Result<Vec<ReceiptRecord>> {
        let now = telling.changes.now.position;
        let room = telling.rooms.get(room_id);
        let after = seen.up_to(telling.since);
        if let Some(after) = after.filter(|_| !room.is_some_and(|room| room.unstable_expanded_timeline)) {
            let has_changed = telling.by_room.get(room_id).is_some_and(|changes| changes.parts.receipts);
            if after >= now || seen == Seen::All && !has_changed {
                return Ok(Vec::new());
            }
            return Ok(self.storage().receipts_since(room_id, after, now).await?);
        }
        let shown = room.into_iter().flat_map(|room| &room.timeline);
        let shown: HashSet<OwnedEventId> =
            shown.filter_map(|event| event.get_field("event_id").ok().flatten()).collect();
        let mut receipts = self.storage().receipts_since(room_id, 0, now).await?;
        receipts.retain(|receipt| {
            receipt.user_id == telling.requester.user_id
                || shown.contains(&receipt.event_id)
                || after.is_some_and(|after| receipt.position > after)
        });
        Ok(receipts)
    }

    async fn thread_subscriptions_extension(
        &self,
        telling: &Telling<'_>,
        told: &mut Told,
    ) -> Result<Option<ThreadSubscriptionsExtension>> {
        let now = telling.changes.now.position;
        let untold = Untold { since: std::mem::replace(&mut told.thread_subscriptions, now), until: now };
        let limit = telling.query.extensions.thread_subscriptions.limit.unwrap_or(PAGE_SUBSCRIPTIONS_MAX);
        if untold.since >= untold.until {
            return Ok(None);
        }
        let mut changes = self.thread_subscriptions_in(&telling.requester.user_id, untold, limit).await?;
        let prev_batch = changes.more.take();
        let is_news = changes != ThreadSubscriptionChanges::default();
        Ok(is_news.then_some(ThreadSubscriptionsExtension { changes, prev_batch }))
    }

    fn typing_extension(&self, telling: &Telling<'_>, told: &mut Told) -> Result<RoomsExtension> {
        let now_ms = self.world().clock.now_ms();
        let mut extension = RoomsExtension::default();
        for room_id in telling.covered(&telling.query.extensions.typing) {
            let typing = || self.inner.rooms.typing.users(room_id, now_ms);
            let is_initial = telling.rooms.get(room_id).is_some_and(|room| room.initial == Some(true));
            let has_missed = told.rooms.get(room_id).is_some_and(|room| room.missed_typing);
            let users = match telling.by_room.get(room_id).and_then(|changes| changes.typing.clone()) {
                None if has_missed => Some(typing()),
                None if is_initial => Some(typing()).filter(|users| !users.is_empty()),
                users => users,
            };
            if has_missed {
                told.note(room_id, |room| room.missed_typing = false);
            }
            if let Some(users) = users {
                let event: Raw<_> = ephemeral::typing(&users)?;
                extension.rooms.insert(room_id.clone(), event);
            }
        }
        Ok(extension)
    }
}

/// Everything of these rooms was told.
fn note_seen(told: &mut Told, rooms: &[&OwnedRoomId], part: impl Fn(&mut super::connections::RoomTold) -> &mut Seen) {
    for room_id in rooms {
        let is_seen = told.rooms.get(*room_id).cloned().is_none_or(|mut room| *part(&mut room) == Seen::All);
        if !is_seen {
            told.note(room_id, |room| *part(room) = Seen::All);
        }
    }
}
