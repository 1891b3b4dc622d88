//! The state before our join, as a server says it was, and whether that is to be believed.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use rules::{
    Pdu, RoomSnapshot,
    change::StateEntry,
    room::{
        StateKey, StateMap,
        authorise::{check_state, deciding_keys_of},
        send::entry_of,
    },
};
use ruma::{
    OwnedEventId, ServerName, UserId,
    events::{StateEventType, room::member::MembershipState},
};
use storage::{PartialStateRecord, StoredEvent};

use super::Incomplete;
use crate::{Engine, Result};

/// How many events are in memory at a time while a state is gone through.
const EVENTS_AT_ONCE: usize = 1_000;
/// For how long an event is waited for that cannot be verified: longer than most servers are away, but members whose servers
/// are gone must not keep the others waiting.
const RECENT: Duration = Duration::from_hours(24);
/// How many rounds a state is believed only if all of its events are to be had, and, of another server than the one that
/// let us in, only if it has members of the servers that that one named.
const AGREEMENT_FAILURES: u32 = 9;

impl Engine {
    /// The state before our join as a server says, or one has said before, if it is to be believed.
    pub(super) async fn state_given(
        &self,
        record: &PartialStateRecord,
        server: &ServerName,
        room: &RoomSnapshot,
        join: &StoredEvent,
    ) -> Result<Arc<[StateEntry]>, Incomplete> {
        let answers = &self.inner.rooms.completing.answers;
        if let Some(before) = answers.state(record, server) {
            return Ok(before);
        }
        let given = self.fetch_claimed_states(server, room, &join.pdu, &join.pdu.prev_events).await?;
        if given.gaps.are_within(RECENT, self.world().clock.now_ms()) {
            return Err(Incomplete::Unfit("events of it cannot be verified now"));
        }
        if given.gaps.is_any && record.failures < AGREEMENT_FAILURES {
            return Err(Incomplete::Unfit("events of it are not to be had"));
        }
        let state = self.resolve_states(room, given.states, None).await?;
        self.check_given(room, &join.pdu, &state).await?;
        let before: Arc<[StateEntry]> = self.entries_of(&state).await?.into();
        if *server != record.entered_by {
            self.require_agreement(record, room, join, &state, &before).await?;
        }
        if !given.gaps.is_any {
            answers.remember_state(record, server, &before);
        }
        Ok(before)
    }

    /// A state that has another beginning than the room, or does not let us in, is made up.
    async fn check_given(&self, room: &RoomSnapshot, join: &Pdu, state: &StateMap) -> Result<(), Incomplete> {
        let create = (StateEventType::RoomCreate, String::new());
        if state.get(&create).map(|event_id| &**event_id) != room.state_event_id(&create.0, &create.1) {
            return Err(Incomplete::Unfit("it has another create event"));
        }
        let keys = deciding_keys_of(&room.rules.authorization, join).unwrap_or_default();
        let ids: Vec<OwnedEventId> = keys.iter().filter_map(|key| state.get(key).cloned()).collect();
        let events = self.events_by_id(&ids).await?;
        let lookup = |event_type: &StateEventType, key: &str| {
            events.get(state.get(&(event_type.clone(), key.to_owned()))?).cloned()
        };
        check_state(&room.rules.authorization, join, lookup).map_err(|_| Incomplete::Unfit("we may not join"))
    }

    /// Anybody can be named as a server of the room, and tell of a state that it once had, or of a part of it. So what it
    /// says has to agree with what we were told when we entered: by whom we entered we believe more.
    async fn require_agreement(
        &self,
        record: &PartialStateRecord,
        room: &RoomSnapshot,
        join: &StoredEvent,
        state: &StateMap,
        entries: &[StateEntry],
    ) -> Result<(), Incomplete> {
        let told = self.stored_state_before(room, join).await?.unwrap_or_default();
        let is_other = |(key, _): &(&StateKey, &OwnedEventId)| key.0 != StateEventType::RoomMember;
        let is_missing = |(key, event_id): (&StateKey, &OwnedEventId)| state.get(key) != Some(event_id);
        // What could not be verified then may be now, and was told all the same.
        let is_new = |(key, event_id): (&StateKey, &OwnedEventId)| {
            told.get(key) != Some(event_id) && !record.unverified.contains(event_id)
        };
        if told.iter().filter(is_other).any(is_missing) || state.iter().filter(is_other).any(is_new) {
            return Err(Incomplete::Unfit("it is not what we were told when we entered"));
        }
        if record.failures >= AGREEMENT_FAILURES {
            return Ok(());
        }
        let joined = entries.iter().filter(|entry| entry.membership == Some(MembershipState::Join));
        let servers = joined.filter_map(|entry| Some(<&UserId>::try_from(&*entry.state_key).ok()?.server_name()));
        let servers: BTreeSet<&ServerName> = servers.filter(|server| *server != self.server_name()).collect();
        if servers.into_iter().ne(record.servers.iter().map(|server| &**server).collect::<BTreeSet<_>>()) {
            return Err(Incomplete::Unfit("it has members of other servers than we were told of"));
        }
        Ok(())
    }

    /// A state with the memberships that its events give, in order.
    async fn entries_of(&self, state: &StateMap) -> Result<Vec<StateEntry>> {
        let mut ids: Vec<OwnedEventId> = state.values().cloned().collect();
        ids.sort_unstable();
        let mut entries = Vec::with_capacity(ids.len());
        for ids in ids.chunks(EVENTS_AT_ONCE) {
            let events = self.storage().events(ids).await?;
            entries.extend(events.iter().filter_map(|event| entry_of(&event.pdu)));
        }
        Ok(entries)
    }
}
