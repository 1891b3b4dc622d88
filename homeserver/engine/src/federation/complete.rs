//! Making a partial state complete: what another server says the state before our join was, what came since looked at
//! again, and one commit. See `docs/decisions/0008-partial-state.md`.

mod answers;
mod gaps;
mod given;
mod missed;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rules::{
    Change, Pdu, RoomSnapshot,
    change::{CompleteState, NewEvent, Placement, Standing, StateEntry},
    room::{StateKey, advance::all_server_changes},
};
use ruma::{
    OwnedEventId, OwnedUserId, ServerName, UserId,
    events::{StateEventType, room::member::MembershipState},
};
use storage::{CommitError, PartialStateRecord};
use tokio::time::{Instant, timeout_at};

use self::gaps::Beginning;
pub(super) use self::{answers::Answers, gaps::GapStates};
use super::{
    append::still_redacted,
    replay::{Outcome, Replay, Resolutions},
    verify::Dropped,
};
use crate::{Engine, EngineError, Result, rooms::Decision};

/// How long one server may hold up a round, whatever it lets trickle: then it is the turn of the next. The largest states
/// take minutes to be put together, sent and checked.
const ROUND_DEADLINE: Duration = Duration::from_mins(10);
/// What of that is left for what events build on that we lack, however long the state itself takes.
const GAPS_TIME: Duration = Duration::from_mins(2);
/// How often a room is looked at anew because it was changed meanwhile; the last time, nobody may.
const MAX_ATTEMPTS: usize = 5;

