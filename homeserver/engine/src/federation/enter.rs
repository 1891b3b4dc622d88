//! Entering a room by way of another server: checking the state it gave us, and making the room ours.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use outbound::SendJoinAnswer;
use rules::{
    Change, Pdu, RoomSnapshot,
    change::{Standing, StateEntry, StateReference},
    event::{read_json, read_pdu},
    room::{
        EventsById, StateMap,
        advance::{Advance, advance, all_server_changes},
        authorise::{check_auth_events, check_state},
        send::entry_of,
    },
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedEventId, OwnedServerName, OwnedUserId, RoomId, RoomVersionId,
    ServerName, UserId,
    events::{StateEventType, TimelineEventType, room::member::MembershipState},
    room_version_rules::RoomVersionRules,
    signatures::Verified,
    state_res::events::RoomCreateEvent,
};
use serde_json::value::RawValue;
use storage::{CommitError, StoredEvent};

use super::outliers::{check_outliers, outlier_change};
use crate::{Engine, EngineError, Result, apart::JUDGING, rooms::Decision};

/// How many servers a room has at most by what we are told when we enter it: some times what the largest have.
const MAX_SERVERS_TOLD: usize = 50_000;

/// How much of the state may not pass the checks for us to remember it. Where it is more, only the server that let us in can
/// tell all of the state.
const MAX_UNVERIFIED: usize = 1_000;

/// How many events are in memory at a time while those of an answer are looked up.
const EVENTS_AT_ONCE: usize = 1_000;

/// What is kept of an event that turned out to be part of the state.
const CLEARED: &str = "it was refused when not all members were known";

/// The events of a state.
type State = BTreeMap<(StateEventType, String), Arc<Pdu>>;

/// What another server gave us, checked.
struct Entrance {
    /// Our join.
    join: Arc<Pdu>,
    /// Every event of the state and its auth chain, with what the checks said.
    events: Vec<(Arc<Pdu>, Standing)>,
    /// The state before our join, as far as we were told.
    state: State,
    /// Where members were left out: the other servers that are said to be in the room.
    omitted: Option<BTreeSet<OwnedServerName>>,
    /// Where members were left out: what is said to be part of the state besides, and does not pass.
    unverified: Vec<OwnedEventId>,
}

/// The same before it is held against our join.
struct Checked {
    events: Vec<(Arc<Pdu>, Standing)>,
    /// The same by their ids, with those that authorise our join.
    by_id: EventsById,
    state: State,
    unverified: Vec<OwnedEventId>,
}

/// Why we do not enter.
enum Unfit {
    /// The user may not.
    Forbidden,
    /// What the server gave does not hold.
    Answer(String),
}

impl From<String> for Unfit {
    fn from(reason: String) -> Self {
        Self::Answer(reason)
    }
}

impl From<&str> for Unfit {
    fn from(reason: &str) -> Self {
        Self::Answer(reason.to_owned())
    }
}

