//! Which rooms the client looks at: those in the windows of its lists, and those that it subscribed to.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ops::Range,
    sync::Arc,
};

use ruma::{OwnedRoomId, UserId, events::StateEventType};

use super::{
    entry::Entry,
    index::RoomIndex,
    ordered::OrderedList,
    request::{List, ListFilters, RoomDetails, SlidingQuery, Wanted},
    required::RequiredState,
    response::ListCount,
};
use crate::{Engine, Result, sync::changes::count_considered};

/// How many spaces one filter names: a client shows one.
const SPACES_MAX: usize = 10;
/// How many lists of a user are kept in their order. Clients have a handful; more are made anew each time.
const LISTS_KEPT_MAX: usize = 16;

/// What the client looks at.
#[derive(Default)]
pub(super) struct Views {
    /// The rooms of which something may be new, with what is wanted of each.
    pub(super) rooms: BTreeMap<OwnedRoomId, (Arc<Entry>, Wanted)>,
    /// How many rooms are in each list.
    pub(super) counts: BTreeMap<String, ListCount>,
}

/// In which of the lists a room is shown, and what is wanted of it by itself.
type Places<'a> = (Vec<usize>, Option<&'a RoomDetails>);

/// A list as it was asked for, with its windows.
struct Windows<'a> {
    name: &'a String,
    list: &'a List,
    ranges: Vec<Range<usize>>,
    order: &'a OrderedList,
}

impl Engine {
    /// What the client looks at: of all its rooms, or of those that may have come into its windows or were changed.
    pub(super) async fn views(
        &self,
        user_id: &UserId,
        query: &SlidingQuery,
        index: &mut RoomIndex,
        changed: Option<BTreeSet<OwnedRoomId>>,
    ) -> Result<Views> {
        let is_known = query.lists.values().all(|list| position(index, &list.filters).is_some());
        let changed = changed.filter(|_| is_known);
        for list in query.lists.values() {
            self.order_list(list, index).await?;
        }
        let windows: Vec<Windows<'_>> =
            query.lists.iter().filter_map(|(name, list)| Windows::new(name, list, index)).collect();
        let mut views = Views::default();
        for window in &windows {
            views.counts.insert(window.name.clone(), ListCount { count: window.order.len() as u64 });
        }
        let rooms: BTreeSet<OwnedRoomId> = if let Some(changed) = changed {
            let edges = windows.iter().flat_map(|window| window.order.near_edges(&window.ranges, changed.len()));
            let edges: BTreeSet<OwnedRoomId> = edges.collect();
            changed.into_iter().chain(edges).collect()
        } else {
            let shown = windows.iter().flat_map(Windows::shown).map(|entry| &entry.room_id);
            shown.chain(query.room_subscriptions.keys()).cloned().collect()
        };
        count_considered(rooms.len());
        let mut sets: HashMap<Places<'_>, Arc<RequiredState>> = HashMap::new();
        for room_id in rooms {
            let Some(entry) = index.rooms.get(&room_id) else { continue };
            let shown = windows.iter().enumerate().filter(|(_, window)| window.order.shows(entry, &window.ranges));
            let places: Places<'_> =
                (shown.map(|(number, _)| number).collect(), query.room_subscriptions.get(&room_id));
            if places.0.is_empty() && places.1.is_none() {
                continue;
            }
            let wanted = wanted(user_id, &windows, places, &mut sets);
            views.rooms.insert(room_id, (entry.clone(), wanted));
        }
        Ok(views)
    }

    /// Puts the rooms of a list in order, unless they are.
    async fn order_list(&self, list: &List, index: &mut RoomIndex) -> Result<()> {
        if position(index, &list.filters).is_some() {
            return Ok(());
        }
        let children = self.children_of_spaces(&list.filters, index).await?;
        let ordered = OrderedList::new(list.filters.clone(), children, index.rooms.values());
        index.lists.push(ordered);
        Ok(())
    }

