//! What relates to an event, bundled with it: the last edit, the thread that begins with it, what refers to it.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#aggregations-of-child-events>
//!
//! One question to the storage says for all events of a page whether anything relates to them; mostly nothing does,
//! and that was all.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use futures_util::{FutureExt, future::BoxFuture};
use rules::event::relation::{REFERENCE, REPLACE, THREAD};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use storage::{RelatedEvent, RelationCount, StoredEvent};

use super::{RoomView, SeenEvent};
use crate::{ClientEvent, Engine, EngineError, Requester, Result};

/// How many edits of the events of one page are looked at, the latest ones: the last valid one is among them, unless
/// its sender's clock went backwards that often.
const EDITS_MAX: usize = 1_000;
/// How many events that refer to the events of one page are told.
const REFERENCES_MAX: usize = 500;

/// What is bundled with one event.
#[derive(Default, Serialize)]
struct Bundle {
    #[serde(rename = "m.replace", skip_serializing_if = "Option::is_none")]
    replace: Option<Box<RawValue>>,
    #[serde(rename = "m.thread", skip_serializing_if = "Option::is_none")]
    thread: Option<Thread>,
    #[serde(rename = "m.reference", skip_serializing_if = "Option::is_none")]
    reference: Option<References>,
}

#[derive(Serialize)]
struct Thread {
    latest_event: Box<RawValue>,
    count: u64,
    current_user_participated: bool,
}

#[derive(Default, Serialize)]
struct References {
    chunk: Vec<Reference>,
}

#[derive(Serialize)]
struct Reference {
    event_id: OwnedEventId,
}

/// For whom, and how, bundles are made.
#[derive(Clone, Copy)]
pub(crate) struct Bundling<'a> {
    pub(crate) requester: &'a Requester,
    /// Whether the events in the bundles name their room.
    pub(crate) with_room_id: bool,
    /// Whether threads are bundled: not with events that are in a bundle themselves.
    pub(crate) with_threads: bool,
}

/// The parents of one room, and who looks at them.
struct Family<'a> {
    room_id: &'a RoomId,
    view: RoomView,
    ignored: HashSet<OwnedUserId>,
    parents: HashMap<&'a OwnedEventId, &'a Arc<StoredEvent>>,
    /// The greatest order that the user may know of.
    until: i64,
    counts: Vec<RelationCount>,
}

