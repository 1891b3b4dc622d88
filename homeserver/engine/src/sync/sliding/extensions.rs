//! What sliding sync tells besides rooms: account data, receipts, who is typing.

use std::collections::{BTreeMap, HashMap, HashSet};

use rules::change::Position;
use ruma::{OwnedEventId, OwnedRoomId, api::client::filter::Filter, serde::Raw};
use storage::{AccountDataRecord, ReceiptRecord};

use super::{
    connections::Told,
    lists::Views,
    request::{RoomExtension, SlidingQuery, Wanted},
    response::{AccountDataExtension, RoomsExtension, SlidingExtensions, SlidingRoom, ThreadSubscriptionsExtension},
};
use crate::{
    Engine, Requester, Result, ThreadSubscriptionChanges,
    rooms::{PAGE_SUBSCRIPTIONS_MAX, Untold},
    sync::{
        changes::{Changes, RoomChanges},
        ephemeral, v3,
    },
};

/// What extensions are made from.
pub(super) struct Telling<'a> {
    pub(super) requester: &'a Requester,
    pub(super) query: &'a SlidingQuery,
    pub(super) views: &'a Views,
    pub(super) changes: &'a Changes,
    pub(super) since: Option<Position>,
    /// The rooms of the answer.
    pub(super) rooms: &'a BTreeMap<OwnedRoomId, SlidingRoom>,
}

