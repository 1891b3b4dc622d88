//! Fetching what an event from outside builds on and we lack, with bounds on count and depth.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events>

use std::{collections::HashSet, sync::Arc};

use futures_util::future::join_all;
use outbound::CallError;
use rules::{Pdu, RoomSnapshot, change::Standing, event::read_pdu, room::StateMap};
use ruma::{EventId, OwnedEventId, ServerName};
use serde_json::value::RawValue;
use storage::{Direction, StoredEvent, TimelineRange};

use super::{
    append::{ClaimedStates, StateGaps},
    state_before::has_state,
    verify::Dropped,
};
use crate::{Engine, Result, apart::JUDGING};

/// How many events in a gap we ask for. What lies further back comes by pagination, when somebody looks.
const MAX_MISSING_EVENTS: usize = 50;
/// How many single events of a claimed state we fetch before we ask for the whole state at once.
const MAX_SINGLE_FETCHES: usize = 20;
/// How many events are in memory at a time while a state is gone through.
const EVENTS_AT_ONCE: usize = 1_000;
/// How far the clocks of servers are ahead of ours at most.
const AHEAD_MS: u64 = 3_600 * 1_000;
/// How many of these fetches are under way at the same time.
const FETCHES_AT_ONCE: usize = 5;

impl Engine {
    /// The `prev_events` of an event of which the state is not known here exactly, if they are known at all.
    pub(crate) async fn missing_prev(&self, room: &RoomSnapshot, pdu: &Pdu) -> Result<Vec<OwnedEventId>> {
        let stored = self.storage().events(&pdu.prev_events).await?;
        let is_known = |event: &&Arc<StoredEvent>| has_state(room, event);
        let known: HashSet<&OwnedEventId> = stored.iter().filter(is_known).map(|event| &event.pdu.event_id).collect();
        Ok(pdu.prev_events.iter().filter(|event_id| !known.contains(event_id)).cloned().collect())
    }

    /// The events between the head of the room and `pdu`, oldest first, as far as `origin` gives them. Not those from
    /// before this server came into the room: they are history, to be read backwards when somebody looks.
    ///
    /// Fails when `origin` answers, and gives nothing of what comes right before the event that it sent.
    pub(crate) async fn fetch_gap(
        &self,
        origin: &ServerName,
        room: &RoomSnapshot,
        pdu: &Pdu,
        lacking: &[OwnedEventId],
    ) -> Result<Vec<Arc<Pdu>>, Dropped> {
        let earliest: Vec<OwnedEventId> =
            room.forward_extremities.iter().map(|(event_id, _)| event_id.clone()).collect();
        let latest = [pdu.event_id.clone()];
        let min_depth = self.depth_of_entrance(room).await.unwrap_or(0);
        let answer = self
            .federation()
            .missing_events(origin, &room.room_id, &earliest, &latest, MAX_MISSING_EVENTS, min_depth)
            .await;
        let raws = match answer {
            Ok(raws) => raws,
            Err(error) => {
                tracing::info!(destination = %origin, room.id = %room.room_id, %error, "missing events were not given");
                return Ok(Vec::new());
            }
        };
        let raws = &raws[..raws.len().min(MAX_MISSING_EVENTS)];
        // The deepest of several ancestors is one less deep than the event, so an honest answer holds it.
        if lacking.len() == unique(&pdu.prev_events) && pdu.depth > min_depth && !gives_any(raws, lacking, room) {
            return Err(Dropped::Withheld);
        }
        let mut pdus = self.verified_all(&room.room_id, &room.rules, raws).await;
        pdus.retain(|pdu| pdu.depth >= min_depth);
        pdus.sort_by(|a, b| (a.depth, &a.event_id).cmp(&(b.depth, &b.event_id)));
        pdus.dedup_by(|a, b| a.event_id == b.event_id);
        Ok(pdus)
    }

    /// The depth of the event by which this server came into the room for the first time since when it knows its states.
    async fn depth_of_entrance(&self, room: &RoomSnapshot) -> Result<u64> {
        let after = Some((room.states_since - 1).max(0));
        let range = TimelineRange { after, until: None, direction: Direction::Forward, limit: 1 };
        let first = self.storage().timeline(&room.room_id, range).await?;
        Ok(first.first().map_or(0, |event| event.pdu.depth))
    }

