//! A room as of one position, and what can be decided about it: one file per verb.

pub mod advance;
pub mod authorise;
pub mod create;
pub mod member;
pub mod policy;
pub mod receive;
pub mod redact;
pub mod resolve;
pub mod send;
pub mod template;
pub mod upgrade;
pub mod visibility;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use ruma::{
    EventId, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomVersionId, ServerName, UserId,
    events::{StateEventType, room::member::MembershipState},
    room_version_rules::RoomVersionRules,
};

use crate::{
    Pdu,
    change::{Position, StateEntry},
};

/// The key of one entry of the room state.
pub type StateKey = (StateEventType, String);

/// A room state: which event stands for each key.
pub type StateMap = ruma::state_res::StateMap<OwnedEventId>;

/// One value of the room state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateValue {
    /// The event.
    pub event_id: OwnedEventId,
    /// For `m.room.member`: the membership that the event gives.
    pub membership: Option<MembershipState>,
}

/// A room as of one position: the facts that decisions start from. Cloning shares all of the state, so that a decision
/// costs the same in a room of two as in a room of a hundred thousand.
#[derive(Clone, Debug)]
pub struct RoomSnapshot {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Its version.
    pub version: RoomVersionId,
    /// The rules of its version.
    pub rules: RoomVersionRules,
    /// How often the room has been changed: what compare-and-swap compares.
    pub revision: i64,
    /// The position that the state is as of.
    pub position: Position,
    /// The resolved state.
    state: rpds::HashTrieMapSync<StateKey, StateValue>,
    /// How many users of each server are joined.
    joined_by_server: rpds::HashTrieMapSync<OwnedServerName, u64>,
    /// How many users have each membership that a summary counts.
    joined: u64,
    invited: u64,
    /// The server whose users are kept track of one by one.
    home: Option<OwnedServerName>,
    /// Its users who are joined.
    residents: rpds::HashTrieSetSync<OwnedUserId>,
    /// While not all members are known: the other servers that were said to be in the room when this server entered it.
    pub partial: Option<Arc<BTreeSet<OwnedServerName>>>,
    /// Since when all members are known, if they were not at first; 0 otherwise.
    pub complete_since: Position,
    /// From which position on the states before events are known; 0 for all. Not those of a stay that ended before this
    /// server was told all members.
    pub states_since: Position,
    /// What new events name as `prev_events`, with their depths.
    pub forward_extremities: Vec<(OwnedEventId, u64)>,
}

impl RoomSnapshot {
    /// A room of which nothing is known but its version.
    pub fn empty(room_id: OwnedRoomId, version: RoomVersionId, rules: RoomVersionRules) -> Self {
        Self {
            room_id,
            version,
            rules,
            revision: 0,
            position: 0,
            state: rpds::HashTrieMapSync::new_sync(),
            joined_by_server: rpds::HashTrieMapSync::new_sync(),
            joined: 0,
            invited: 0,
            home: None,
            residents: rpds::HashTrieSetSync::new_sync(),
            partial: None,
            complete_since: 0,
            states_since: 0,
            forward_extremities: Vec::new(),
        }
    }

    /// The same, keeping track of which users of a server are joined. The room has no state yet.
    #[must_use]
    pub fn at_home_on(mut self, server: OwnedServerName) -> Self {
        self.home = Some(server);
        self
    }

    /// The joined users of the server that [`RoomSnapshot::at_home_on`] named, in no particular order.
    pub fn residents(&self) -> impl Iterator<Item = &OwnedUserId> {
        self.residents.iter()
    }

    /// Whether somebody is one of them.
    pub fn is_resident(&self, user_id: &UserId) -> bool {
        self.residents.contains(user_id)
    }

    /// How many they are.
    pub fn resident_count(&self) -> usize {
        self.residents.size()
    }

    /// The value for one key.
    pub fn state_value(&self, event_type: &StateEventType, state_key: &str) -> Option<&StateValue> {
        self.state.get(&(event_type.clone(), state_key.to_owned()))
    }

    /// The event for one key.
    pub fn state_event_id(&self, event_type: &StateEventType, state_key: &str) -> Option<&EventId> {
        self.state_value(event_type, state_key).map(|value| &*value.event_id)
    }

    /// How many entries the state has.
    pub fn state_count(&self) -> usize {
        self.state.size()
    }

    /// All of the state, in no particular order.
    pub fn state(&self) -> impl Iterator<Item = (&StateKey, &StateValue)> {
        self.state.iter()
    }

    /// All of the state as the map that state resolution takes.
    pub fn state_map(&self) -> StateMap {
        self.state.iter().map(|(key, value)| (key.clone(), value.event_id.clone())).collect()
    }

    /// The membership of a user; `leave` for one who never was in the room.
    pub fn membership(&self, user_id: &UserId) -> MembershipState {
        self.state_value(&StateEventType::RoomMember, user_id.as_str())
            .and_then(|value| value.membership.clone())
            .unwrap_or(MembershipState::Leave)
    }

    /// Whether a user is joined, or may be: while not all members are known, whoever's server is in the room. What is known
    /// of them then may be what they were before.
    pub fn may_have_joined(&self, user_id: &UserId) -> bool {
        self.membership(user_id) == MembershipState::Join
            || (self.is_partial() && self.has_server(user_id.server_name()))
    }

    /// All users with the given membership.
    pub fn members(&self, membership: &MembershipState) -> impl Iterator<Item = OwnedUserId> {
        self.state.iter().filter_map(move |((event_type, state_key), value)| {
            let fits = *event_type == StateEventType::RoomMember && value.membership.as_ref() == Some(membership);
            fits.then(|| UserId::parse(state_key.as_str()).ok()).flatten()
        })
    }

