//! What events build on that came while not all members of their room were known, and that we lack: how many such are
//! taken, and what other servers say of them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use rules::{
    Pdu, RoomSnapshot,
    change::{Standing, StateEntry},
};
use ruma::{EventId, OwnedEventId, OwnedServerName, RoomId, ServerName};
use storage::{PartialStateRecord, StoredEvent};
use tokio::time::{Instant, timeout};

use super::{
    Incomplete,
    answers::{Differences, Gap},
};
use crate::{Engine, Result, federation::verify::Dropped};

/// How much may be lacking of what events build on that are taken while the state is partial: for each, another server is
/// asked for the state when all of it is to be known.
const MAX_LACKING: usize = 20;
/// How much of that may be lacking for events of one server, so that it cannot take the places of all others.
const MAX_LACKING_OF_SERVER: usize = 5;
/// How many rounds are given up because nobody says what such an event builds on. From then on what we know has to do.
const GAP_PATIENCE_FAILURES: u32 = 6;
/// By how many entries such a state may differ from the one before our join.
const MAX_GAP_DIFFERENCE: usize = 1_000;

/// What other servers say of the states after what events build on that came since our join, and that we lack.
pub(in crate::federation) struct GapStates {
    /// The events that came until the others were asked.
    looked_at: HashSet<OwnedEventId>,
    /// By event, how the states differ from the one before our join.
    differences: HashMap<OwnedEventId, Differences>,
}

impl GapStates {
    /// How the states differ that others say; none where nobody could. Nothing when the event came after they were asked.
    pub(in crate::federation) fn of(&self, event_id: &EventId) -> Option<&[Vec<StateEntry>]> {
        let differences = self.differences.get(event_id).map(Vec::as_slice).unwrap_or_default();
        self.looked_at.contains(event_id).then_some(differences)
    }
}

/// Events with what they build on and we lack.
type Gaps = Vec<(Arc<StoredEvent>, Vec<OwnedEventId>)>;

/// The state before our join, from which others differ.
pub(super) struct Beginning<'a> {
    /// Its entries, by which answers are remembered.
    pub(super) before: &'a Arc<[StateEntry]>,
    /// The same as a room.
    pub(super) room: &'a RoomSnapshot,
}

/// The time that is left for so many askings, of which each has the same part of it.
struct Share {
    askings: usize,
    end: Instant,
}

impl Share {
    fn next(&mut self) -> Duration {
        let askings = u32::try_from(self.askings).unwrap_or(u32::MAX);
        self.askings -= 1;
        self.end.saturating_duration_since(Instant::now()) / askings
    }
}

impl Engine {
    /// What other servers say of what events build on that came meanwhile, and that we lack: the one that is asked for
    /// the state, and those that made the events. Whatever is left to be asked has the same share of the time until `end`.
    pub(super) async fn gap_states(
        &self,
        record: &PartialStateRecord,
        server: &ServerName,
        beginning: Beginning<'_>,
        join: &Pdu,
        end: Instant,
    ) -> Result<GapStates, Incomplete> {
        let (looked_at, gaps) = self.gaps(record).await?;
        let mut differences = HashMap::with_capacity(gaps.len());
        let mut is_open = false;
        for (number, (event, lacking)) in gaps.iter().enumerate() {
            let pdu = &event.pdu;
            if matches!(&*join.prev_events, [_]) && **lacking == *join.prev_events {
                // It came at the same time as our join.
                differences.extend([(pdu.event_id.clone(), vec![Vec::new()])]);
                continue;
            }
            let share = Share { askings: 2 * (gaps.len() - number), end };
            let said = self.said_of_gap(record, server, &beginning, (pdu, lacking), share).await?;
            is_open |= said.is_none();
            differences.extend(said.map(|said| (pdu.event_id.clone(), said)));
        }
        if is_open && record.failures < GAP_PATIENCE_FAILURES {
            return Err(Incomplete::Gap);
        }
        Ok(GapStates { looked_at, differences })
    }

    /// What somebody has said of what an event builds on, or says now: `server`, or else the one that made the event. Who let
    /// us in is asked nevertheless where a third has said it.
    async fn said_of_gap(
        &self,
        record: &PartialStateRecord,
        server: &ServerName,
        beginning: &Beginning<'_>,
        (pdu, lacking): (&Pdu, &[OwnedEventId]),
        mut share: Share,
    ) -> Result<Option<Differences>> {
        let known = self.inner.rooms.completing.answers.gap(&record.room_id, beginning.before, &pdu.event_id);
        if known.as_ref().is_some_and(|known| !known.is_of_third || *server != record.entered_by) {
            return Ok(known.map(|known| known.differences));
        }
        let own = pdu.sender.server_name();
        for server in std::iter::once(server).chain((own != server).then_some(own)) {
            let is_of_third = *server != record.entered_by && server != own;
            let asking = self.gap_state(server, beginning, (pdu, lacking), is_of_third);
            if let Some(said) = timeout(share.next(), asking).await.unwrap_or(Ok(None))? {
                return Ok(Some(said));
            }
        }
        Ok(known.map(|known| known.differences))
    }

    /// What one server says of what an event builds on, as it differs from the beginning; nothing if it does not say.
    async fn gap_state(
        &self,
        server: &ServerName,
        beginning: &Beginning<'_>,
        (pdu, lacking): (&Pdu, &[OwnedEventId]),
        is_of_third: bool,
    ) -> Result<Option<Differences>> {
        let room = self.known_room(&pdu.room_id).await?;
        let given = self.fetch_claimed_states(server, &room, pdu, lacking).await;
        let given = match given.and_then(|given| given.verified(self.world().clock.now_ms())) {
            Ok(given) => given,
            Err(Dropped::Engine(error)) => return Err(error),
            Err(reason) => {
                tracing::info!(destination = %server, event.id = %pdu.event_id, %reason, "a gap stays");
                return Ok(None);
            }
        };
        let mut differences = Vec::with_capacity(given.states.len());
        for state in given.states {
            differences.push(self.difference(beginning.room, &Arc::new(state)).await?);
        }
        if differences.iter().any(|entries| entries.len() > MAX_GAP_DIFFERENCE) {
            return Ok(None);
        }
        if !given.gaps.is_any {
            let answers = &self.inner.rooms.completing.answers;
            let gap = Gap { differences: differences.clone(), is_of_third };
            answers.remember_gap(&pdu.room_id, beginning.before, &pdu.event_id, gap);
        }
        Ok(Some(differences))
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
    pub(in crate::federation) async fn leaves_room_for_gap(&self, pdu: &Pdu, lacking: usize) -> Result<bool> {
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
}