impl Telling<'_> {
    /// The joined rooms that an extension is for.
    fn covered<'b>(&'b self, extension: &'b RoomExtension) -> impl Iterator<Item = &'b OwnedRoomId> {
        let covers = |(room_id, wanted): &(&OwnedRoomId, &Wanted)| {
            extension.covers(room_id.as_str(), &wanted.lists, wanted.is_subscribed)
        };
        self.views.rooms.iter().filter(covers).map(|(room_id, _)| room_id)
    }

    fn changes_by_room(&self) -> HashMap<&OwnedRoomId, &RoomChanges> {
        self.changes.rooms.iter().map(|changes| (&changes.record.room_id, changes)).collect()
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
            extensions.typing = Some(self.typing_extension(telling)?);
        }
        if wanted.thread_subscriptions.enabled {
            extensions.thread_subscriptions = self.thread_subscriptions_extension(telling, told).await?;
        }
        let now = telling.changes.now.position;
        self.add_device_extensions(telling.requester, telling.query, telling.since, now, &mut extensions).await?;
        Ok(extensions)
    }

    async fn account_data_extension(&self, telling: &Telling<'_>, told: &mut Told) -> Result<AccountDataExtension> {
        let user_id = &telling.requester.user_id;
        let now = telling.changes.now.position;
        let covered: Vec<&OwnedRoomId> = telling.covered(&telling.query.extensions.account_data).collect();
        let is_known = |room_id: &OwnedRoomId| told.rooms.get(room_id).is_some_and(|room| room.has_account_data);
        let is_all_known = told.has_global_account_data && covered.iter().all(|room_id| is_known(room_id));
        let all = match telling.since {
            Some(_) if is_all_known => Vec::new(),
            _ => self.storage().account_data_since(user_id, 0, now).await?,
        };
        let mut all_by_room: HashMap<Option<OwnedRoomId>, Vec<AccountDataRecord>> = HashMap::new();
        for record in all {
            all_by_room.entry(record.room_id.clone()).or_default().push(record);
        }
        let mut extension = AccountDataExtension::default();
        let global = all_by_room.remove(&None).unwrap_or_default();
        let global = if told.has_global_account_data { &telling.changes.account_data } else { &global };
        extension.global = v3::account_data::global(global, &Filter::default())?.events;
        told.has_global_account_data = true;
        let news = telling.changes_by_room();
        for room_id in &covered {
            let known = is_known_now(told, room_id);
            let records = match news.get(room_id) {
                Some(changes) if known => changes.account_data.clone(),
                _ if known => Vec::new(),
                _ => all_by_room.remove(&Some((*room_id).clone())).unwrap_or_default(),
            };
            let events = v3::account_data::of_room(&records, &ruma::api::client::filter::RoomEventFilter::default())?;
            if !events.events.is_empty() {
                extension.rooms.insert((*room_id).clone(), events.events);
            }
        }
        let covered: HashSet<OwnedRoomId> = covered.into_iter().cloned().collect();
        mark(told, &covered, |room| room.has_account_data = true);
        let missed = news.values().filter(|changes| !changes.account_data.is_empty());
        let missed: HashSet<OwnedRoomId> =
            missed.map(|changes| changes.record.room_id.clone()).filter(|id| !covered.contains(id)).collect();
        mark(told, &missed, |room| room.has_account_data = false);
        Ok(extension)
    }

    async fn receipts_extension(&self, telling: &Telling<'_>, told: &mut Told) -> Result<RoomsExtension> {
        let now = telling.changes.now.position;
        let news = telling.changes_by_room();
        let covered: HashSet<OwnedRoomId> = telling.covered(&telling.query.extensions.receipts).cloned().collect();
        let mut extension = RoomsExtension::default();
        for room_id in &covered {
            let is_known = told.rooms.get(room_id).is_some_and(|room| room.has_receipts);
            let has_changed = news.get(room_id).is_some_and(|changes| changes.parts.receipts);
            let receipts = match telling.since {
                Some(since) if is_known && has_changed && since < now => {
                    self.storage().receipts_since(room_id, since, now).await?
                }
                Some(_) if is_known => Vec::new(),
                _ => self.first_receipts(telling, room_id).await?,
            };
            let event = ephemeral::one_receipt_event(receipts, &telling.requester.user_id)?;
            extension.rooms.extend(event.map(|event| (room_id.clone(), event)));
        }
        mark(told, &covered, |room| room.has_receipts = true);
        let missed = news.values().filter(|changes| changes.parts.receipts);
        let missed: HashSet<OwnedRoomId> =
            missed.map(|changes| changes.record.room_id.clone()).filter(|id| !covered.contains(id)).collect();
        mark(told, &missed, |room| room.has_receipts = false);
        Ok(extension)
    }

    /// Of a room that the client sees for the first time: the user's own receipts, and those of others on what it sees.
    async fn first_receipts(&self, telling: &Telling<'_>, room_id: &OwnedRoomId) -> Result<Vec<ReceiptRecord>> {
        let now = telling.changes.now.position;
        let shown: HashSet<OwnedEventId> = telling
            .rooms
            .get(room_id)
            .map(|room| room.timeline.iter().filter_map(|event| event.get_field("event_id").ok().flatten()).collect())
            .unwrap_or_default();
        let mut receipts = self.storage().receipts_since(room_id, 0, now).await?;
        receipts.retain(|receipt| receipt.user_id == telling.requester.user_id || shown.contains(&receipt.event_id));
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

    fn typing_extension(&self, telling: &Telling<'_>) -> Result<RoomsExtension> {
        let now_ms = self.world().clock.now_ms();
        let news = telling.changes_by_room();
        let mut extension = RoomsExtension::default();
        for room_id in telling.covered(&telling.query.extensions.typing) {
            let is_initial = telling.rooms.get(room_id).is_some_and(|room| room.initial == Some(true));
            let users = match news.get(room_id).and_then(|changes| changes.typing.clone()) {
                None if is_initial => {
                    Some(self.inner.rooms.typing.users(room_id, now_ms)).filter(|users| !users.is_empty())
                }
                users => users,
            };
            if let Some(users) = users {
                let event: Raw<_> = ephemeral::typing(&users)?;
                extension.rooms.insert(room_id.clone(), event);
            }
        }
        Ok(extension)
    }
}

fn is_known_now(told: &Told, room_id: &OwnedRoomId) -> bool {
    told.rooms.get(room_id).is_some_and(|room| room.has_account_data)
}

/// Changes what is known of some of the rooms that the client was told of.
fn mark(told: &mut Told, rooms: &HashSet<OwnedRoomId>, change: impl Fn(&mut super::connections::RoomTold)) {
    for room_id in rooms {
        if let Some(mut room) = told.rooms.get(room_id).cloned() {
            change(&mut room);
            told.rooms.insert_mut(room_id.clone(), room);
        }
    }
}
