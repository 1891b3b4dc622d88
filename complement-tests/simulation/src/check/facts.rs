//! What the servers have stored of a room: what all checks compare with.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use rules::change::Standing;
use ruma::{
    OwnedEventId, OwnedServerName, OwnedUserId,
    events::{StateEventType, room::member::MembershipState},
};
use serde_json::Value;
use storage::{Direction, StateSpan, StoredEvent, TimelineRange};

use crate::{Failure, universe::Universe};

/// One room as one server has it.
pub(super) struct RoomFacts {
    /// The number of the server.
    pub(super) server: usize,
    /// The resolved state now, by type and state key.
    pub(super) state: BTreeMap<(String, String), OwnedEventId>,
    /// The timeline, oldest first.
    pub(super) timeline: Vec<Arc<StoredEvent>>,
    /// The order of each event of the timeline.
    pub(super) orders: HashMap<OwnedEventId, i64>,
    /// What each user's membership was through time.
    pub(super) memberships: BTreeMap<OwnedUserId, Vec<StateSpan>>,
    /// What the history visibility was through time; `None` where it is not known.
    pub(super) visibilities: Vec<(StateSpan, Option<String>)>,
    /// Whether the server does not know all members.
    pub(super) is_partial: bool,
    /// Since when it does, if it did not at first; 0 otherwise.
    pub(super) complete_since: i64,
}

/// A room as all servers that know it have it.
pub(super) async fn load(universe: &Universe, room: usize) -> Result<Vec<RoomFacts>, Failure> {
    let mut facts = Vec::new();
    for server in 0..universe.servers.len() {
        facts.extend(load_one(universe, room, server).await?);
    }
    Ok(facts)
}

async fn load_one(universe: &Universe, room: usize, server: usize) -> Result<Option<RoomFacts>, Failure> {
    let (room_id, storage) = (&universe.rooms[room], universe.servers[server].storage());
    if storage.room(room_id).await?.is_none() {
        return Ok(None);
    }
    let entries = storage.current_state(room_id).await?;
    let state = entries
        .into_iter()
        .filter_map(|entry| Some(((entry.event_type.to_string(), entry.state_key), entry.event_id?)))
        .collect();
    let all = TimelineRange { after: None, until: None, direction: Direction::Forward, limit: 1_000_000 };
    let timeline = storage.timeline(room_id, all).await?;
    let orders = timeline.iter().filter_map(|event| Some((event.pdu.event_id.clone(), event.order?))).collect();
    let mut memberships = BTreeMap::new();
    for user in &universe.users {
        let user_id = &user.requester.user_id;
        let spans = storage.state_history(room_id, &StateEventType::RoomMember, user_id.as_str()).await?;
        memberships.insert(user_id.clone(), spans);
    }
    let mut visibilities = Vec::new();
    for span in storage.state_history(room_id, &StateEventType::RoomHistoryVisibility, "").await? {
        let event = match &span.event_id {
            Some(event_id) => storage.event(event_id).await?,
            None => None,
        };
        let value =
            event.map(|event| event.pdu.content_str("history_visibility").unwrap_or_else(|| "shared".to_owned()));
        visibilities.push((span, value));
    }
    let is_partial = storage.partial_state(room_id).await?.is_some();
    let complete_since = storage.members_known(room_id).await?.since;
    Ok(Some(RoomFacts { server, state, timeline, orders, memberships, visibilities, is_partial, complete_since }))
}

impl RoomFacts {
    /// Since which order a server has been in the room without a break, up to now; and the join that it came by.
    pub(super) fn presence(&self, universe: &Universe, server: usize) -> Option<(i64, Option<OwnedEventId>)> {
        let name = universe.servers[server].name();
        let mut joined: Vec<&StateSpan> = self
            .memberships
            .iter()
            .filter(|(user_id, _)| user_id.server_name() == name)
            .flat_map(|(_, spans)| spans)
            .filter(|span| span.membership == Some(MembershipState::Join))
            // A join of which it never had an answer did not bring the server itself into the room.
            .filter(|span| server != self.server || span.since > 0)
            .collect();
        joined.sort_by_key(|span| span.since);
        let mut present: Option<(i64, Option<OwnedEventId>, Option<i64>)> = None;
        for span in joined {
            present = Some(match present {
                Some((since, by, until)) if until.is_none_or(|until| until >= span.since) => {
                    let until = until.and_then(|until| span.until.map(|other| other.max(until)));
                    (since, by, until)
                }
                _ => (span.since, span.event_id.clone(), span.until),
            });
        }
        present.filter(|(_, _, until)| until.is_none()).map(|(since, by, _)| (since, by))
    }

    /// Whether the access control list of the room, as the server has it, denies another.
    pub(super) async fn denies(&self, universe: &Universe, other: usize) -> Result<bool, Failure> {
        let key = (StateEventType::RoomServerAcl.to_string(), String::new());
        let Some(event_id) = self.state.get(&key) else { return Ok(false) };
        let event = universe.servers[self.server].storage().event(event_id).await?;
        let content: Option<Value> = event.and_then(|event| serde_json::from_str(event.pdu.content.get()).ok());
        let name = universe.servers[other].name().as_str();
        let denied = content.as_ref().and_then(|content| content["deny"].as_array());
        Ok(denied.is_some_and(|denied| denied.iter().any(|server| server == name)))
    }

    /// Whether an event of the timeline is accepted, also now that all members are known.
    pub(super) fn accepts(&self, event_id: &OwnedEventId) -> bool {
        let event = self.timeline.iter().find(|event| event.pdu.event_id == *event_id);
        event.is_some_and(|event| event.standing == Standing::Accepted)
    }

    /// Whether an event that came while not all members were known was accepted only when they were.
    pub(super) fn came_when_whole(&self, event_id: &OwnedEventId, whole_since: i64) -> bool {
        let event = self.timeline.iter().find(|event| event.pdu.event_id == *event_id);
        let base = event.and_then(|event| event.state_before.as_ref()).map(|state_before| state_before.base);
        let is_late = event.and_then(|event| event.order).is_some_and(|order| order > whole_since);
        is_late && base.is_some_and(|base| base < whole_since)
    }

    /// The servers that had users in the room right before the event at an order and right after it.
    pub(super) fn servers_around(&self, order: i64) -> impl Iterator<Item = OwnedServerName> {
        let is_there = move |span: &StateSpan| {
            span.membership == Some(MembershipState::Join) && span.contains(order - 1) && span.contains(order)
        };
        let there = self.memberships.iter().filter(move |(_, spans)| spans.iter().any(is_there));
        there.map(|(user_id, _)| user_id.server_name().to_owned())
    }

    /// Whether the server has users in the room, as itself sees it.
    pub(super) fn is_resident(&self, universe: &Universe) -> bool {
        self.presence(universe, self.server).is_some()
    }
}
