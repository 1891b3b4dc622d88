//! Putting an event into a room of ours, wherever in the graph it stands: the checks that need the room, state
//! resolution where the graph forks, and the commit.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu>

use std::{sync::Arc, time::Duration};

use rules::{
    Change, Pdu, RoomSnapshot,
    change::{NewEvent, Placement, Standing, StateEntry, StateReference},
    room::{
        EventsById, StateMap,
        advance::{Advance, advance, server_changes},
        authorise::{check_auth_events, deciding_keys_of},
        receive::{builds_on_head, extremities_after, judge},
        send::entry_of,
    },
};
use ruma::{OwnedEventId, events::StateEventType};
use storage::{CommitError, StoredEvent};

use super::{outliers::outlier_change, verify::Dropped};
use crate::{
    Engine, EngineError, Result,
    rooms::{Decision, MAX_ATTEMPTS},
};

/// For how long an event is waited for that cannot be verified.
const RECENT: Duration = Duration::from_hours(7 * 24);

/// Where an event comes from.
#[derive(Clone, Debug)]
pub(crate) enum Provenance {
    /// We made it, and must send it to the servers in the room.
    Ours,
    /// The same, and the states that other servers claim are to be resolved together with ours.
    OursWithStates(Arc<ClaimedStates>),
    /// Another server handed it to us for us to send it to the servers in the room: joins and leaves by way of us.
    Relayed,
    /// Another server sent it to us, as it did to the others.
    Theirs,
    /// The same, but some of the events before it are not known, and not asked for while not all members of the room are.
    TheirsWhilePartial,
    /// The same, but of some of the events before it no state is known here: the states after these are what that
    /// server says.
    TheirsWithStates(Arc<ClaimedStates>),
}

/// What another server says the states after some events are.
#[derive(Debug, Default)]
pub(crate) struct ClaimedStates {
    pub(crate) states: Vec<StateMap>,
    pub(crate) gaps: StateGaps,
}

/// Which events of claimed states could not be had or verified.
#[derive(Debug, Default)]
pub(crate) struct StateGaps {
    /// Any: then they cannot tell what is not allowed.
    pub(crate) is_any: bool,
    /// When the newest was made that was given and could not be verified, in milliseconds since the epoch.
    pub(crate) newest_ms: Option<u64>,
}

impl StateGaps {
    /// Whether an event could not be verified that was made within a time before now. Its server is most likely just not to
    /// be reached for its keys, and without the event its users would be strangers to us for good. That of an older one may
    /// be gone, and must not keep us from the room for ever.
    pub(crate) fn are_within(&self, recent: Duration, now_ms: u64) -> bool {
        let since_ms = now_ms.saturating_sub(u64::try_from(recent.as_millis()).unwrap_or(u64::MAX));
        self.newest_ms.is_some_and(|made_ms| made_ms > since_ms)
    }

    /// Whether one could not be verified of the last week: servers that are to come back have come back after one.
    pub(crate) fn are_recent(&self, now_ms: u64) -> bool {
        self.are_within(RECENT, now_ms)
    }
}

impl ClaimedStates {
    /// Fails where recent events could not be verified.
    pub(crate) fn verified(self, now_ms: u64) -> Result<Self, Dropped> {
        if self.gaps.are_recent(now_ms) { Err(Dropped::UnverifiedState) } else { Ok(self) }
    }
}

/// The state before an event.
enum StateBefore {
    /// The current state: the event builds on the head of the room.
    Current,
    /// Worked out.
    Worked(Arc<StateMap>),
}

impl Engine {
    /// Appends an event of which all ancestors are stored, and fails unless it is accepted.
    pub(crate) async fn append(&self, pdu: &Arc<Pdu>, provenance: Provenance) -> Result<()> {
        match self.try_append(pdu, provenance).await? {
            Standing::Accepted => Ok(()),
            Standing::SoftFailed(reason) | Standing::Rejected(reason) => Err(EngineError::Forbidden(reason)),
            Standing::Outlier => Err(EngineError::internal("an appended event became an outlier")),
        }
    }

