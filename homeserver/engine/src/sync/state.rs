//! The state that goes with a part of a room's timeline.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync>

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use rules::{
    change::{Position, StateEntry},
    room::StateKey,
};
use ruma::{EventId, OwnedEventId, OwnedUserId, RoomId, api::client::filter::RoomEventFilter, events::StateEventType};
use storage::StoredEvent;

use super::{
    filter::{allows, allows_room_type, covers_room},
    timeline::Window,
    token::TimelineToken,
};
use crate::{Engine, Result, rooms::SeenEvent};

/// Up to how many changes it is cheaper to take them back from the state in memory than to read the whole state.
const UNDONE_CHANGES_MAX: usize = 32;

/// What the client knows of a room's state already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    /// Nothing.
    Nothing,
    /// All of it as of a position.
    Known(Position),
}

/// Which state is wanted.
pub(crate) struct StateQuery<'a> {
    /// The room.
    pub(crate) room_id: &'a RoomId,
    /// What the client knows.
    pub(crate) base: Base,
    /// The timeline that the client is shown.
    pub(crate) window: &'a Window,
    /// The order of the last event of the window, or where it would be.
    pub(crate) until: i64,
    /// Whether anything of the state changed since what the client knows.
    pub(crate) has_changes: bool,
    /// Whether the client wants the state at the end of the timeline, rather than at its start.
    pub(crate) at_end: bool,
    /// The client's filter.
    pub(crate) filter: &'a RoomEventFilter,
    /// With lazy loading: whose member events matter. `None` for all.
    pub(crate) members: Option<&'a BTreeSet<OwnedUserId>>,
}

impl StateQuery<'_> {
    /// Whether a key of the state matters to somebody who knows nothing of it.
    fn wants(&self, (event_type, state_key): &StateKey) -> bool {
        if !allows_room_type(self.filter, &event_type.to_string()) {
            return false;
        }
        let is_member = *event_type == StateEventType::RoomMember;
        !is_member || self.members.is_none_or(|members| members.iter().any(|user_id| user_id.as_str() == state_key))
    }
}

/// Events by the key that they are the value of.
pub(crate) type Values = HashMap<StateKey, OwnedEventId>;

impl Engine {
    /// The state events that, together with the timeline shown, bring the client up to date.
    pub(crate) async fn state_section(&self, query: &StateQuery<'_>) -> Result<Vec<Arc<StoredEvent>>> {
        if !covers_room(query.filter, query.room_id) {
            return Ok(Vec::new());
        }
        let target = if query.at_end { query.until } else { query.window.start.0 };
        let mut values = match query.base {
            Base::Nothing => self.state_values(query.room_id, target, &|key| query.wants(key)).await?,
            Base::Known(since) => self.changed_values(query, since, target).await?,
        };
        if !query.at_end && query.has_changes {
            self.add_unshown(query, target, &mut values).await?;
        }
        let mut event_ids: Vec<OwnedEventId> = values.into_values().collect();
        event_ids.sort_unstable();
        let events = self.storage().readable_events(&event_ids).await?;
        Ok(events.into_iter().filter(|event| allows(query.filter, &event.pdu)).collect())
    }

    /// Adds what changed during the timeline without being shown there: events that the filter dropped, and such as won
    /// or lost when branches of the room were resolved.
    async fn add_unshown(&self, query: &StateQuery<'_>, start: i64, values: &mut Values) -> Result<()> {
        let shown: HashSet<&EventId> = query.window.events.iter().map(|seen| &*seen.event.pdu.event_id).collect();
        if start >= query.until {
            return Ok(());
        }
        for entry in self.storage().state_changes(query.room_id, start, query.until).await? {
            let is_wanted = query.base != Base::Nothing || query.wants(&key_of(&entry));
            if is_wanted && entry.event_id.as_deref().is_some_and(|event_id| !shown.contains(event_id)) {
                apply(values, entry);
            }
        }
        Ok(())
    }

    /// What changed between two points, and, with lazy loading, the member events that matter.
    async fn changed_values(&self, query: &StateQuery<'_>, since: Position, target: i64) -> Result<Values> {
        let mut values = Values::new();
        if query.has_changes && since < target {
            for entry in self.storage().state_changes(query.room_id, since, target).await? {
                apply(&mut values, entry);
            }
        }
        let members = query.members.into_iter().flatten().map(member_key).filter(|key| !values.contains_key(key));
        let members: Vec<StateKey> = members.collect();
        values.extend(self.values_of(query.room_id, target, &members).await?);
        Ok(values)
    }

