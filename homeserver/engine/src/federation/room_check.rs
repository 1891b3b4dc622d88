//! Comparing what we take for the state of a room with what the other servers in it do, and setting it right.
//!
//! Servers that have the same events come to the same state. Where one had been away when events came, or was told less
//! than all when it joined, states may differ for good, since nothing in the protocol finds out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rules::{
    RoomSnapshot,
    change::Standing,
    event::read_pdu,
    room::{StateKey, StateMap, send::Intent},
};
use ruma::{
    CanonicalJsonObject, EventId, OwnedEventId, OwnedServerName, OwnedUserId, RoomId, ServerName,
    events::{StateEventType, TimelineEventType, room::member::MembershipState},
};
use storage::{Direction, StoredEvent, TimelineRange};

use super::append::{ClaimedStates, Provenance, StateGaps};
use crate::{Engine, EngineError, Result};

/// How many servers are asked.
const MAX_SERVERS: usize = 20;
/// How many of our latest events are tried until a server knows one of them.
const MAX_EVENTS_TRIED: usize = 5;
/// How many events that we lack are fetched to tell what they are.
const MAX_SHOWN_FETCHES: usize = 50;
/// What is sent to have the room's state resolved anew: clients of other servers know that it is not to be shown.
const DUMMY_EVENT_TYPE: &str = "org.matrix.dummy_event";

/// How a room is here and elsewhere.
#[derive(Clone, Debug)]
pub struct RoomCheck {
    /// What each of the other servers said.
    pub servers: Vec<ServerCheck>,
    /// Servers that were not asked, there being too many.
    pub servers_left_out: usize,
}

/// How a room is on one other server.
#[derive(Clone, Debug)]
pub struct ServerCheck {
    /// The server.
    pub server: OwnedServerName,
    /// What it said; the error says why it said nothing, for an operator to read.
    pub outcome: Result<Comparison, String>,
}

/// Two states before the same event.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The event.
    pub event_id: OwnedEventId,
    /// How many entries our state has.
    pub entries: usize,
    /// What differs, in the order of types and state keys.
    pub differences: Vec<StateDifference>,
    /// Events of the other server's state of which it cannot be told what they are.
    pub unknown: Vec<OwnedEventId>,
}

/// One entry that is not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDifference {
    /// The event type.
    pub event_type: StateEventType,
    /// The state key.
    pub state_key: String,
    /// Our value.
    pub ours: Option<OwnedEventId>,
    /// Theirs.
    pub theirs: Option<OwnedEventId>,
}

impl Comparison {
    /// Whether both are the same.
    pub fn agrees(&self) -> bool {
        self.differences.is_empty() && self.unknown.is_empty()
    }
}

impl Engine {
    /// Compares the state of a room with that of the other servers in it, each at the latest event that it knows.
    pub async fn check_room(&self, room_id: &RoomId) -> Result<RoomCheck> {
        let room = self.room_to_check(room_id).await?;
        let mut others: Vec<OwnedServerName> =
            room.servers().filter(|server| *server != self.server_name()).map(ToOwned::to_owned).collect();
        others.sort();
        let servers_left_out = others.len().saturating_sub(MAX_SERVERS);
        others.truncate(MAX_SERVERS);
        let latest = self.latest_of_timeline(&room).await?;
        let mut servers = Vec::with_capacity(others.len());
        for server in others {
            let outcome = self.check_with(&room, &server, &latest).await;
            if let Err(EngineError::Storage(error)) = outcome {
                return Err(error.into());
            }
            servers.push(ServerCheck { server, outcome: outcome.map_err(|error| error.to_string()) });
        }
        Ok(RoomCheck { servers, servers_left_out })
    }

    /// Fetches from the servers that differ what they take for the state, as from any that sends us an event which forks
    /// the room, and resolves it together with ours. An event by one of our users makes the result known to those who
    /// read the log. Returns that event; nothing if there was nothing to do.
    pub async fn repair_room(&self, room_id: &RoomId, check: &RoomCheck) -> Result<Option<OwnedEventId>> {
        let room = self.room_to_check(room_id).await?;
        let mut claimed = ClaimedStates::default();
        for ServerCheck { server, outcome } in &check.servers {
            let Ok(comparison) = outcome.as_ref() else { continue };
            if comparison.agrees() {
                continue;
            }
            let event_id = &comparison.event_id;
            let mut gaps = StateGaps::default();
            match self.fetch_state_before(server, &room, event_id, &mut gaps).await {
                Ok(_) if gaps.are_recent(self.world().clock.now_ms()) => {
                    tracing::warn!(destination = %server, "the state of this server cannot be verified now");
                }
                Ok(state) => {
                    claimed.gaps.is_any |= gaps.is_any;
                    claimed.states.push(self.with_events_since(&room, event_id, state).await?);
                }
                Err(error) => {
                    tracing::warn!(destination = %server, %error, "the state of this server could not be fetched");
                }
            }
        }
        if claimed.states.is_empty() {
            return Ok(None);
        }
        let sender = self.speaker(&room).await?;
        let intent = Intent {
            sender,
            event_type: TimelineEventType::from(DUMMY_EVENT_TYPE),
            state_key: None,
            content: CanonicalJsonObject::new(),
            redacts: None,
            sticky_duration_ms: None,
            origin_server_ts: None,
        };
        let pdu = self.make_event(&room, intent).await?;
        let pdu = self.with_recommendation(&room, pdu).await?;
        self.append(&pdu, Provenance::OursWithStates(Arc::new(claimed))).await?;
        Ok(Some(pdu.event_id.clone()))
    }