impl Engine {
    /// What is bundled with each of some events, where anything is.
    pub(crate) fn bundles<'a>(
        &'a self,
        bundling: Bundling<'a>,
        events: &'a [SeenEvent],
    ) -> BoxFuture<'a, Result<HashMap<OwnedEventId, Box<RawValue>>>> {
        async move {
            let mut by_room: BTreeMap<&OwnedRoomId, Vec<&Arc<StoredEvent>>> = BTreeMap::new();
            // State events get no bundles.
            for seen in events.iter().filter(|seen| seen.event.pdu.state_key.is_none()) {
                by_room.entry(&seen.event.pdu.room_id).or_default().push(&seen.event);
            }
            let mut bundled = HashMap::new();
            for (room_id, parents) in by_room {
                if let Some(family) = self.family(bundling.requester, room_id, parents).await? {
                    bundled.extend(self.bundles_of(bundling, &family).await?);
                }
            }
            Ok(bundled)
        }
        .boxed()
    }

    /// The events of a room and what relates to them, if anything does.
    async fn family<'a>(
        &self,
        requester: &Requester,
        room_id: &'a RoomId,
        parents: Vec<&'a Arc<StoredEvent>>,
    ) -> Result<Option<Family<'a>>> {
        if !self.storage().may_be_related(room_id).await? {
            return Ok(None);
        }
        let parent_ids: Vec<OwnedEventId> = parents.iter().map(|event| event.pdu.event_id.clone()).collect();
        let mut counts = self.storage().relation_counts(room_id, &parent_ids, i64::MAX, false).await?;
        if counts.is_empty() {
            return Ok(None);
        }
        let view = self.view_unchecked(room_id, &requester.user_id).await?;
        let until = view.reads_until().unwrap_or(i64::MAX);
        if until < i64::MAX {
            counts = self.storage().relation_counts(room_id, &parent_ids, until, false).await?;
        }
        let ignored = self.ignored_users(&requester.user_id).await?;
        counts.retain(|count| !ignored.contains(&count.sender));
        let parents = parents.into_iter().map(|event| (&event.pdu.event_id, event)).collect();
        Ok(Some(Family { room_id, view, ignored, parents, until, counts }))
    }

    async fn bundles_of(
        &self,
        bundling: Bundling<'_>,
        family: &Family<'_>,
    ) -> Result<HashMap<OwnedEventId, Box<RawValue>>> {
        let mut bundles: HashMap<OwnedEventId, Bundle> = HashMap::new();
        for (parent_id, edit) in self.last_edits(bundling, family).await? {
            bundles.entry(parent_id).or_default().replace = Some(edit);
        }
        for (parent_id, references) in self.references(family).await? {
            bundles.entry(parent_id).or_default().reference = Some(references);
        }
        if bundling.with_threads {
            for (parent_id, thread) in self.threads_begun(bundling, family).await? {
                bundles.entry(parent_id).or_default().thread = Some(thread);
            }
        }
        let written = |(parent_id, bundle)| Ok((parent_id, to_raw_value(&bundle).map_err(EngineError::internal)?));
        bundles.into_iter().map(written).collect()
    }

    /// The last valid edit of each event that has one. A redacted event has none.
    async fn last_edits(
        &self,
        bundling: Bundling<'_>,
        family: &Family<'_>,
    ) -> Result<Vec<(OwnedEventId, Box<RawValue>)>> {
        let by_author = |count: &&RelationCount| {
            let parent = family.parents.get(&count.target_id);
            parent.is_some_and(|parent| parent.redacted_by.is_none() && parent.pdu.sender == count.sender)
        };
        let edited = family.related_in(REPLACE, by_author);
        let candidates = self.candidates(family, &edited, REPLACE, EDITS_MAX).await?;
        let candidates: Vec<OwnedEventId> = candidates
            .into_iter()
            .filter(|edit| family.parents.get(&edit.target_id).is_some_and(|parent| parent.pdu.sender == edit.sender))
            .map(|edit| edit.event_id)
            .collect();
        let mut last: HashMap<OwnedEventId, SeenEvent> = HashMap::new();
        for edit in self.storage().readable_events(&candidates).await? {
            let Some(relation) = edit.pdu.relation() else { continue };
            let is_valid = family.parents.get(&relation.event_id).is_some_and(|parent| edit.pdu.replaces(&parent.pdu));
            let is_later = |known: &SeenEvent| recency(&known.event) < recency(&edit);
            if is_valid
                && last.get(&relation.event_id).is_none_or(is_later)
                && let Some(seen) = family.view.see(edit)
            {
                last.insert(relation.event_id, seen);
            }
        }
        let (parent_ids, edits): (Vec<_>, Vec<_>) = last.into_iter().unzip();
        let served = self.plain_events(bundling.requester, &edits, bundling.with_room_id).await?;
        Ok(parent_ids.into_iter().zip(served.into_iter().map(ClientEvent::into_json)).collect())
    }

    /// Which events refer to each event, the latest of them, oldest first.
    async fn references(&self, family: &Family<'_>) -> Result<HashMap<OwnedEventId, References>> {
        let referred = family.related_in(REFERENCE, |_| true);
        let mut references: HashMap<OwnedEventId, References> = HashMap::new();
        for one in self.candidates(family, &referred, REFERENCE, REFERENCES_MAX).await?.into_iter().rev() {
            references.entry(one.target_id).or_default().chunk.push(Reference { event_id: one.event_id });
        }
        Ok(references)
    }

    async fn threads_begun(&self, bundling: Bundling<'_>, family: &Family<'_>) -> Result<Vec<(OwnedEventId, Thread)>> {
        let mut summaries: HashMap<&OwnedEventId, (u64, bool, i64)> = HashMap::new();
        for count in family.counts.iter().filter(|count| count.rel_type == THREAD) {
            let (events, participated, last_order) = summaries.entry(&count.target_id).or_insert((0, false, i64::MIN));
            *events += count.count;
            *participated |= count.sender == bundling.requester.user_id;
            *last_order = count.last_order.max(*last_order);
        }
        let orders: Vec<i64> = summaries.values().map(|(_, _, last_order)| *last_order).collect();
        let latest = if orders.is_empty() { Vec::new() } else { self.latest_events(bundling, family, &orders).await? };
        let thread = |(root_id, latest_event): (OwnedEventId, Box<RawValue>)| {
            let (count, participated, _) = summaries.get(&root_id)?;
            let is_own = family.is_by(&root_id, &bundling.requester.user_id);
            let current_user_participated = *participated || is_own;
            Some((root_id, Thread { latest_event, count: *count, current_user_participated }))
        };
        Ok(latest.into_iter().filter_map(thread).collect())
    }

    /// The events of those orders, by the roots of their threads, each with its own bundle.
    async fn latest_events(
        &self,
        bundling: Bundling<'_>,
        family: &Family<'_>,
        orders: &[i64],
    ) -> Result<Vec<(OwnedEventId, Box<RawValue>)>> {
        let latest = self.storage().related_at(family.room_id, orders).await?;
        let event_ids: Vec<OwnedEventId> = latest.iter().map(|event| event.event_id.clone()).collect();
        let events = self.storage().readable_events(&event_ids).await?;
        let seen: Vec<SeenEvent> = events.into_iter().filter_map(|event| family.view.see(event)).collect();
        let roots: HashMap<&OwnedEventId, &OwnedEventId> =
            latest.iter().map(|event| (&event.event_id, &event.target_id)).collect();
        let bundling = Bundling { with_threads: false, ..bundling };
        let served = self.bundled_events(bundling, &seen).await?;
        let by_root = |(seen, served): (&SeenEvent, ClientEvent)| {
            Some(((*roots.get(&seen.event.pdu.event_id)?).clone(), served.into_json()))
        };
        Ok(seen.iter().zip(served).filter_map(by_root).collect())
    }

    /// The events that relate to some parents in one way, the latest first, but for those of ignored users.
    async fn candidates(
        &self,
        family: &Family<'_>,
        parent_ids: &[OwnedEventId],
        rel_type: &str,
        limit: usize,
    ) -> Result<Vec<RelatedEvent>> {
        if parent_ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut found = self.storage().related_by(family.room_id, parent_ids, rel_type, family.until, limit).await?;
        found.retain(|event| !family.ignored.contains(&event.sender));
        Ok(found)
    }
}

impl Family<'_> {
    /// The parents that something relates to in one way.
    fn related_in(&self, rel_type: &str, wanted: impl Fn(&&RelationCount) -> bool) -> Vec<OwnedEventId> {
        let related = self.counts.iter().filter(|count| count.rel_type == rel_type).filter(wanted);
        let ids: HashSet<&OwnedEventId> = related.map(|count| &count.target_id).collect();
        ids.into_iter().cloned().collect()
    }

    fn is_by(&self, parent_id: &OwnedEventId, user_id: &UserId) -> bool {
        self.parents.get(parent_id).is_some_and(|parent| parent.pdu.sender == user_id)
    }
}

/// What decides which of two edits is the later one.
fn recency(event: &StoredEvent) -> (ruma::MilliSecondsSinceUnixEpoch, &OwnedEventId) {
    (event.pdu.origin_server_ts, &event.pdu.event_id)
}