    /// Makes sure that the auth events of an event are stored, asking `origin` for those that are not.
    pub(crate) async fn fetch_auth_events(
        &self,
        origin: &ServerName,
        room: &RoomSnapshot,
        pdu: &Pdu,
    ) -> Result<(), Dropped> {
        if self.storage().event_ids_known(&pdu.auth_events).await?.len() >= unique(&pdu.auth_events) {
            return Ok(());
        }
        let answer = self.federation().event_auth(origin, &room.room_id, &pdu.event_id).await;
        let raws = answer.map_err(|_| Dropped::MissingAncestors)?;
        let pdus = self.verified_all(&room.room_id, &room.rules, &raws).await;
        self.store_outliers(&room.rules.authorization, pdus).await?;
        if self.storage().event_ids_known(&pdu.auth_events).await?.len() >= unique(&pdu.auth_events) {
            return Ok(());
        }
        Err(Dropped::MissingAncestors)
    }

    /// The states after the `lacking` ones of an event's `prev_events` as `origin` claims them; if it cannot tell of
    /// them one by one, what it claims the state before the event to be.
    pub(crate) async fn fetch_claimed_states(
        &self,
        origin: &ServerName,
        room: &RoomSnapshot,
        pdu: &Pdu,
        lacking: &[OwnedEventId],
    ) -> Result<ClaimedStates, Dropped> {
        let mut claimed = ClaimedStates::default();
        for event_id in lacking {
            match self.fetch_state_after(origin, room, event_id, &mut claimed.gaps).await {
                Ok(state) => claimed.states.push(state),
                Err(error @ Dropped::Engine(_)) => return Err(error),
                // Of the state before the event the same would be lacking.
                Err(_) if claimed.gaps.are_recent(self.world().clock.now_ms()) => return Err(Dropped::UnverifiedState),
                Err(_) => {
                    let mut claimed = ClaimedStates::default();
                    let event_id = &pdu.event_id;
                    let state = self.fetch_state_before(origin, room, event_id, &mut claimed.gaps).await?;
                    claimed.states.push(state);
                    return Ok(claimed);
                }
            }
        }
        Ok(claimed)
    }

    async fn fetch_state_after(
        &self,
        origin: &ServerName,
        room: &RoomSnapshot,
        event_id: &OwnedEventId,
        gaps: &mut StateGaps,
    ) -> Result<StateMap, Dropped> {
        // First, for it brings most of what authorises the event.
        let mut state = self.fetch_state_before(origin, room, event_id, gaps).await?;
        if self.stored_event(event_id).await?.is_none() {
            let raw = self.federation().event(origin, event_id).await.map_err(|_| Dropped::MissingAncestors)?;
            let event = self.verified(&room.room_id, &room.rules, &raw).await?;
            self.fetch_auth_events(origin, room, &event).await?;
            self.store_outliers(&room.rules.authorization, vec![event]).await?;
        }
        let event = self.stored_event(event_id).await?.ok_or(Dropped::MissingAncestors)?;
        if !event.pdu.rejected && event.pdu.room_id == room.room_id {
            state.extend(event.pdu.state_key_pair().map(|key| (key, event_id.clone())));
        }
        Ok(state)
    }