    /// Appends an event of which all ancestors are stored, and tells what the checks said.
    pub(crate) async fn try_append(&self, pdu: &Arc<Pdu>, provenance: Provenance) -> Result<Standing> {
        let not_here = || EngineError::forbidden("This server is not in the room");
        let room = self.resident_room(&pdu.room_id).await?.ok_or_else(not_here)?;
        // Without holding the room, which would wait for a slow policy server.
        let (wire, refusal) = self.with_recommendation_if_any(&room, pdu).await?;
        let _lock = self.inner.rooms.lock(&pdu.room_id).await;
        for _ in 0..MAX_ATTEMPTS {
            let room = self.resident_room(&pdu.room_id).await?.ok_or_else(not_here)?;
            if matches!(provenance, Provenance::TheirsWhilePartial) && !room.is_partial() {
                // They are to be asked for now.
                return Ok(Standing::Outlier);
            }
            if room.states_since > 0
                && matches!(provenance, Provenance::Theirs)
                && !self.missing_prev(&room, pdu).await?.is_empty()
            {
                // We have left and come back meanwhile: what was known of them was a part.
                return Ok(Standing::Outlier);
            }
            let stored = self.stored_event(&pdu.event_id).await?;
            if let Some(stored) = &stored
                && !matches!(stored.standing, Standing::Outlier | Standing::SoftFailed(_))
            {
                return Ok(stored.standing.clone());
            }
            let pdu = stored.as_ref().map_or(&wire, |stored| fuller(stored, &wire));
            let (standing, mut decision) = self.decide_append(&room, pdu, &provenance, refusal).await?;
            decision.changes.extend(stored.as_ref().and_then(|stored| still_redacted(stored)));
            match self.commit_decision(&room, decision).await {
                Ok(_) => return Ok(standing),
                Err(CommitError::Conflict) => {}
                Err(CommitError::Storage(error)) => return Err(error.into()),
                Err(error) => return Err(EngineError::internal(error)),
            }
        }
        Err(EngineError::Busy)
    }

    async fn decide_append(
        &self,
        room: &RoomSnapshot,
        pdu: &Arc<Pdu>,
        provenance: &Provenance,
        refusal: &str,
    ) -> Result<(Standing, Decision)> {
        let learned = self.unknown_members(room, pdu).await?;
        let known = with_members(room, &learned);
        let (whole, room) = (room, known.as_ref().unwrap_or(room));
        let mut before = match provenance {
            Provenance::TheirsWithStates(states) | Provenance::OursWithStates(states) => {
                StateBefore::Worked(Arc::new(self.state_with_claims(room, pdu, &states.states).await?))
            }
            _ if builds_on_head(room, pdu) => StateBefore::Current,
            _ => StateBefore::Worked(Arc::new(self.state_before(room, pdu).await?)),
        };
        before.learn(&learned);
        let events = self.events_to_judge(room, pdu, &before).await?;
        let standing = judge(room, pdu, |event_type, key| before.get(room, event_type, key), &events);
        let standing = match (standing, provenance) {
            (Standing::Rejected(_), Provenance::TheirsWithStates(states))
                if states.gaps.is_any && check_auth_events(&room.rules.authorization, pdu, &events).is_ok() =>
            {
                Standing::Outlier
            }
            // 7. Is validated by the policy server, if the room uses one.
            (Standing::Accepted, _) if !self.is_recommended(room, pdu).await? => {
                Standing::SoftFailed(refusal.to_owned())
            }
            (standing, _) => standing,
        };
        let outbound = matches!(provenance, Provenance::Ours | Provenance::OursWithStates(_) | Provenance::Relayed);
        let decision = match &standing {
            Standing::Accepted => {
                let mut decision = self.accept(room, pdu, before, outbound).await?;
                self.add_learned(whole, room, learned, &mut decision.changes).await?;
                decision
            }
            Standing::Outlier => {
                Decision { changes: vec![outlier_change(pdu.clone(), Standing::Outlier)], room: whole.clone() }
            }
            refused => {
                tracing::info!(room.id = %room.room_id, event.id = %pdu.event_id, ?refused, "event not accepted");
                let mut decision = self.keep_aside(room, pdu, refused.clone(), &before).await?;
                decision.room = whole.clone();
                decision
            }
        };
        Ok((standing, decision))
    }

    /// The members that an event names of whom a partial state knows nothing.
    async fn unknown_members(&self, room: &RoomSnapshot, pdu: &Pdu) -> Result<Vec<StateEntry>> {
        if !room.is_partial() {
            return Ok(Vec::new());
        }
        let named = self.events_by_id(&pdu.auth_events).await?;
        Ok(room.unknown_members(pdu.auth_events.iter().filter_map(|id| named.get(id)).map(|pdu| &**pdu)))
    }

