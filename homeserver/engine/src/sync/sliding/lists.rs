//! Which rooms are in which list, and which of them the client looks at.

use std::collections::{BTreeMap, HashMap, HashSet};

use ruma::{OwnedRoomId, UserId, events::StateEventType};
use serde::Deserialize;

use super::{
    index::{Entry, RoomIndex},
    request::{List, ListFilters, SlidingQuery, Wanted},
    response::ListCount,
};
use crate::{Engine, Result};

/// How many spaces one filter names: a client shows one.
const SPACES_MAX: usize = 10;

/// What the client looks at.
#[derive(Default)]
pub(super) struct Views {
    /// The rooms, with what is wanted of each.
    pub(super) rooms: BTreeMap<OwnedRoomId, Wanted>,
    /// How many rooms are in each list.
    pub(super) counts: BTreeMap<String, ListCount>,
}

#[derive(Deserialize)]
struct Tags {
    tags: HashMap<String, serde_json::Value>,
}

/// By room.
type TagsByRoom = HashMap<OwnedRoomId, HashSet<String>>;

impl Engine {
    pub(super) async fn views(&self, user_id: &UserId, query: &SlidingQuery, index: &RoomIndex) -> Result<Views> {
        let mut views = Views::default();
        let by_tags = |list: &List| list.filters.tags.is_some() || list.filters.not_tags.is_some();
        let tags =
            if query.lists.values().any(by_tags) { self.tags_by_room(user_id).await? } else { TagsByRoom::new() };
        for (name, list) in &query.lists {
            let children = self.children_of_spaces(&list.filters, index).await?;
            let mut rooms: Vec<(&OwnedRoomId, &Entry)> = index.rooms.iter().collect();
            rooms.retain(|(room_id, entry)| {
                fits(&list.filters, room_id, entry, index)
                    && fits_tags(&list.filters, tags.get(*room_id))
                    && children.as_ref().is_none_or(|children| children.contains(*room_id))
            });
            rooms.sort_unstable_by(|one, two| (two.1.bump, one.0).cmp(&(one.1.bump, two.0)));
            views.counts.insert(name.clone(), ListCount { count: rooms.len() as u64 });
            for place in places(list, rooms.len()) {
                let wanted = views.rooms.entry(rooms[place].0.clone()).or_default();
                wanted.add(&list.details, user_id);
                wanted.lists.push(name.clone());
            }
        }
        for (room_id, details) in &query.room_subscriptions {
            if index.rooms.contains_key(room_id) {
                let wanted = views.rooms.entry(room_id.clone()).or_default();
                wanted.add(details, user_id);
                wanted.is_subscribed = true;
            }
        }
        Ok(views)
    }

    async fn tags_by_room(&self, user_id: &UserId) -> Result<TagsByRoom> {
        let records = self.storage().account_data_since(user_id, 0, i64::MAX).await?;
        let tags = records.into_iter().filter(|record| record.event_type == "m.tag").filter_map(|record| {
            let tags: Tags = serde_json::from_str(record.content.get()).ok()?;
            Some((record.room_id?, tags.tags.into_keys().collect()))
        });
        Ok(tags.collect())
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
            if !index.rooms.get(space).is_some_and(Entry::is_joined) {
                continue;
            }
            let Some(room) = self.room(space).await? else { continue };
            let links = room.state().filter(|((event_type, _), _)| *event_type == StateEventType::SpaceChild);
            let links: Vec<_> = links.map(|(_, value)| value.event_id.clone()).collect();
            for event in self.storage().events(&links).await? {
                let content: serde_json::Map<String, serde_json::Value> = event.pdu.content_as().unwrap_or_default();
                let is_link = content.get("via").is_some_and(serde_json::Value::is_array);
                let child = event.pdu.state_key.as_deref().and_then(|key| OwnedRoomId::try_from(key).ok());
                children.extend(child.filter(|_| is_link));
            }
        }
        Ok(Some(children))
    }
}

/// The places of a list that are in one of its windows, each once.
fn places(list: &List, length: usize) -> Vec<usize> {
    let mut places = Vec::new();
    for (first, last) in list.all_ranges() {
        let end = usize::try_from(last).unwrap_or(usize::MAX).saturating_add(1).min(length);
        places.extend(usize::try_from(first).unwrap_or(usize::MAX)..end);
    }
    places.sort_unstable();
    places.dedup();
    places
}

fn fits(filters: &ListFilters, room_id: &OwnedRoomId, entry: &Entry, index: &RoomIndex) -> bool {
    let is_invite = entry.record.membership == ruma::events::room::member::MembershipState::Invite;
    let is_of = |types: &Vec<Option<String>>| types.contains(&entry.traits.room_type);
    let is_named = |part: &String| {
        let name = entry.traits.name.as_deref().unwrap_or_default();
        name.to_lowercase().contains(&part.to_lowercase())
    };
    filters.is_dm.is_none_or(|wanted| wanted == index.direct.contains(room_id))
        && filters.is_encrypted.is_none_or(|wanted| wanted == entry.traits.is_encrypted)
        && filters.is_invite.is_none_or(|wanted| wanted == is_invite)
        && filters.room_types.as_ref().is_none_or(is_of)
        && !filters.not_room_types.as_ref().is_some_and(is_of)
        && filters.room_name_like.as_ref().is_none_or(is_named)
}

fn fits_tags(filters: &ListFilters, tags: Option<&HashSet<String>>) -> bool {
    let has_one = |wanted: &Vec<String>| wanted.iter().any(|tag| tags.is_some_and(|tags| tags.contains(tag)));
    filters.tags.as_ref().is_none_or(has_one) && !filters.not_tags.as_ref().is_some_and(has_one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_130_windows_are_clamped_and_may_overlap() {
        let list = |ranges: &[(u64, u64)]| List { ranges: ranges.to_vec(), ..List::default() };
        assert_eq!(places(&list(&[(0, 2), (1, 3)]), 10), [0, 1, 2, 3]);
        assert_eq!(places(&list(&[(0, u64::MAX)]), 3), [0, 1, 2]);
        assert_eq!(places(&list(&[(u64::MAX, u64::MAX), (5, 9)]), 3), [0_usize; 0]);
    }
}
