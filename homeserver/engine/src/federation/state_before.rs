//! The state before and after events, worked out from what is stored.

use std::{collections::HashSet, sync::Arc};

use rules::{
    Pdu, RoomSnapshot,
    change::{Standing, StateEntry},
    room::StateMap,
};
use ruma::OwnedEventId;
use storage::StoredEvent;

use crate::{Engine, Result};

impl Engine {
    /// The state before an event: what the states after its `prev_events` resolve to.
    pub(crate) async fn state_before(&self, room: &RoomSnapshot, pdu: &Pdu) -> Result<StateMap> {
        let states = self.states_after(room, &pdu.prev_events).await?;
        if states.is_empty() && room.is_partial() {
            // What it builds on is asked for when the state becomes complete.
            return Ok(self.state_map(room).await);
        }
        self.resolve_guesses(room, states, None).await
    }

    /// The same, where of some `prev_events` no state is known and another server claims what it was: each claim counts
    /// as one more branch, so that it can add to what we know but not replace it.
    pub(crate) async fn state_with_claims(
        &self,
        room: &RoomSnapshot,
        pdu: &Pdu,
        claims: &[StateMap],
    ) -> Result<StateMap> {
        let mut states = self.states_after(room, &pdu.prev_events).await?;
        for claim in claims {
            if !states.contains(claim) {
                states.push(claim.clone());
            }
        }
        self.resolve_guesses(room, states, None).await
    }

    /// The current state once a forking event is accepted: what the states after all forward extremities resolve to.
    pub(crate) async fn state_after_fork(
        &self,
        room: &RoomSnapshot,
        pdu: &Arc<Pdu>,
        before: StateMap,
        forward_extremities: &[(OwnedEventId, u64)],
    ) -> Result<StateMap> {
        let others: Vec<OwnedEventId> = forward_extremities
            .iter()
            .map(|(event_id, _)| event_id.clone())
            .filter(|event_id| *event_id != pdu.event_id)
            .collect();
        let mut states = self.states_after(room, &others).await?;
        if room.is_partial() {
            // The states of events whose ancestors are lacking are guesses: what is known besides must not be lost by them.
            states.push(self.state_map(room).await);
        }
        // Not so when an event that came before builds upon it; but that was guessed without it.
        if others.len() < forward_extremities.len() || room.is_partial() {
            let mut after = before;
            after.extend(pdu.state_key_pair().map(|key| (key, pdu.event_id.clone())));
            states.push(after);
        }
        self.resolve_guesses(room, states, Some(pdu)).await
    }

    /// The state after each of the events that is stored with a state; several events with the same state count once.
    async fn states_after(&self, room: &RoomSnapshot, event_ids: &[OwnedEventId]) -> Result<Vec<StateMap>> {
        let mut states: Vec<StateMap> = Vec::new();
        let mut seen = HashSet::new();
        for event in self.storage().events(event_ids).await? {
            if !seen.insert(event.pdu.event_id.clone()) {
                continue;
            }
            if let Some(state) = self.state_after(room, &event).await?
                && !states.contains(&state)
            {
                states.push(state);
            }
        }
        Ok(states)
    }

    /// The state after an event; `None` where it is not known exactly.
    pub(crate) async fn state_after(&self, room: &RoomSnapshot, event: &StoredEvent) -> Result<Option<StateMap>> {
        let Some(mut state) = self.stored_state_before(room, event).await? else { return Ok(None) };
        if !matches!(event.standing, Standing::Rejected(_)) {
            state.extend(event.pdu.state_key_pair().map(|key| (key, event.pdu.event_id.clone())));
        }
        Ok(Some(state))
    }

    /// The state before a stored event; `None` where it is not known exactly.
    pub(crate) async fn stored_state_before(
        &self,
        room: &RoomSnapshot,
        event: &StoredEvent,
    ) -> Result<Option<StateMap>> {
        if !has_state(room, event) {
            return Ok(None);
        }
        match (&event.state_before, event.order) {
            (Some(reference), _) => {
                let mut state = self.state_map_at(room, reference.base).await?;
                for StateEntry { event_type, state_key, event_id, .. } in &reference.delta {
                    let key = (event_type.clone(), state_key.clone());
                    match event_id {
                        Some(event_id) => state.insert(key, event_id.clone()),
                        None => state.remove(&key),
                    };
                }
                Ok(Some(state))
            }
            (None, Some(order)) if order > 0 => self.state_map_at(room, order - 1).await.map(Some),
            (None, _) => Ok(None),
        }
    }

    async fn state_map_at(&self, room: &RoomSnapshot, order: i64) -> Result<StateMap> {
        if order == room.position {
            return Ok(self.state_map(room).await);
        }
        let entries = self.storage().state_at(&room.room_id, order).await?;
        let value = |entry: StateEntry| Some(((entry.event_type, entry.state_key), entry.event_id?));
        Ok(self.apart(entries.len(), move || entries.into_iter().filter_map(value).collect()).await)
    }

    async fn state_map(&self, room: &RoomSnapshot) -> StateMap {
        let room = room.clone();
        self.apart(room.state_count(), move || room.state_map()).await
    }
}

/// Whether the state before a stored event is known exactly. Not so for outliers; for history that was read backwards, of
/// which only as much of the state is known as its events tell; for what came while not all members were known, if these
/// became known only when we entered anew; and for events of other rooms, which anybody can name.
pub(super) fn has_state(room: &RoomSnapshot, event: &StoredEvent) -> bool {
    let live = event.order.filter(|order| *order > 0);
    let came = live.or(event.state_before.as_ref().map(|state_before| state_before.base));
    event.pdu.room_id == room.room_id && came.is_some_and(|came| came >= room.states_since)
}
