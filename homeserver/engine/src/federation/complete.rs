//! Making a partial state complete: what another server says the state before our join was, what came since looked at
//! again, and one commit. See `docs/decisions/0008-partial-state.md`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use rules::{
    Change, Pdu, RoomSnapshot,
    change::{CompleteState, NewEvent, Placement, Standing, StateEntry},
    room::{
        StateKey, StateMap,
        advance::all_server_changes,
        authorise::{check_state, deciding_keys_of},
        send::entry_of,
    },
};
use ruma::{
    EventId, OwnedEventId, OwnedServerName, OwnedUserId, RoomId, ServerName, UserId,
    events::{StateEventType, room::member::MembershipState},
};
use storage::{CommitError, PartialStateRecord, StoredEvent};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    append::still_redacted,
    replay::{Outcome, Replay, Resolutions},
    verify::Dropped,
};
use crate::{Engine, EngineError, Result, rooms::Decision};

/// How many events are in memory at a time while a state is gone through.
const EVENTS_AT_ONCE: usize = 1_000;
/// How much may be lacking of what events build on that are taken while the state is partial: for each, another server is
/// asked for the state when all of it is to be known.
const MAX_LACKING: usize = 20;
/// How much of that may be lacking for events of one server, so that it cannot take the places of all others.
const MAX_LACKING_OF_SERVER: usize = 5;
/// How many rounds are given up because nobody says what such an event builds on. From then on what we know has to do.
const GAP_PATIENCE_FAILURES: u32 = 6;
/// How many rounds a state is believed only if all of its events are to be had, and, of another server than the one that
/// let us in, only if it has members of the servers that that one named.
const AGREEMENT_FAILURES: u32 = 9;
/// How many devices are told of to servers that should have been told before, counted once for each server.
const MAX_DEVICES_TOLD: usize = 50_000;
/// How often a room is looked at anew because it was changed meanwhile; the last time, nobody may.
const MAX_ATTEMPTS: usize = 5;
/// How long one server is asked for the state.
const STATE_DEADLINE: Duration = Duration::from_mins(10);
/// How long servers are asked for what events build on that we lack, all together.
const GAPS_DEADLINE: Duration = Duration::from_mins(2);
/// By how many entries such a state may differ from the one before our join.
const MAX_GAP_DIFFERENCE: usize = 1_000;
/// How many events of ours are sent to servers of which we did not know that they were in the room, counted the same.
const MAX_RESENT: usize = 50_000;

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

/// What other servers say of the states after what events build on that came since our join, and that we lack.
pub(super) struct GapStates {
    /// The events that came until the others were asked.
    looked_at: HashSet<OwnedEventId>,
    /// By event, how the states differ from the one before our join.
    differences: HashMap<OwnedEventId, Vec<Vec<StateEntry>>>,
}

impl GapStates {
    /// How the states differ that others say; none where nobody could. Nothing when the event came after they were asked.
    pub(super) fn of(&self, event_id: &EventId) -> Option<&[Vec<StateEntry>]> {
        let differences = self.differences.get(event_id).map(Vec::as_slice).unwrap_or_default();
        self.looked_at.contains(event_id).then_some(differences)
    }
}

/// Events with what they build on and we lack.
type Gaps = Vec<(Arc<StoredEvent>, Vec<OwnedEventId>)>;

impl Engine {
    /// Completes the state of a room with what one server says.
    pub(crate) async fn complete_by(&self, record: &PartialStateRecord, server: &ServerName) -> Result<(), Incomplete> {
        let room = self.known_room(&record.room_id).await?;
        let join = self.stored_event(&record.event_id).await?;
        let join = join.ok_or_else(|| EngineError::internal("our own join is not stored"))?;
        let given = timeout(STATE_DEADLINE, self.state_given(record, server, &room, &join));
        let before = given.await.map_err(|_| Incomplete::Slow)??;
        let mut beginning = RoomSnapshot::empty(room.room_id.clone(), room.version.clone(), room.rules.clone())
            .at_home_on(self.server_name().to_owned());
        beginning.apply(&before);
        let gap_states = self.gap_states(record, server, (&room, &beginning), &join.pdu).await?;
        self.commit_complete(record, &join.pdu, (before, beginning), &gap_states).await
    }