    /// Adds that members became part of a partial state: what authorises an event that we accept is believed until all of
    /// the state is known. Who was never heard of was there when we entered; others, from the event on.
    async fn add_learned(
        &self,
        before: &RoomSnapshot,
        after: &RoomSnapshot,
        learned: Vec<StateEntry>,
        changes: &mut Vec<Change>,
    ) -> Result<()> {
        let room_id = &before.room_id;
        let mut others = server_changes(before, after, &learned);
        let (mut new, mut again) = (Vec::new(), Vec::new());
        for entry in learned {
            let is_known = self.storage().knows_state_key(room_id, &entry.event_type, &entry.state_key).await?;
            if is_known { again.push(entry) } else { new.push(entry) }
        }
        if !again.is_empty() {
            // After the event, and before what it changes itself.
            changes.insert(1, Change::State { room_id: room_id.clone(), entries: again });
        }
        if !new.is_empty() {
            others.insert(0, Change::InitialState { room_id: room_id.clone(), entries: new });
        }
        changes.splice(0..0, others);
        Ok(())
    }

    async fn accept(
        &self,
        room: &RoomSnapshot,
        pdu: &Arc<Pdu>,
        before: StateBefore,
        outbound: bool,
    ) -> Result<Decision> {
        let forward_extremities = match before {
            StateBefore::Current => extremities_after(room, pdu),
            StateBefore::Worked(_) => self.extremities_after_fork(room, pdu).await?,
        };
        let state_before = self.reference(room, &before).await?;
        let entries = match before {
            StateBefore::Current => entry_of(pdu).into_iter().collect(),
            StateBefore::Worked(state) => {
                let state = Arc::unwrap_or_clone(state);
                let merged = self.state_after_fork(room, pdu, state, &forward_extremities).await?;
                self.entries_for(room, &Arc::new(merged), pdu).await?
            }
        };
        let members = self.member_events(&entries).await?;
        let step = Advance { forward_extremities, state_before, outbound, ..Advance::new(pdu.clone(), entries) };
        let step = advance(room, step, &members);
        let mut changes = step.changes;
        changes.extend(self.redaction_change(room, pdu).await?);
        changes.extend(self.awaited_redaction_change(room, pdu).await?);
        let after = step.room.ok_or_else(|| EngineError::internal("an accepted event leads to no room"))?;
        Ok(Decision { changes, room: after })
    }

    /// Stores an event that was not accepted, with the state before it, for others may build on it.
    async fn keep_aside(
        &self,
        room: &RoomSnapshot,
        pdu: &Arc<Pdu>,
        standing: Standing,
        before: &StateBefore,
    ) -> Result<Decision> {
        let current = StateReference { base: room.position, delta: Vec::new() };
        let state_before = Some(self.reference(room, before).await?.unwrap_or(current));
        let pdu = match &standing {
            Standing::Rejected(_) => Arc::new(Pdu::clone(pdu).into_rejected()),
            _ => pdu.clone(),
        };
        let event = NewEvent { pdu, standing, placement: Placement::None, state_before, outbound: false };
        Ok(Decision { changes: vec![Change::Event(Box::new(event))], room: room.clone() })
    }

    async fn reference(&self, room: &RoomSnapshot, before: &StateBefore) -> Result<Option<StateReference>> {
        let StateBefore::Worked(state) = before else { return Ok(None) };
        let delta = self.difference(room, state).await?;
        Ok(Some(StateReference { base: room.position, delta }))
    }

    /// What of `state` differs from the current state of the room.
    pub(crate) async fn difference(&self, room: &RoomSnapshot, state: &Arc<StateMap>) -> Result<Vec<StateEntry>> {
        let (room, state) = (room.clone(), state.clone());
        let mut entries = self.apart(state.len(), move || room.difference(&state, |_| None)).await;
        let members = self.member_events(&entries).await?;
        for entry in &mut entries {
            let member = entry.event_id.as_ref().and_then(|event_id| members.get(event_id));
            entry.membership = member.and_then(|member| member.membership()).map(|(_, membership)| membership);
        }
        Ok(entries)
    }

