//! One list of a user's rooms, in its order. A change of one room finds its place by halving, not by looking at all.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashSet},
    ops::Range,
    sync::Arc,
};

use rules::change::Position;
use ruma::{OwnedRoomId, RoomId, events::room::member::MembershipState};

use super::{entry::Entry, request::ListFilters};

/// The rooms that fit some filters, latest first.
pub(super) struct OrderedList {
    pub(super) filters: ListFilters,
    /// The rooms in the spaces that the filters name.
    children: Option<HashSet<OwnedRoomId>>,
    order: Vec<Arc<Entry>>,
}

impl OrderedList {
    pub(super) fn new<'a>(
        filters: ListFilters,
        children: Option<HashSet<OwnedRoomId>>,
        rooms: impl Iterator<Item = &'a Arc<Entry>>,
    ) -> Self {
        let mut list = Self { filters, children, order: Vec::new() };
        list.order = rooms.filter(|entry| list.takes(entry)).cloned().collect();
        list.order.sort_unstable_by(|one, two| key(one).cmp(&key(two)));
        list
    }

    /// Whether a change of one of the rooms changes which others are in the list.
    pub(super) fn depends_on(&self, rooms: &HashSet<&OwnedRoomId>) -> bool {
        self.filters.spaces.as_ref().is_some_and(|spaces| spaces.iter().any(|space| rooms.contains(space)))
    }

    pub(super) fn insert(&mut self, entry: &Arc<Entry>) {
        if self.takes(entry)
            && let Err(place) = self.find(entry)
        {
            self.order.insert(place, entry.clone());
        }
    }

    pub(super) fn remove(&mut self, entry: &Entry) {
        if let Ok(place) = self.find(entry) {
            self.order.remove(place);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// The rooms in some places.
    pub(super) fn at(&self, places: Range<usize>) -> &[Arc<Entry>] {
        self.order.get(places).unwrap_or_default()
    }

    /// Whether a room is in the list, at a place within one of the ranges.
    pub(super) fn shows(&self, entry: &Entry, ranges: &[Range<usize>]) -> bool {
        self.find(entry).is_ok_and(|place| ranges.iter().any(|range| range.contains(&place)))
    }

    /// The rooms within the ranges that may have come in or gone by when so many rooms changed their place: those near
    /// the edges.
    pub(super) fn near_edges(&self, ranges: &[Range<usize>], changed: usize) -> BTreeSet<OwnedRoomId> {
        let mut found = BTreeSet::new();
        for range in ranges {
            let head = range.start..range.start.saturating_add(changed).min(range.end);
            let tail = range.end.saturating_sub(changed).max(head.end)..range.end;
            found.extend(self.at(head).iter().chain(self.at(tail)).map(|entry| entry.room_id.clone()));
        }
        found
    }

    fn find(&self, entry: &Entry) -> Result<usize, usize> {
        self.order.binary_search_by(|other| key(other).cmp(&key(entry)))
    }

    fn takes(&self, entry: &Entry) -> bool {
        fits(&self.filters, entry) && self.children.as_ref().is_none_or(|children| children.contains(&entry.room_id))
    }
}

fn key(entry: &Entry) -> (Reverse<Position>, &RoomId) {
    (Reverse(entry.bump), &entry.room_id)
}

fn fits(filters: &ListFilters, entry: &Entry) -> bool {
    let is_invite = entry.membership == MembershipState::Invite;
    let is_of = |types: &Vec<Option<String>>| types.contains(&entry.traits.room_type);
    let has_one = |wanted: &Vec<String>| wanted.iter().any(|tag| entry.tags.contains(tag));
    let is_named = |part: &String| {
        let name = entry.traits.name.as_deref().unwrap_or_default();
        name.to_lowercase().contains(&part.to_lowercase())
    };
    filters.is_dm.is_none_or(|wanted| wanted == entry.is_dm)
        && filters.is_encrypted.is_none_or(|wanted| wanted == entry.traits.is_encrypted)
        && filters.is_invite.is_none_or(|wanted| wanted == is_invite)
        && filters.room_types.as_ref().is_none_or(is_of)
        && !filters.not_room_types.as_ref().is_some_and(is_of)
        && filters.room_name_like.as_ref().is_none_or(is_named)
        && filters.tags.as_ref().is_none_or(has_one)
        && !filters.not_tags.as_ref().is_some_and(has_one)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::sliding::entry::Traits;

    fn entry(number: usize, bump: Position) -> Arc<Entry> {
        Arc::new(Entry {
            room_id: format!("!{number}:test").try_into().unwrap(),
            membership: MembershipState::Join,
            position: 1,
            bump,
            is_dm: number.is_multiple_of(2),
            tags: Vec::new(),
            traits: Traits::default(),
        })
    }

    fn ids(rooms: &[Arc<Entry>]) -> Vec<&str> {
        rooms.iter().map(|entry| entry.room_id.as_str()).collect()
    }

    #[test]
    fn rooms_keep_their_order_as_they_change() {
        let rooms: Vec<_> = (0..6).map(|number| entry(number, 10)).collect();
        let filters = ListFilters { is_dm: Some(true), ..ListFilters::default() };
        let mut list = OrderedList::new(filters, None, rooms.iter());
        assert_eq!(ids(list.at(0..list.len())), ["!0:test", "!2:test", "!4:test"]);
        list.remove(&rooms[4]);
        list.insert(&entry(4, 11));
        list.insert(&entry(5, 12));
        assert_eq!(ids(list.at(0..3)), ["!4:test", "!0:test", "!2:test"]);
        let first = [0..1, 1..1];
        assert!(list.shows(&entry(4, 11), &first) && !list.shows(&rooms[0], &first));
        assert!(!list.shows(&rooms[4], &[0..1, 1..9]), "it is elsewhere now");
    }

    #[test]
    fn whatever_comes_into_a_range_is_near_an_edge() {
        let rooms: Vec<_> = (0..40).map(|number| entry(number, 100 - Position::try_from(number).unwrap())).collect();
        let ranges = [3..10, 15..30];
        for changed in 1..6_usize {
            for from in 0..35 {
                let mut list = OrderedList::new(ListFilters::default(), None, rooms.iter());
                let shown = |list: &OrderedList| -> BTreeSet<OwnedRoomId> {
                    let rooms = ranges.iter().flat_map(|range| list.at(range.clone()));
                    rooms.map(|entry| entry.room_id.clone()).collect()
                };
                let before = shown(&list);
                let moved: Vec<_> = (from..from + changed).collect();
                for number in &moved {
                    list.remove(&rooms[*number]);
                    // Some go, some come to the top.
                    if number % 3 > 0 {
                        list.insert(&entry(*number, 200 + Position::try_from(*number).unwrap()));
                    }
                }
                let near = list.near_edges(&ranges, changed);
                let moved: BTreeSet<OwnedRoomId> = moved.iter().map(|number| rooms[*number].room_id.clone()).collect();
                for new in shown(&list).difference(&before) {
                    assert!(near.contains(new) || moved.contains(new), "{new} by {changed} from {from}");
                }
            }
        }
    }
}