impl Engine {
    /// Makes a room ours with the answer to our join. Fails without a trace when the answer does not hold.
    pub(crate) async fn enter_room(
        &self,
        server: &ServerName,
        join: &Arc<Pdu>,
        version: RoomVersionId,
        rules: RoomVersionRules,
        answer: SendJoinAnswer,
    ) -> Result<()> {
        let entrance = self.check_entrance(join, &version, &rules, answer).await.map_err(|unfit| match unfit {
            Unfit::Forbidden => EngineError::forbidden("You are banned from this room"),
            Unfit::Answer(reason) => {
                tracing::warn!(destination = %server, room.id = %join.room_id, reason, "answer to a join does not hold");
                EngineError::CannotFederate(format!("{server} gave a state of the room that does not hold"))
            }
        })?;
        let lock = self.inner.rooms.lock(&join.room_id).await;
        let existing = self.room(&join.room_id).await?;
        if existing.as_ref().is_some_and(|room| room.has_server(self.server_name())) {
            // Another of our users entered meanwhile: the room is ours, and this join one more event of it.
            drop(lock);
            return self.receive_own(server, &entrance.join).await;
        }
        if existing.as_ref().is_some_and(|room| self.is_outdated(room, &entrance)) {
            tracing::info!(destination = %server, room.id = %join.room_id, "the answer to a join is older than our leave");
            return Err(EngineError::CannotFederate(format!("{server} has not heard yet of those who left the room")));
        }
        if entrance.omitted.is_some() && existing.as_ref().is_some_and(|room| room.revision > 0) {
            // Others of our users came and left again meanwhile. What we know since cannot be compared with a part.
            return Err(EngineError::Busy);
        }
        let before = match existing {
            Some(room) => room,
            None => Arc::new(
                RoomSnapshot::empty(join.room_id.clone(), version, rules).at_home_on(self.server_name().to_owned()),
            ),
        };
        let members = self.strayed_members(&entrance).await?;
        let cleared = self.cleared_events(&before, &entrance).await?;
        let mut decision = {
            let (server, before, now_ms) = (server.to_owned(), before.clone(), self.world().clock.now_ms());
            self.apart(entrance.events.len(), move || decide_entrance(&server, &before, entrance, now_ms)).await?
        };
        decision.changes.extend(cleared);
        keep_untold(&mut decision.changes, members);
        let (was_partial, is_partial) = (before.is_partial(), decision.room.is_partial());
        match self.commit_decision(&before, decision).await {
            Ok(_) => {
                let completing = &self.inner.rooms.completing;
                if is_partial {
                    completing.begin.notify_one();
                } else if was_partial {
                    completing.is_done(&join.room_id);
                }
                Ok(())
            }
            Err(CommitError::Storage(error)) => Err(error.into()),
            Err(_) => Err(EngineError::Busy),
        }
    }