    /// How many users are joined.
    pub fn joined_count(&self) -> u64 {
        self.joined
    }

    /// How many users are invited.
    pub fn invited_count(&self) -> u64 {
        self.invited
    }

    /// The servers with joined users, and, while not all members are known, those that are said to have some.
    pub fn servers(&self) -> impl Iterator<Item = &ServerName> {
        let said = self.partial.iter().flat_map(|servers| servers.iter());
        let said = said.filter(|server| !self.joined_by_server.contains_key(*server));
        self.joined_by_server.keys().chain(said).map(|server| &**server)
    }

    /// The same, those first that have most joined users.
    pub fn servers_by_size(&self) -> Vec<&ServerName> {
        let mut servers: Vec<&ServerName> = self.servers().collect();
        let joined = |server: &ServerName| self.joined_by_server.get(server).copied().unwrap_or_default();
        servers.sort_by_key(|server| (std::cmp::Reverse(joined(server)), *server));
        servers
    }

    /// Whether servers other than the one that [`RoomSnapshot::at_home_on`] named have joined users, or are said to.
    pub fn has_other_servers(&self) -> bool {
        self.servers().any(|server| self.home.as_deref() != Some(server))
    }

    /// Whether a server has joined users, or, while not all members are known, is said to have some.
    pub fn has_server(&self, server: &ServerName) -> bool {
        self.joined_by_server.contains_key(server)
            || self.partial.as_ref().is_some_and(|servers| servers.contains(server))
    }

    /// Whether not all members are known.
    pub fn is_partial(&self) -> bool {
        self.partial.is_some()
    }

    /// The member events among those given that belong to users of whom this partial state knows nothing. What is known
    /// of all members cannot be added to.
    pub fn unknown_members<'a>(&self, events: impl Iterator<Item = &'a Pdu>) -> Vec<StateEntry> {
        if !self.is_partial() {
            return Vec::new();
        }
        let members = events.filter(|pdu| !pdu.rejected && pdu.room_id == self.room_id);
        let mut entries: Vec<StateEntry> = members
            .filter_map(send::entry_of)
            .filter(|entry| entry.membership.is_some())
            .filter(|entry| self.state_value(&entry.event_type, &entry.state_key).is_none())
            .collect();
        entries.sort_by(|a, b| a.state_key.cmp(&b.state_key));
        entries.dedup_by(|a, b| a.state_key == b.state_key);
        entries
    }

    /// Sets or removes entries of the state, keeping the counts right.
    pub fn apply(&mut self, entries: &[StateEntry]) {
        for entry in entries {
            let key = (entry.event_type.clone(), entry.state_key.clone());
            let old = self.state.get(&key).and_then(|value| value.membership.clone());
            self.count(&entry.state_key, old.as_ref(), entry.membership.as_ref());
            match &entry.event_id {
                Some(event_id) => {
                    let value = StateValue { event_id: event_id.clone(), membership: entry.membership.clone() };
                    self.state.insert_mut(key, value);
                }
                None => {
                    self.state.remove_mut(&key);
                }
            }
        }
    }

    /// What of `new` differs from this state. `membership` tells the membership of member events.
    pub fn difference(
        &self,
        new: &StateMap,
        membership: impl Fn(&EventId) -> Option<MembershipState>,
    ) -> Vec<StateEntry> {
        let mut entries: Vec<StateEntry> = new
            .iter()
            .filter(|(key, event_id)| self.state.get(*key).map(|value| &value.event_id) != Some(*event_id))
            .map(|((event_type, state_key), event_id)| StateEntry {
                event_type: event_type.clone(),
                state_key: state_key.clone(),
                event_id: Some(event_id.clone()),
                membership: (*event_type == StateEventType::RoomMember).then(|| membership(event_id)).flatten(),
            })
            .collect();
        let gone = self.state.keys().filter(|key| !new.contains_key(*key));
        entries.extend(gone.map(|(event_type, state_key)| StateEntry {
            event_type: event_type.clone(),
            state_key: state_key.clone(),
            event_id: None,
            membership: None,
        }));
        entries.sort_by(|a, b| (&a.event_type, &a.state_key).cmp(&(&b.event_type, &b.state_key)));
        entries
    }

    fn count(&mut self, user_id: &str, old: Option<&MembershipState>, new: Option<&MembershipState>) {
        if old == new {
            return;
        }
        match old {
            Some(MembershipState::Join) => {
                self.joined -= 1;
                self.count_server(user_id, false);
            }
            Some(MembershipState::Invite) => self.invited -= 1,
            _ => {}
        }
        match new {
            Some(MembershipState::Join) => {
                self.joined += 1;
                self.count_server(user_id, true);
            }
            Some(MembershipState::Invite) => self.invited += 1,
            _ => {}
        }
    }

    fn count_server(&mut self, user_id: &str, joins: bool) {
        let Ok(user_id) = <&UserId>::try_from(user_id) else { return };
        let server = user_id.server_name().to_owned();
        if self.home.as_ref() == Some(&server) {
            if joins {
                self.residents.insert_mut(user_id.to_owned());
            } else {
                self.residents.remove_mut(user_id);
            }
        }
        let count = self.joined_by_server.get(&server).copied().unwrap_or(0);
        match if joins { count + 1 } else { count.saturating_sub(1) } {
            0 => {
                self.joined_by_server.remove_mut(&server);
            }
            count => self.joined_by_server.insert_mut(server, count),
        }
    }
}

/// Events by id.
pub type EventsById = HashMap<OwnedEventId, std::sync::Arc<crate::Pdu>>;