    /// The state before our join as a server says, if it is to be believed.
    async fn state_given(
        &self,
        record: &PartialStateRecord,
        server: &ServerName,
        room: &RoomSnapshot,
        join: &StoredEvent,
    ) -> Result<Vec<StateEntry>, Incomplete> {
        let given = self.fetch_claimed_states(server, room, &join.pdu, &join.pdu.prev_events).await?;
        if given.is_incomplete && record.failures < AGREEMENT_FAILURES {
            return Err(Incomplete::Unfit("events of it are not to be had"));
        }
        let state = self.resolve_states(room, given.states, None).await?;
        self.check_given(room, &join.pdu, &state).await?;
        let before = self.entries_of(&state).await?;
        if *server != record.entered_by {
            self.require_agreement(record, room, join, &state, &before).await?;
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
        let is_told = |(key, event_id): (&StateKey, &OwnedEventId)| told.get(key) == Some(event_id);
        if state.iter().filter(is_other).count() != told.iter().filter(is_other).count()
            || !state.iter().filter(is_other).all(is_told)
        {
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

    /// What other servers say of what events build on that came meanwhile, and that we lack: the one that is asked for
    /// the state, and those that made the events.
    async fn gap_states(
        &self,
        record: &PartialStateRecord,
        server: &ServerName,
        (room, beginning): (&RoomSnapshot, &RoomSnapshot),
        join: &Pdu,
    ) -> Result<GapStates, Incomplete> {
        let has_patience = record.failures < GAP_PATIENCE_FAILURES;
        let deadline = Instant::now() + GAPS_DEADLINE;
        let (looked_at, gaps) = self.gaps(record).await?;
        let mut differences = HashMap::with_capacity(gaps.len());
        for (event, lacking) in &gaps {
            let own = event.pdu.sender.server_name();
            let mut said = None;
            if matches!(&*join.prev_events, [_]) && **lacking == *join.prev_events {
                // It came at the same time as our join.
                differences.extend([(event.pdu.event_id.clone(), vec![Vec::new()])]);
                continue;
            }
            for asked in std::iter::once(server).chain((own != server).then_some(own)) {
                let asking = self.gap_state(asked, (room, beginning), &event.pdu, lacking);
                said = timeout_at(deadline, asking).await.unwrap_or(Ok(None))?;
                if said.is_some() {
                    break;
                }
            }
            match said {
                Some(said) => differences.extend([(event.pdu.event_id.clone(), said)]),
                None if has_patience => return Err(Incomplete::Gap),
                None => {}
            }
        }
        Ok(GapStates { looked_at, differences })
    }

    /// What one server says of what an event builds on, as it differs from the beginning; nothing if it does not say.
    async fn gap_state(
        &self,
        server: &ServerName,
        (room, beginning): (&RoomSnapshot, &RoomSnapshot),
        pdu: &Pdu,
        lacking: &[OwnedEventId],
    ) -> Result<Option<Vec<Vec<StateEntry>>>> {
        let given = match self.fetch_claimed_states(server, room, pdu, lacking).await {
            Ok(given) => given,
            Err(Dropped::Engine(error)) => return Err(error),
            Err(reason) => {
                tracing::info!(destination = %server, event.id = %pdu.event_id, %reason, "a gap stays");
                return Ok(None);
            }
        };
        let mut differences = Vec::with_capacity(given.states.len());
        for state in given.states {
            differences.push(self.difference(beginning, &state).await?);
        }
        Ok(differences.iter().all(|entries| entries.len() <= MAX_GAP_DIFFERENCE).then_some(differences))
    }

    /// The events that came since our join, and those of them of which we lack what they build on, with that: those
    /// first that were accepted.
    async fn gaps(&self, record: &PartialStateRecord) -> Result<(HashSet<OwnedEventId>, Gaps)> {
        let events = self.storage().events_that_came_after(&record.room_id, record.position - 1).await?;
        let came: HashSet<OwnedEventId> = events.iter().map(|event| event.pdu.event_id.clone()).collect();
        let is_own_join = |event: &Arc<StoredEvent>| event.pdu.event_id == record.event_id;
        let gap = |event: Arc<StoredEvent>| {
            let lacking = event.pdu.prev_events.iter().filter(|event_id| !came.contains(*event_id));
            let lacking: Vec<OwnedEventId> = lacking.cloned().collect();
            (!lacking.is_empty()).then_some((event, lacking))
        };
        let mut gaps: Gaps = events.into_iter().filter(|event| !is_own_join(event)).filter_map(gap).collect();
        gaps.sort_by_key(|(event, _)| event.standing != Standing::Accepted);
        Ok((came, gaps))
    }

    /// Whether an event can be taken while not all members are known of which we lack so many that it builds on: others
    /// would have to be asked about each, once they are.
    pub(super) async fn leaves_room_for_gap(&self, pdu: &Pdu, lacking: usize) -> Result<bool> {
        let counts = match self.inner.rooms.completing.lacking(&pdu.room_id) {
            Some(counts) => counts,
            None => self.count_lacking(&pdu.room_id).await?,
        };
        let of_server = counts.get(pdu.sender.server_name()).copied().unwrap_or(0);
        Ok(counts.values().sum::<usize>() + lacking <= MAX_LACKING && of_server + lacking <= MAX_LACKING_OF_SERVER)
    }

    async fn count_lacking(&self, room_id: &RoomId) -> Result<BTreeMap<OwnedServerName, usize>> {
        let mut counts = BTreeMap::new();
        if let Some(record) = self.storage().partial_state(room_id).await? {
            for (event, lacking) in self.gaps(&record).await?.1 {
                *counts.entry(event.pdu.sender.server_name().to_owned()).or_default() += lacking.len();
            }
            self.inner.rooms.completing.remember_lacking(room_id, counts.clone());
        }
        Ok(counts)
    }

    async fn commit_complete(
        &self,
        record: &PartialStateRecord,
        join: &Pdu,
        (before, beginning): (Vec<StateEntry>, RoomSnapshot),
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
            let decision = self.decide_complete(record, &room, before.clone(), replay).await?;
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
        let missed = replay.servers.iter().filter(|server| !room.has_server(server) && **server != *self.server_name());
        let missed: Vec<OwnedServerName> = missed.cloned().collect();
        changes.extend(self.missed_devices(record, &missed, &replay).await?);
        changes.extend(self.missed_events(record, &missed, &replay));
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
                told.event_id == event.pdu.event_id
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

    /// Changes of our users' devices of which servers were not told that were in the room all the time, or for some.
    async fn missed_devices(
        &self,
        record: &PartialStateRecord,
        servers: &[OwnedServerName],
        replay: &Replay,
    ) -> Result<Vec<Change>> {
        if servers.is_empty() {
            return Ok(Vec::new());
        }
        let mut residents: Vec<_> = replay.room.residents().cloned().collect();
        residents.sort_unstable();
        let mut changed = Vec::new();
        for user_id in residents {
            if self.storage().device_list_position(&user_id).await? > record.position {
                changed.push(user_id);
            }
        }
        let devices = self.storage().device_ids(&changed).await?;
        let change = |(user_id, device_id)| {
            let (device_id, servers) = (Some(device_id), servers.to_vec());
            Change::DeviceList { user_id, device_id, viewer: None, servers }
        };
        Ok(devices.into_iter().take(MAX_DEVICES_TOLD / servers.len()).map(change).collect())
    }

    /// What our users said of which servers were not told that were in the room then: the newest of it. The join by which
    /// we came in was made known by the server that let us in.
    fn missed_events(&self, record: &PartialStateRecord, servers: &[OwnedServerName], replay: &Replay) -> Vec<Change> {
        let is_ours = |event: &StoredEvent| self.is_local(&event.pdu.sender) && event.pdu.event_id != record.event_id;
        let ours = replay
            .outcomes
            .iter()
            .rev()
            .filter(|outcome| outcome.is_accepted() && outcome.event.order.is_some() && is_ours(&outcome.event));
        let missed = ours.take(MAX_RESENT / servers.len().max(1)).filter_map(|outcome| {
            let before = replay.before(&outcome.event)?;
            let servers: Vec<_> = servers.iter().filter(|server| before.has_server(server)).cloned().collect();
            (!servers.is_empty()).then(|| Change::Resend { event_id: outcome.event.pdu.event_id.clone(), servers })
        });
        let mut missed: Vec<Change> = missed.collect();
        missed.reverse();
        missed
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