    /// What became of others of our users while nobody of ours was in the room to hear of it: an invitation was taken
    /// back, say. An invitation that was turned down when no server in the room could be told stays so.
    async fn strayed_members(&self, entrance: &Entrance) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        for pdu in self.own_members(entrance) {
            let Some((user_id, membership)) = pdu.membership() else { continue };
            let record = self.storage().membership(&user_id, &pdu.room_id).await?;
            let is_known = record.is_some_and(|record| {
                (record.event_id == pdu.event_id && record.membership == membership)
                    || (membership == MembershipState::Invite && record.membership == MembershipState::Leave)
            });
            if !is_known {
                changes.push(Change::Membership {
                    user_id,
                    room_id: pdu.room_id.clone(),
                    membership,
                    event_id: pdu.event_id.clone(),
                    sender: pdu.sender.clone(),
                    stripped_state: None,
                });
            }
        }
        Ok(changes)
    }

    /// What we rejected while we did not know all members, and what we are told now is part of the state: with all of them
    /// there is nothing to be said against it. It is not shown, but stands, and passes when it is sent again.
    async fn cleared_events(&self, before: &RoomSnapshot, entrance: &Entrance) -> Result<Vec<Change>> {
        if !before.is_partial() || entrance.omitted.is_some() {
            return Ok(Vec::new());
        }
        let fit = entrance.events.iter().filter(|(_, standing)| *standing == Standing::Outlier);
        let fit: Vec<OwnedEventId> = fit.map(|(pdu, _)| pdu.event_id.clone()).collect();
        let mut changes = Vec::new();
        for ids in fit.chunks(EVENTS_AT_ONCE) {
            let events = self.storage().events(ids).await?;
            let is_rejected = |event: &&Arc<StoredEvent>| matches!(event.standing, Standing::Rejected(_));
            let by_state = events.iter().filter(is_rejected).filter(|event| event.state_before.is_some());
            changes.extend(by_state.map(|event| Change::Rejudged {
                event_id: event.pdu.event_id.clone(),
                standing: Standing::SoftFailed(CLEARED.to_owned()),
                state_before: event.state_before.clone(),
            }));
        }
        Ok(changes)
    }

    /// Whether a server has users of ours in the room of whom we know that they left after that. The room as it has it
    /// would make us forget that they did, while others know.
    fn is_outdated(&self, room: &RoomSnapshot, entrance: &Entrance) -> bool {
        let told: HashSet<&OwnedEventId> = entrance.events.iter().map(|(pdu, _)| &pdu.event_id).collect();
        self.own_members(entrance).any(|member| {
            let Some((user_id, MembershipState::Join)) = member.membership() else { return false };
            let ours = room.state_event_id(&StateEventType::RoomMember, user_id.as_str());
            ours.is_some_and(|ours| !told.contains(&ours.to_owned()))
        })
    }

    /// What the state says of users of ours.
    fn own_members<'a>(&self, entrance: &'a Entrance) -> impl Iterator<Item = &'a Arc<Pdu>> {
        let is_ours = |user_id: &str| <&UserId>::try_from(user_id).is_ok_and(|user_id| self.is_local(user_id));
        let members = entrance.state.iter().filter(|(key, _)| key.0 == StateEventType::RoomMember);
        members.filter(move |(key, _)| is_ours(&key.1)).map(|(_, pdu)| pdu)
    }

    /// Our join with the signature of the server that authorises it, if the join needs one and that server gave it.
    async fn countersigned_join(
        &self,
        join: &Arc<Pdu>,
        rules: &RoomVersionRules,
        given: Option<&RawValue>,
    ) -> Arc<Pdu> {
        let needed = join.content_str("join_authorised_via_users_server").is_some();
        let Some(merged) = given.filter(|_| needed).and_then(|given| with_signatures(join, given, rules)) else {
            return join.clone();
        };
        match self.federation().key_ring().verify_event(&merged, rules).await {
            Ok(Verified::All) => {
                Pdu::from_canonical(join.event_id.clone(), &merged).map_or_else(|_| join.clone(), Arc::new)
            }
            _ => join.clone(),
        }
    }

    async fn check_entrance(
        &self,
        join: &Arc<Pdu>,
        version: &RoomVersionId,
        rules: &RoomVersionRules,
        answer: SendJoinAnswer,
    ) -> Result<Entrance, Unfit> {
        let join = self.countersigned_join(join, rules, answer.event.as_deref()).await;
        let state = self.verified_all(&join.room_id, rules, &answer.state).await;
        let chain = self.verified_all(&join.room_id, rules, &answer.auth_chain).await;
        // By what our user did in the room before, of which we need not be told.
        let mut known = self.events_by_id(&join.auth_events).await.map_err(|error| error.to_string())?;
        known.retain(|_, pdu| pdu.room_id == join.room_id);
        let size = answer.state.len() + answer.auth_chain.len();
        let told = if answer.members_omitted { answer.state } else { Vec::new() };
        let checking = {
            let (join, rules) = (join.clone(), rules.clone());
            self.apart(JUDGING * size, move || check_told(&join, &rules, (&state, &chain), known, &told))
        };
        let Checked { events, by_id, mut state, unverified } = checking.await?;
        check_create(&state, version)?;
        let omitted = match answer.servers_in_room {
            servers if answer.members_omitted => Some(self.servers_told(servers.unwrap_or_default())?),
            _ => None,
        };
        let named = join.auth_events.iter().filter_map(|event_id| by_id.get(event_id)).filter(|pdu| !pdu.rejected);
        let members: Vec<&Arc<Pdu>> = named.filter(|pdu| pdu.membership().is_some()).collect();
        let own = members.iter().find_map(|pdu| pdu.membership().filter(|(user_id, _)| *user_id == join.sender));
        if own.is_some_and(|(_, membership)| membership == MembershipState::Ban) {
            return Err(Unfit::Forbidden);
        }
        if omitted.is_some() {
            // What authorises our join is part of the state, even where that was not said.
            for member in members {
                let key = (StateEventType::RoomMember, member.state_key.clone().unwrap_or_default());
                state.entry(key).or_insert_with(|| member.clone());
            }
        }
        check_auth_events(&rules.authorization, &join, &by_id).map_err(|error| error.to_string())?;
        let lookup = |event_type: &StateEventType, key: &str| state.get(&(event_type.clone(), key.to_owned())).cloned();
        check_state(&rules.authorization, &join, lookup).map_err(|error| error.to_string())?;
        Ok(Entrance { join, events, state, omitted, unverified })
    }

    /// The other servers that are in a room of which we are not told the members. Without them nobody would hear us.
    fn servers_told(&self, servers: Vec<OwnedServerName>) -> Result<BTreeSet<OwnedServerName>, &'static str> {
        match servers.len() {
            0 => Err("members were left out, and no servers are named"),
            1..=MAX_SERVERS_TOLD => Ok(servers.into_iter().filter(|server| server != self.server_name()).collect()),
            _ => Err("more servers are named than a room can have"),
        }
    }

    /// Whether a room is usable before all of its members are known: if the operator wants that, one that is new to us,
    /// or that others of our users have entered so. Of another we know what was, to which a part cannot be compared.
    pub(crate) async fn may_enter_without_members(&self, room_id: &RoomId) -> Result<bool> {
        let is_ours = |room: &RoomSnapshot| room.is_partial() && room.has_server(self.server_name());
        let is_wanted = self.settings().partial_state_joins;
        Ok(is_wanted && self.room(room_id).await?.is_none_or(|room| room.revision == 0 || is_ours(&room)))
    }
}