    /// The values of some keys at a point of a room's timeline.
    pub(crate) async fn values_of(&self, room_id: &RoomId, order: i64, keys: &[StateKey]) -> Result<Values> {
        let mut values = Values::new();
        if keys.is_empty() {
            return Ok(values);
        }
        let Some(room) = self.room(room_id).await?.filter(|room| room.position <= order) else {
            for key in keys {
                let entry = self.storage().state_entry_at(room_id, &key.0, &key.1, order).await?;
                values.extend(entry.and_then(|entry| entry.event_id).map(|event_id| (key.clone(), event_id)));
            }
            return Ok(values);
        };
        for key in keys {
            values.extend(room.state_event_id(&key.0, &key.1).map(|event_id| (key.clone(), event_id.to_owned())));
        }
        if room.position < order {
            for entry in self.storage().state_changes(room_id, room.position, order).await? {
                if keys.contains(&key_of(&entry)) {
                    apply(&mut values, entry);
                }
            }
        }
        Ok(values)
    }

    /// The state of a room at a point of its timeline, as far as it is wanted.
    pub(crate) async fn state_values(
        &self,
        room_id: &RoomId,
        order: i64,
        wanted: &(dyn Fn(&StateKey) -> bool + Sync),
    ) -> Result<Values> {
        if let Some(values) = self.state_from_memory(room_id, order, wanted).await? {
            return Ok(values);
        }
        let mut values = Values::new();
        for entry in self.storage().state_at(room_id, order).await? {
            if wanted(&key_of(&entry)) {
                apply(&mut values, entry);
            }
        }
        Ok(values)
    }

    /// The same, out of the current state in memory, when that is only a few changes away. Reading ten thousand
    /// members takes far longer than finding the ten that matter.
    async fn state_from_memory(
        &self,
        room_id: &RoomId,
        order: i64,
        wanted: &(dyn Fn(&StateKey) -> bool + Sync),
    ) -> Result<Option<Values>> {
        let Some(room) = self.room(room_id).await? else { return Ok(None) };
        let is_past = order < room.position;
        let (from, to) = if is_past { (order, room.position) } else { (room.position, order) };
        let changes = self.storage().state_changes(room_id, from, to).await?;
        if is_past && changes.len() > UNDONE_CHANGES_MAX {
            return Ok(None);
        }
        let mut values: Values = room
            .state()
            .filter(|(key, _)| wanted(key))
            .map(|(key, value)| (key.clone(), value.event_id.clone()))
            .collect();
        for mut entry in changes {
            let key = key_of(&entry);
            if !wanted(&key) {
                continue;
            }
            if is_past {
                let before = self.storage().state_entry_at(room_id, &key.0, &key.1, order).await?;
                entry.event_id = before.and_then(|before| before.event_id);
            }
            apply(&mut values, entry);
        }
        Ok(Some(values))
    }

    /// The member events that go with some events, as of a point in the timeline.
    pub(crate) async fn members_of(
        &self,
        room_id: &RoomId,
        members: &BTreeSet<OwnedUserId>,
        at: TimelineToken,
    ) -> Result<Vec<Arc<StoredEvent>>> {
        let mut event_ids = Vec::with_capacity(members.len());
        for user_id in members {
            let member = StateEventType::RoomMember;
            let entry = self.storage().state_entry_at(room_id, &member, user_id.as_str(), at.0).await?;
            event_ids.extend(entry.and_then(|entry| entry.event_id));
        }
        Ok(self.storage().readable_events(&event_ids).await?)
    }
}

/// Who sent some events.
pub(crate) fn senders(events: &[SeenEvent]) -> BTreeSet<OwnedUserId> {
    events.iter().map(|seen| seen.event.pdu.sender.clone()).collect()
}

/// The key of somebody's member event.
pub(crate) fn member_key(user_id: &OwnedUserId) -> StateKey {
    (StateEventType::RoomMember, user_id.to_string())
}

fn key_of(entry: &StateEntry) -> StateKey {
    (entry.event_type.clone(), entry.state_key.clone())
}

fn apply(values: &mut Values, entry: StateEntry) {
    let key = (entry.event_type, entry.state_key);
    match entry.event_id {
        Some(event_id) => values.insert(key, event_id),
        None => values.remove(&key),
    };
}