    /// The same, where the new event, which is not stored yet, may be part of the state.
    async fn entries_for(&self, room: &RoomSnapshot, state: &Arc<StateMap>, pdu: &Arc<Pdu>) -> Result<Vec<StateEntry>> {
        let mut entries = self.difference(room, state).await?;
        for entry in entries.iter_mut().filter(|entry| entry.event_id.as_ref() == Some(&pdu.event_id)) {
            entry.membership = pdu.membership().map(|(_, membership)| membership);
        }
        Ok(entries)
    }

    async fn member_events(&self, entries: &[StateEntry]) -> Result<EventsById> {
        let members = entries.iter().filter(|entry| entry.event_type == StateEventType::RoomMember);
        let ids: Vec<OwnedEventId> = members.filter_map(|entry| entry.event_id.clone()).collect();
        self.events_by_id(&ids).await
    }

    async fn events_to_judge(&self, room: &RoomSnapshot, pdu: &Pdu, before: &StateBefore) -> Result<EventsById> {
        let mut ids = pdu.auth_events.clone();
        ids.extend(room.state_event_id(&StateEventType::RoomCreate, "").map(ToOwned::to_owned));
        // An event whose content names no deciding state is rejected by the checks themselves.
        for (event_type, key) in deciding_keys_of(&room.rules.authorization, pdu).unwrap_or_default() {
            ids.extend(before.get(room, &event_type, &key));
            ids.extend(room.state_event_id(&event_type, &key).map(ToOwned::to_owned));
        }
        ids.sort();
        ids.dedup();
        self.events_by_id(&ids).await
    }

    /// A redaction of this event that came before it.
    pub(crate) async fn awaited_redaction_change(&self, room: &RoomSnapshot, pdu: &Pdu) -> Result<Option<Change>> {
        let awaited = self.storage().awaited_redactions(std::slice::from_ref(&pdu.event_id)).await?;
        let levels = self.power_levels(room).await?;
        for (_, redaction_id) in awaited {
            let redaction = self.stored_event(&redaction_id).await?;
            let Some(redaction) = redaction.filter(|redaction| redaction.standing == Standing::Accepted) else {
                continue;
            };
            if rules::room::redact::takes_effect(&redaction.pdu, pdu, &levels) {
                return Ok(rules::room::redact::change(&redaction.pdu, pdu, &room.rules));
            }
        }
        Ok(None)
    }
}

/// Which of two forms of an event is to be used, where one is stored: what was redacted stays so, and what was left of an
/// event that somebody has tampered with is less than the event.
fn fuller<'a>(stored: &'a StoredEvent, wire: &'a Arc<Pdu>) -> &'a Arc<Pdu> {
    let is_less = wire.content.get().len() < stored.pdu.content.get().len();
    if stored.redacted_by.is_some() || is_less { &stored.pdu } else { wire }
}

/// The redaction of an event that was stored before: whatever follows from the event now is to be without what it took.
pub(super) fn still_redacted(stored: &StoredEvent) -> Option<Change> {
    let redacted_by = stored.redacted_by.clone()?;
    let (event_id, json) = (stored.pdu.event_id.clone(), stored.pdu.json.clone());
    Some(Change::Redaction { event_id, redacted_by, json })
}

/// A partial state with members that it lacked.
fn with_members(room: &RoomSnapshot, learned: &[StateEntry]) -> Option<RoomSnapshot> {
    (!learned.is_empty()).then(|| {
        let mut room = room.clone();
        room.apply(learned);
        room
    })
}

impl StateBefore {
    /// Adds members that a partial state lacks.
    fn learn(&mut self, learned: &[StateEntry]) {
        let Self::Worked(state) = self else { return };
        for entry in learned {
            let key = (entry.event_type.clone(), entry.state_key.clone());
            if let Some(event_id) = &entry.event_id {
                Arc::make_mut(state).entry(key).or_insert_with(|| event_id.clone());
            }
        }
    }

    fn get(&self, room: &RoomSnapshot, event_type: &StateEventType, state_key: &str) -> Option<OwnedEventId> {
        match self {
            Self::Current => room.state_event_id(event_type, state_key).map(ToOwned::to_owned),
            Self::Worked(state) => state.get(&(event_type.clone(), state_key.to_owned())).cloned(),
        }
    }
}