/// Our join with the signatures that the other server gave besides ours.
fn with_signatures(join: &Pdu, given: &RawValue, rules: &RoomVersionRules) -> Option<CanonicalJsonObject> {
    let (same, given) = read_pdu(given.get(), rules).ok()?;
    let mut ours = read_json(&join.json).ok()?;
    let (Some(CanonicalJsonValue::Object(given)), Some(CanonicalJsonValue::Object(signatures))) =
        (given.get("signatures"), ours.get_mut("signatures"))
    else {
        return None;
    };
    for (server, signature) in given {
        signatures.entry(server.clone()).or_insert_with(|| signature.clone());
    }
    (same.event_id == join.event_id).then_some(ours)
}

/// Checks a state and its auth chain. `known` are events that authorise our join; `told`, where members were left out, is
/// the state before its events were verified.
fn check_told(
    join: &Pdu,
    rules: &RoomVersionRules,
    (state, chain): (&[Arc<Pdu>], &[Arc<Pdu>]),
    known: EventsById,
    told: &[Box<RawValue>],
) -> Result<Checked, String> {
    let mut pdus: Vec<Arc<Pdu>> = state.iter().chain(chain).cloned().collect();
    pdus.sort_by(|a, b| a.event_id.cmp(&b.event_id));
    pdus.dedup_by(|a, b| a.event_id == b.event_id);
    let events = check_outliers(&rules.authorization, &pdus, &EventsById::new());
    let mut by_id = known;
    by_id.extend(events.iter().map(|(pdu, _)| (pdu.event_id.clone(), pdu.clone())));
    let state = state_of(state, &by_id)?;
    let unverified = unverified(join, rules, told, &state);
    Ok(Checked { events, by_id, state, unverified })
}

/// What of the state that we were told, but for members, is not in what is left of it: nobody's key is to be had at all
/// times.
fn unverified(join: &Pdu, rules: &RoomVersionRules, told: &[Box<RawValue>], state: &State) -> Vec<OwnedEventId> {
    let taken: HashSet<&OwnedEventId> = state.values().map(|pdu| &pdu.event_id).collect();
    let read = told.iter().filter_map(|raw| read_pdu(raw.get(), rules).ok()).map(|(pdu, _)| pdu);
    let is_state = |pdu: &Pdu| pdu.room_id == join.room_id && pdu.state_key.is_some();
    let others = read.filter(|pdu| is_state(pdu) && pdu.event_type != TimelineEventType::RoomMember);
    others.map(|pdu| pdu.event_id).filter(|event_id| !taken.contains(event_id)).take(MAX_UNVERIFIED).collect()
}