    /// The rooms in the spaces that a filter names, of those spaces that the user is in.
    async fn children_of_spaces(
        &self,
        filters: &ListFilters,
        index: &RoomIndex,
    ) -> Result<Option<HashSet<OwnedRoomId>>> {
        let Some(spaces) = &filters.spaces else { return Ok(None) };
        let mut children = HashSet::new();
        for space in spaces.iter().take(SPACES_MAX) {
            if !index.rooms.get(space).is_some_and(|entry| entry.is_joined()) {
                continue;
            }
            let Some(room) = self.room(space).await? else { continue };
            let links = room.state().filter(|((event_type, _), _)| *event_type == StateEventType::SpaceChild);
            let links: Vec<_> = links.map(|(_, value)| value.event_id.clone()).collect();
            for event in self.storage().readable_events(&links).await? {
                let content: serde_json::Map<String, serde_json::Value> = event.pdu.content_as().unwrap_or_default();
                let is_link = content.get("via").is_some_and(serde_json::Value::is_array);
                let child = event.pdu.state_key.as_deref().and_then(|key| OwnedRoomId::try_from(key).ok());
                children.extend(child.filter(|_| is_link));
            }
        }
        Ok(Some(children))
    }
}

impl RoomIndex {
    /// Forgets the lists that were asked for least lately, where there are too many.
    pub(super) fn forget_lists(&mut self) {
        let excess = self.lists.len().saturating_sub(LISTS_KEPT_MAX);
        self.lists.drain(..excess);
    }
}

impl<'a> Windows<'a> {
    fn new(name: &'a String, list: &'a List, index: &'a RoomIndex) -> Option<Self> {
        let order = &index.lists[position(index, &list.filters)?];
        Some(Self { name, list, ranges: ranges(list, order.len()), order })
    }

    fn shown(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.ranges.iter().flat_map(|range| self.order.at(range.clone()))
    }
}

fn position(index: &RoomIndex, filters: &ListFilters) -> Option<usize> {
    index.lists.iter().position(|list| list.filters == *filters)
}

/// What is wanted of a room, put together from its lists and subscription. Rooms of which the same state is wanted
/// share the description of it.
fn wanted<'a>(
    user_id: &UserId,
    windows: &[Windows<'a>],
    places: Places<'a>,
    sets: &mut HashMap<Places<'a>, Arc<RequiredState>>,
) -> Wanted {
    let shown = || places.0.iter().map(|number| &windows[*number]);
    let details = || shown().map(|window| &window.list.details).chain(places.1);
    let timeline_limit = details().map(RoomDetails::timeline_limit).max().unwrap_or_default();
    let lists = shown().map(|window| window.name.clone()).collect();
    let is_subscribed = places.1.is_some();
    let required = sets.get(&places).cloned().unwrap_or_else(|| {
        let mut required = RequiredState::default();
        for details in details() {
            required.add(&details.required_state, user_id);
        }
        Arc::new(required)
    });
    sets.insert(places, required.clone());
    Wanted { timeline_limit, required, lists, is_subscribed }
}

/// The windows of a list, as places: the end of each is not in it.
fn ranges(list: &List, length: usize) -> Vec<Range<usize>> {
    let place = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let range = |(first, last)| place(first).min(length)..place(last).saturating_add(1).min(length);
    list.all_ranges().map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_130_windows_are_clamped_and_may_overlap() {
        let list = |ranges: &[(u64, u64)]| List { ranges: ranges.to_vec(), ..List::default() };
        assert_eq!(ranges(&list(&[(0, 2), (1, 3)]), 10), [0..3, 1..4]);
        assert_eq!(ranges(&list(&[(0, u64::MAX), (7, 8)]), 3), [0..3, 3..3]);
        assert_eq!(ranges(&list(&[(u64::MAX, u64::MAX), (5, 9)]), 3), [3..3, 3..3]);
        // Who names none wants all.
        assert_eq!(ranges(&list(&[]), 3), [0..3, 3..3][..1]);
    }
}