/// Why the state that a server gave does not do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Incomplete {
    #[error("{0}")]
    Dropped(#[from] Dropped),
    #[error("{0}")]
    Engine(#[from] EngineError),
    #[error("it is not the state of the room: {0}")]
    Unfit(&'static str),
    #[error("what some events build on is not to be had")]
    Gap,
    #[error("it takes too long")]
    Slow,
    #[error("the room changes too fast")]
    Busy,
    #[error("we have entered the room anew")]
    EnteredAnew,
}

impl From<storage::StorageError> for Incomplete {
    fn from(error: storage::StorageError) -> Self {
        Self::Engine(error.into())
    }
}

impl Engine {
    /// Completes the state of a room with what one server says, and with what others have said before.
    pub(crate) async fn complete_by(&self, record: &PartialStateRecord, server: &ServerName) -> Result<(), Incomplete> {
        let room = self.known_room(&record.room_id).await?;
        let join = self.stored_event(&record.event_id).await?;
        let join = join.ok_or_else(|| EngineError::internal("our own join is not stored"))?;
        let end = Instant::now() + ROUND_DEADLINE;
        let given = timeout_at(end - GAPS_TIME, self.state_given(record, server, &room, &join));
        let before = given.await.map_err(|_| Incomplete::Slow)??;
        let mut beginning = RoomSnapshot::empty(room.room_id.clone(), room.version.clone(), room.rules.clone())
            .at_home_on(self.server_name().to_owned());
        let entries = before.clone();
        let applying = self.apart(before.len(), move || {
            beginning.apply(&entries);
            beginning
        });
        let beginning = applying.await;
        let state = Beginning { before: &before, room: &beginning };
        let gap_states = self.gap_states(record, server, state, &join.pdu, end).await?;
        let committed = self.commit_complete(record, &join.pdu, (&before, beginning), &gap_states).await;
        if matches!(committed, Err(Incomplete::Unfit(_))) {
            self.inner.rooms.completing.answers.forget(&record.room_id);
        }
        committed
    }

    async fn commit_complete(
        &self,
        record: &PartialStateRecord,
        join: &Pdu,
        (before, beginning): (&[StateEntry], RoomSnapshot),
        gap_states: &GapStates,
    ) -> Result<(), Incomplete> {
        let mut resolutions = Resolutions::default();
        for attempt in 1..=MAX_ATTEMPTS {
            // Others go on meanwhile, but for the last time.
            let early = if attempt < MAX_ATTEMPTS { None } else { Some(self.inner.rooms.lock(&record.room_id).await) };
            let replay = Replay::new(beginning.clone(), join, record.position);
            let replay = self.replayed(record, replay, gap_states, &mut resolutions).await?;
            let _lock = match early {
                Some(lock) => lock,
                None => self.inner.rooms.lock(&record.room_id).await,
            };
            let room = self.known_room(&record.room_id).await?;
            if self.storage().partial_state(&record.room_id).await?.is_none_or(|now| now.event_id != record.event_id) {
                return Err(Incomplete::EnteredAnew);
            }
            let came = self.storage().came_after(&record.room_id, record.position - 1).await?;
            let replayed = replay.outcomes.iter().map(|outcome| (&outcome.event.pdu.event_id, outcome.event.order));
            if !replayed.eq(came.iter().map(|(event_id, order)| (event_id, *order))) {
                continue;
            }
            let decision = self.decide_complete(record, &room, before.to_vec(), replay).await?;
            match self.commit_decision(&room, decision).await {
                Ok(_) => return Ok(()),
                Err(CommitError::Conflict) => {}
                Err(CommitError::Storage(error)) => return Err(error.into()),
                Err(error) => return Err(EngineError::internal(error).into()),
            }
        }
        Err(Incomplete::Busy)
    }

    async fn decide_complete(
        &self,
        record: &PartialStateRecord,
        room: &RoomSnapshot,
        before: Vec<StateEntry>,
        replay: Replay,
    ) -> Result<Decision> {
        let mut after = replay.room.clone();
        (after.revision, after.position) = (room.revision, room.position);
        let mut changes = vec![Change::CompleteState(Box::new(CompleteState {
            room_id: record.room_id.clone(),
            joined_at: record.position,
            before,
            corrected: replay.corrected(room),
            since: replay.since.clone(),
        }))];
        for outcome in &replay.outcomes {
            if outcome.is_late() {
                changes.extend(self.late_changes(&replay, outcome, &after).await?);
            } else {
                changes.extend(rejudged(&replay, outcome));
            }
        }
        changes.extend(all_server_changes(room, &after));
        changes.extend(self.untold_members(&after).await?);
        changes.extend(self.undone_members(room, &after));
        changes.extend(self.missed_changes(record, &replay).await?);
        let event_ids = after.forward_extremities.iter().map(|(event_id, _)| event_id.clone()).collect();
        changes.push(Change::ForwardExtremities { room_id: room.room_id.clone(), event_ids });
        Ok(Decision { changes, room: after })
    }

    /// An event that was not accepted before comes into the timeline late.
    async fn late_changes(&self, replay: &Replay, outcome: &Outcome, after: &RoomSnapshot) -> Result<Vec<Change>> {
        let pdu = Arc::new(outcome.event.pdu.judged(false));
        tracing::info!(room.id = %pdu.room_id, event.id = %pdu.event_id, "an event is accepted after all");
        let redaction = self.redaction_change(after, &pdu).await?;
        let awaited = self.awaited_redaction_change(after, &pdu).await?;
        let event = Change::Event(Box::new(NewEvent {
            pdu,
            standing: Standing::Accepted,
            placement: Placement::Live,
            state_before: replay.reference(outcome),
            outbound: false,
        }));
        let redacted = still_redacted(&outcome.event);
        Ok(std::iter::once(event).chain(redacted).chain(redaction).chain(awaited).collect())
    }

    /// What our own users are in the room, as far as that is not what they were told.
    async fn untold_members(&self, room: &RoomSnapshot) -> Result<Vec<Change>> {
        let members = room.state().filter(|((event_type, key), value)| {
            let is_local = <&UserId>::try_from(key.as_str()).is_ok_and(|user_id| self.is_local(user_id));
            *event_type == StateEventType::RoomMember && value.membership.is_some() && is_local
        });
        let mut ids: Vec<OwnedEventId> = members.map(|(_, value)| value.event_id.clone()).collect();
        ids.sort_unstable();
        let mut changes = Vec::new();
        for event in self.storage().events(&ids).await? {
            let Some((user_id, membership)) = event.pdu.membership() else { continue };
            let told = self.storage().membership(&user_id, &room.room_id).await?;
            let is_told = told.is_some_and(|told| {
                (told.event_id == event.pdu.event_id && told.membership == membership)
                    || membership == MembershipState::Invite && told.membership == MembershipState::Leave
            });
            if !is_told {
                changes.push(Change::Membership {
                    user_id,
                    room_id: room.room_id.clone(),
                    membership,
                    event_id: event.pdu.event_id.clone(),
                    sender: event.pdu.sender.clone(),
                    stripped_state: None,
                });
            }
        }
        Ok(changes)
    }

    /// Those of our own users of whom nothing is left: they came by what is refused after all.
    fn undone_members(&self, told: &RoomSnapshot, room: &RoomSnapshot) -> Vec<Change> {
        let is_undone = |(event_type, key): &StateKey| {
            *event_type == StateEventType::RoomMember && room.state_value(event_type, key).is_none()
        };
        let undone = told.state().filter(|(key, _)| is_undone(key));
        let local = undone.filter_map(|((_, key), value)| Some((UserId::parse(key.as_str()).ok()?, &value.event_id)));
        let local: BTreeMap<_, _> = local.filter(|(user_id, _)| self.is_local(user_id)).collect();
        let left = |(user_id, event_id): (OwnedUserId, &OwnedEventId)| Change::Membership {
            sender: user_id.clone(),
            user_id,
            room_id: room.room_id.clone(),
            membership: MembershipState::Leave,
            event_id: event_id.clone(),
            stripped_state: None,
        };
        local.into_iter().map(left).collect()
    }
}

/// What is to be stored of an event anew.
fn rejudged(replay: &Replay, outcome: &Outcome) -> Option<Change> {
    let (event, state_before) = (&outcome.event, replay.reference(outcome));
    if event.standing == outcome.standing && event.state_before.is_none() && state_before.is_none() {
        return None;
    }
    if event.standing != outcome.standing {
        tracing::info!(event.id = %event.pdu.event_id, was = ?event.standing, is = ?outcome.standing, "judged anew");
    }
    let (event_id, standing) = (event.pdu.event_id.clone(), outcome.standing.clone());
    Some(Change::Rejudged { event_id, standing, state_before })
}