fn state_of(state: &[Arc<Pdu>], checked: &EventsById) -> Result<State, String> {
    let mut map = BTreeMap::new();
    for pdu in state {
        let pdu = checked.get(&pdu.event_id).filter(|pdu| !pdu.rejected);
        let Some((key, pdu)) = pdu.and_then(|pdu| Some((pdu.state_key_pair()?, pdu.clone()))) else { continue };
        let event_id = pdu.event_id.clone();
        if let Some(other) = map.insert(key, pdu)
            && other.event_id != event_id
        {
            return Err(format!("the state has two values for the key of {}", other.event_id));
        }
    }
    Ok(map)
}

fn check_create(state: &State, version: &RoomVersionId) -> Result<(), String> {
    let create = state.get(&(StateEventType::RoomCreate, String::new())).ok_or("the state has no create event")?;
    let said = RoomCreateEvent::new(create.clone()).room_version()?;
    if said == *version {
        return Ok(());
    }
    Err(format!("the create event says version {said}, the offer said {version}"))
}

fn decide_entrance(server: &ServerName, before: &RoomSnapshot, entrance: Entrance, now_ms: u64) -> Result<Decision> {
    let Entrance { join, events, state, omitted, unverified } = entrance;
    let first_time = before.revision == 0;
    let mut changes = Vec::with_capacity(events.len() + 8);
    if first_time {
        changes.push(Change::Room { room_id: before.room_id.clone(), version: before.version.clone() });
    }
    changes.extend(events.iter().map(|(pdu, standing)| outlier_change(pdu.clone(), standing.clone())));

    let entries: Vec<StateEntry> = state.values().filter_map(|pdu| entry_of(pdu)).collect();
    let map: StateMap = state.iter().map(|(key, pdu)| (key.clone(), pdu.event_id.clone())).collect();
    let by_id: HashMap<&OwnedEventId, &Arc<Pdu>> = state.values().map(|pdu| (&pdu.event_id, pdu)).collect();
    let difference = before.difference(&map, |event_id| {
        by_id.get(&event_id.to_owned()).and_then(|pdu| pdu.membership()).map(|(_, membership)| membership)
    });
    let mut room = before.clone();
    room.partial = omitted.map(Arc::new);
    room.apply(&difference);
    if before.is_partial() && !room.is_partial() {
        room.states_since = before.position + 1;
        changes.push(Change::EnteredWhole { room_id: before.room_id.clone() });
    }
    let (mut entries, state_before) = if first_time {
        changes.push(Change::InitialState { room_id: before.room_id.clone(), entries });
        (Vec::new(), None)
    } else {
        (difference.clone(), Some(StateReference { base: before.position, delta: difference }))
    };
    changes.extend(all_server_changes(before, &room));

    let own = entry_of(&join).ok_or_else(|| EngineError::internal("a join is no state event"))?;
    entries.retain(|entry| (&entry.event_type, &entry.state_key) != (&own.event_type, &own.state_key));
    entries.push(own);
    let known: EventsById = state.into_values().map(|pdu| (pdu.event_id.clone(), pdu)).collect();
    let step = Advance {
        state_before,
        forward_extremities: vec![(join.event_id.clone(), join.depth)],
        ..Advance::new(join, entries)
    };
    let join_id = step.pdu.event_id.clone();
    let step = advance(&room, step, &known);
    changes.extend(step.changes);
    changes.extend(room.partial.iter().map(|servers| Change::PartialState {
        room_id: before.room_id.clone(),
        event_id: join_id.clone(),
        entered_by: server.to_owned(),
        servers: servers.iter().cloned().collect(),
        unverified: unverified.clone(),
        now_ms,
    }));
    let room = step.room.ok_or_else(|| EngineError::internal("an accepted event leads to no room"))?;
    Ok(Decision { changes, room })
}

/// Adds what is said of users of whom nothing is said yet.
fn keep_untold(changes: &mut Vec<Change>, members: Vec<Change>) {
    let told: HashSet<OwnedUserId> = changes.iter().filter_map(about).cloned().collect();
    changes.extend(members.into_iter().filter(|change| about(change).is_some_and(|user_id| !told.contains(user_id))));
}

fn about(change: &Change) -> Option<&OwnedUserId> {
    match change {
        Change::Membership { user_id, .. } => Some(user_id),
        _ => None,
    }
}