    async fn room_to_check(&self, room_id: &RoomId) -> Result<Arc<RoomSnapshot>> {
        let room = self.resident_room(room_id).await?;
        let room = room.ok_or_else(|| EngineError::not_found(format!("no user of this server is in {room_id}")))?;
        // There is nothing to compare with yet, and what is lacking is asked for anyway.
        if room.is_partial() { Err(EngineError::MembersUnknown) } else { Ok(room) }
    }

    /// The latest events of the timeline, newest first.
    async fn latest_of_timeline(&self, room: &RoomSnapshot) -> Result<Vec<Arc<StoredEvent>>> {
        let range = TimelineRange { after: None, until: None, direction: Direction::Backward, limit: MAX_EVENTS_TRIED };
        Ok(self.storage().timeline(&room.room_id, range).await?)
    }

    async fn check_with(
        &self,
        room: &RoomSnapshot,
        server: &ServerName,
        latest: &[Arc<StoredEvent>],
    ) -> Result<Comparison> {
        let mut refusal = "it knows none of our latest events".to_owned();
        for event in latest {
            let Some(ours) = self.stored_state_before(room, event).await? else { continue };
            match self.federation().state_ids(server, &room.room_id, &event.pdu.event_id).await {
                Ok(ids) => return self.compare(room, server, &event.pdu.event_id, ours, ids.pdu_ids).await,
                Err(error) => refusal = error.to_string(),
            }
        }
        Err(EngineError::CannotFederate(refusal))
    }

    async fn compare(
        &self,
        room: &RoomSnapshot,
        server: &ServerName,
        event_id: &EventId,
        ours: StateMap,
        theirs: Vec<OwnedEventId>,
    ) -> Result<Comparison> {
        let (keys, unknown) = self.keys_of(room, server, &theirs).await?;
        let wanted: BTreeSet<&StateKey> = ours.keys().chain(keys.keys()).collect();
        let differs = |key: &&StateKey| ours.get(*key) != keys.get(*key);
        let differences = wanted.into_iter().filter(differs).map(|key| StateDifference {
            event_type: key.0.clone(),
            state_key: key.1.clone(),
            ours: ours.get(key).cloned(),
            theirs: keys.get(key).cloned(),
        });
        let (entries, differences) = (ours.len(), differences.collect());
        Ok(Comparison { event_id: event_id.to_owned(), entries, differences, unknown })
    }

    /// For which keys some events stand. Those that we lack are only looked at, not taken.
    async fn keys_of(
        &self,
        room: &RoomSnapshot,
        server: &ServerName,
        event_ids: &[OwnedEventId],
    ) -> Result<(BTreeMap<StateKey, OwnedEventId>, Vec<OwnedEventId>)> {
        let stored = self.storage().events(event_ids).await?;
        let mut lacking: BTreeSet<&OwnedEventId> = event_ids.iter().collect();
        let mut keys = BTreeMap::new();
        for event in &stored {
            lacking.remove(&event.pdu.event_id);
            keys.extend(event.pdu.state_key_pair().map(|key| (key, event.pdu.event_id.clone())));
        }
        let mut unknown = Vec::new();
        for (number, event_id) in lacking.into_iter().enumerate() {
            let given =
                if number < MAX_SHOWN_FETCHES { self.federation().event(server, event_id).await.ok() } else { None };
            let pdu = given.and_then(|raw| Some(read_pdu(raw.get(), &room.rules).ok()?.0));
            match pdu.filter(|pdu| pdu.event_id == *event_id).and_then(|pdu| pdu.state_key_pair()) {
                Some(key) => drop(keys.insert(key, event_id.clone())),
                None => unknown.push(event_id.clone()),
            }
        }
        Ok((keys, unknown))
    }

    /// A state before one of our latest events, with what has changed here since.
    async fn with_events_since(
        &self,
        room: &RoomSnapshot,
        event_id: &EventId,
        mut state: StateMap,
    ) -> Result<StateMap> {
        let latest = self.latest_of_timeline(room).await?;
        let since = latest.iter().position(|event| event.pdu.event_id == event_id).map_or(0, |index| index + 1);
        for event in latest[..since].iter().rev().filter(|event| event.standing == Standing::Accepted) {
            state.extend(event.pdu.state_key_pair().map(|key| (key, event.pdu.event_id.clone())));
        }
        Ok(state)
    }

    /// One of our users in the room, by whom an event can be sent: the first by name of those with the most power.
    async fn speaker(&self, room: &RoomSnapshot) -> Result<OwnedUserId> {
        let mut joined = self.storage().members_with(&room.room_id, &[MembershipState::Join]).await?;
        joined.retain(|user_id| self.is_local(user_id));
        joined.sort();
        let levels = self.power_levels(room).await?;
        let strongest = joined.iter().find(|user_id| levels.may_redact(user_id)).or_else(|| joined.first());
        strongest.cloned().ok_or_else(|| EngineError::forbidden("No user of this server is in the room"))
    }
}