    /// The state before an event as `origin` claims it, its events fetched, verified and stored.
    pub(super) async fn fetch_state_before(
        &self,
        origin: &ServerName,
        room: &RoomSnapshot,
        event_id: &EventId,
        gaps: &mut StateGaps,
    ) -> Result<StateMap, Dropped> {
        let answer = self.federation().state_ids(origin, &room.room_id, event_id).await;
        let ids = answer.map_err(|_| Dropped::MissingAncestors)?;
        let all: Vec<OwnedEventId> = ids.pdu_ids.iter().chain(&ids.auth_chain_ids).cloned().collect();
        let known = self.storage().event_ids_known(&all).await?;
        let lacking: Vec<OwnedEventId> = all.into_iter().filter(|event_id| !known.contains(event_id)).collect();
        if !lacking.is_empty() {
            let raws = self.fetch_events(origin, room, event_id, &lacking).await?;
            let pdus = self.verified_all(&room.room_id, &room.rules, &raws).await;
            self.store_outliers(&room.rules.authorization, pdus).await?;
            gaps.newest_ms = gaps.newest_ms.max(self.newest_unverified(room, &lacking, raws).await?);
        }
        let mut state = StateMap::with_capacity(ids.pdu_ids.len());
        for ids in ids.pdu_ids.chunks(EVENTS_AT_ONCE) {
            let events = self.storage().events(ids).await?;
            gaps.is_any |= events.len() < unique(ids);
            let fit = self.fit_for_now(room, &events).await?;
            let is_rejected = |event: &StoredEvent| {
                matches!(event.standing, Standing::Rejected(_)) && !fit.contains_key(&event.pdu.event_id)
            };
            let accepted = events.iter().filter(|event| !is_rejected(event) && event.pdu.room_id == room.room_id);
            let entry = |event: &Arc<StoredEvent>| Some((event.pdu.state_key_pair()?, event.pdu.event_id.clone()));
            state.extend(accepted.filter_map(entry));
        }
        Ok(state)
    }

    /// When the newest event of a claimed state was made that could not be verified, in milliseconds since the epoch. Not
    /// one that says that it is of the future: that would never grow old.
    async fn newest_unverified(
        &self,
        room: &RoomSnapshot,
        lacking: &[OwnedEventId],
        raws: Vec<Box<RawValue>>,
    ) -> Result<Option<u64>, Dropped> {
        let stored = self.storage().event_ids_known(lacking).await?;
        let gaps: HashSet<_> = lacking.iter().filter(|event_id| !stored.contains(*event_id)).cloned().collect();
        if gaps.is_empty() {
            return Ok(None);
        }
        let until_ms = self.world().clock.now_ms().saturating_add(AHEAD_MS);
        let rules = room.rules.clone();
        let newest = self.apart(JUDGING * raws.len(), move || {
            let read = raws.iter().filter_map(|raw| read_pdu(raw.get(), &rules).ok());
            let unverified = read.filter(|(pdu, _)| gaps.contains(&pdu.event_id));
            unverified.map(|(pdu, _)| pdu.origin_server_ts.0.into()).filter(|made_ms| *made_ms <= until_ms).max()
        });
        Ok(newest.await)
    }

    async fn fetch_events(
        &self,
        origin: &ServerName,
        room: &RoomSnapshot,
        event_id: &EventId,
        lacking: &[OwnedEventId],
    ) -> Result<Vec<Box<RawValue>>, Dropped> {
        if lacking.len() > MAX_SINGLE_FETCHES {
            let answer = self.federation().state(origin, &room.room_id, event_id).await;
            let answer = answer.map_err(|_| Dropped::MissingAncestors)?;
            return Ok(answer.pdus.into_iter().chain(answer.auth_chain).collect());
        }
        let mut raws = Vec::with_capacity(lacking.len());
        for event_ids in lacking.chunks(FETCHES_AT_ONCE) {
            let fetches: Vec<_> = event_ids.iter().map(|event_id| self.federation().event(origin, event_id)).collect();
            for answer in join_all(fetches).await {
                match answer {
                    Ok(raw) => raws.push(raw),
                    // What it does not have, it cannot mean. But half a state for want of an answer would take away from
                    // the room what the other half holds.
                    Err(CallError::Refused { .. }) => {}
                    Err(_) => return Err(Dropped::MissingAncestors),
                }
            }
        }
        Ok(raws)
    }
}

/// Whether any of the wanted events is among those given, in the form of an event, whatever its signatures say.
fn gives_any(raws: &[Box<RawValue>], wanted: &[OwnedEventId], room: &RoomSnapshot) -> bool {
    raws.iter().any(|raw| read_pdu(raw.get(), &room.rules).is_ok_and(|(pdu, _)| wanted.contains(&pdu.event_id)))
}

fn unique(event_ids: &[OwnedEventId]) -> usize {
    event_ids.iter().collect::<HashSet<_>>().len()
}
