//! A room as a fake homeserver keeps it: every event is believed, state is whatever came last.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
};

use rules::{
    Pdu,
    event::{Draft, build::LegacyParts},
};
use ruma::{
    EventId, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomVersionId, UserId,
    events::{StateEventType, TimelineEventType},
    room_version_rules::RoomVersionRules,
    state_res::{StateMap, auth_types_for_event},
};
use serde_json::{Value, json, value::to_raw_value};

use crate::FakeHomeserver;

/// How a room begins.
#[derive(Clone, Debug)]
pub struct RoomSettings {
    /// Its version.
    pub version: RoomVersionId,
    /// The content of `m.room.join_rules`.
    pub join_rules: Value,
    /// What `m.room.create` says besides.
    pub creation_content: Value,
    /// The content of `m.room.power_levels`; `None` for the default, which names the creator where that is allowed.
    pub power_levels: Option<Value>,
    /// `m.room.history_visibility`.
    pub history_visibility: String,
}

impl Default for RoomSettings {
    fn default() -> Self {
        Self {
            version: RoomVersionId::V11,
            join_rules: json!({"join_rule": "public"}),
            creation_content: json!({}),
            power_levels: None,
            history_visibility: "shared".to_owned(),
        }
    }
}

impl RoomSettings {
    /// The default in another room version.
    pub fn of_version(version: RoomVersionId) -> Self {
        Self { version, ..Self::default() }
    }
}

/// A room, shared by all who hold a clone.
#[derive(Clone, Debug)]
pub struct Room {
    /// Its id.
    pub id: OwnedRoomId,
    /// Its version.
    pub version: RoomVersionId,
    /// The rules of its version.
    pub rules: RoomVersionRules,
    data: Arc<Mutex<Data>>,
}

#[derive(Debug, Default)]
struct Data {
    events: HashMap<OwnedEventId, Arc<Pdu>>,
    states_before: HashMap<OwnedEventId, StateMap<OwnedEventId>>,
    timeline: Vec<OwnedEventId>,
    state: StateMap<OwnedEventId>,
    extremities: Vec<OwnedEventId>,
}

impl Room {
    /// A public room of a user of `host`, which serves it from now on.
    pub fn create(host: &FakeHomeserver, creator: &UserId, settings: &RoomSettings) -> Self {
        let rules = settings.version.rules().expect("the room version is known");
        let mut content = settings.creation_content.clone();
        content["room_version"] = settings.version.as_str().into();
        if !rules.authorization.use_room_create_sender {
            content["creator"] = creator.as_str().into();
        }
        let names_itself = rules.authorization.room_create_event_id_as_room_id;
        let id = host.next_room_id();
        let mut room = Self { id, version: settings.version.clone(), rules, data: Arc::default() };
        let mut draft = room.draft(host, creator, "m.room.create", Some(""), content);
        if names_itself {
            draft.room_id = None;
        }
        let create = host.build(draft, &room.rules);
        room.id.clone_from(&create.room_id);
        room.accept(create);
        room.begin(host, creator, settings);
        host.serve_room(room.clone());
        room
    }

    /// A room that the host entered through another server.
    pub fn from_state(id: OwnedRoomId, version: RoomVersionId, state: Vec<Pdu>, auth_chain: Vec<Pdu>) -> Self {
        let rules = version.rules().expect("the room version is known");
        let room = Self { id, version, rules, data: Arc::default() };
        let mut data = room.data();
        for pdu in auth_chain {
            data.events.insert(pdu.event_id.clone(), Arc::new(pdu));
        }
        for pdu in state {
            let key = pdu.state_key_pair().expect("the state consists of state events");
            data.state.insert(key, pdu.event_id.clone());
            data.events.insert(pdu.event_id.clone(), Arc::new(pdu));
        }
        drop(data);
        room
    }

    /// The same events, served under the id of another room.
    #[must_use]
    pub fn renamed(&self, id: OwnedRoomId) -> Self {
        Self { id, ..self.clone() }
    }

    fn begin(&self, host: &FakeHomeserver, creator: &UserId, settings: &RoomSettings) {
        let creator_is_named = !self.rules.authorization.explicitly_privilege_room_creators;
        let users = if creator_is_named { json!({creator.as_str(): 100}) } else { json!({}) };
        let power_levels = settings.power_levels.clone().unwrap_or_else(|| json!({"users": users}));
        self.send_state(host, creator, "m.room.member", creator.as_str(), json!({"membership": "join"}));
        self.send_state(host, creator, "m.room.power_levels", "", power_levels);
        self.send_state(host, creator, "m.room.join_rules", "", settings.join_rules.clone());
        let visibility = json!({"history_visibility": settings.history_visibility});
        self.send_state(host, creator, "m.room.history_visibility", "", visibility);
    }

    /// A message from a user of `host`, at the end of the room.
    pub fn send_message(&self, host: &FakeHomeserver, sender: &UserId, body: &str) -> Arc<Pdu> {
        let content = json!({"msgtype": "m.text", "body": body});
        self.send(host, self.draft(host, sender, "m.room.message", None, content))
    }

    /// A state event from a user of `host`, at the end of the room.
    pub fn send_state(
        &self,
        host: &FakeHomeserver,
        sender: &UserId,
        event_type: &str,
        state_key: &str,
        content: Value,
    ) -> Arc<Pdu> {
        self.send(host, self.draft(host, sender, event_type, Some(state_key), content))
    }

    /// Builds a draft and puts it at the end of the room.
    pub fn send(&self, host: &FakeHomeserver, draft: Draft) -> Arc<Pdu> {
        self.accept(host.build(draft, &self.rules))
    }

    /// A draft that follows what the room ends with, authorised by its current state.
    pub fn draft(
        &self,
        host: &FakeHomeserver,
        sender: &UserId,
        event_type: &str,
        state_key: Option<&str>,
        content: Value,
    ) -> Draft {
        let data = self.data();
        let (prev_events, state) = (data.extremities.clone(), data.state.clone());
        drop(data);
        self.draft_after(host, &prev_events, &state, (sender, event_type, state_key, content))
    }

    /// A draft that follows the given events, authorised by the given state.
    pub fn draft_after(
        &self,
        host: &FakeHomeserver,
        prev_events: &[OwnedEventId],
        state: &StateMap<OwnedEventId>,
        (sender, event_type, state_key, content): (&UserId, &str, Option<&str>, Value),
    ) -> Draft {
        let event_type = TimelineEventType::from(event_type);
        let raw_content = to_raw_value(&content).expect("a JSON value can be written");
        let auth_types = auth_types_for_event(&event_type, sender, state_key, &raw_content, &self.rules.authorization)
            .expect("the content fits its type");
        let depths = prev_events.iter().map(|id| self.event(id).map_or(0, |pdu| pdu.depth));
        Draft {
            room_id: Some(self.id.clone()),
            sender: sender.to_owned(),
            event_type,
            state_key: state_key.map(ToOwned::to_owned),
            content: serde_json::from_value(content).expect("the content is a canonical object"),
            redacts: None,
            prev_events: prev_events.to_vec(),
            auth_events: auth_types.iter().filter_map(|key| state.get(key).cloned()).collect(),
            depth: depths.max().unwrap_or(0) + 1,
            origin_server_ts: host.now(),
            legacy: Some(LegacyParts { id_seed: host.next_number().to_string(), reference_hashes: BTreeMap::new() }),
        }
    }

    /// Lets users of `host` in all at once, as if they had joined side by side. So it takes no longer for the last than for
    /// the first, and nobody can ask for the state between them.
    pub fn let_in(&self, host: &FakeHomeserver, users: impl Iterator<Item = OwnedUserId>) {
        let (prev_events, state) = (self.extremities(), self.state());
        let content = json!({"membership": "join"});
        let joins = users.map(|user_id| {
            let join = (&*user_id, "m.room.member", Some(user_id.as_str()), content.clone());
            host.build(self.draft_after(host, &prev_events, &state, join), &self.rules)
        });
        let joins: Vec<Pdu> = joins.collect();
        let mut data = self.data();
        for pdu in joins {
            let key = pdu.state_key_pair().expect("a join is a state event");
            data.state.insert(key, pdu.event_id.clone());
            data.events.insert(pdu.event_id.clone(), Arc::new(pdu));
        }
    }

    /// Puts an event of anybody at the end of the room.
    pub fn accept(&self, pdu: Pdu) -> Arc<Pdu> {
        let pdu = Arc::new(pdu);
        let mut data = self.data();
        let before = data.state.clone();
        data.states_before.insert(pdu.event_id.clone(), before);
        if let Some(key) = pdu.state_key_pair() {
            data.state.insert(key, pdu.event_id.clone());
        }
        data.extremities.retain(|id| !pdu.prev_events.contains(id));
        data.extremities.push(pdu.event_id.clone());
        data.timeline.push(pdu.event_id.clone());
        data.events.insert(pdu.event_id.clone(), Arc::clone(&pdu));
        pdu
    }

    /// Keeps an event so that it can be fetched, without its becoming part of the room's end or state.
    pub fn keep(&self, pdu: Pdu, state_before: StateMap<OwnedEventId>) -> Arc<Pdu> {
        let pdu = Arc::new(pdu);
        let mut data = self.data();
        data.states_before.insert(pdu.event_id.clone(), state_before);
        data.events.insert(pdu.event_id.clone(), Arc::clone(&pdu));
        pdu
    }

    /// An event by its id.
    pub fn event(&self, event_id: &EventId) -> Option<Arc<Pdu>> {
        self.data().events.get(event_id).cloned()
    }

    /// The current state.
    pub fn state(&self) -> StateMap<OwnedEventId> {
        self.data().state.clone()
    }

    /// The event that currently stands for a key.
    pub fn state_event(&self, event_type: &str, state_key: &str) -> Option<Arc<Pdu>> {
        let data = self.data();
        let event_id = data.state.get(&(StateEventType::from(event_type), state_key.to_owned()))?;
        data.events.get(event_id).cloned()
    }

    /// The state before an event.
    pub fn state_before(&self, event_id: &EventId) -> Option<StateMap<OwnedEventId>> {
        self.data().states_before.get(event_id).cloned()
    }

    /// What the room ends with.
    pub fn extremities(&self) -> Vec<OwnedEventId> {
        self.data().extremities.clone()
    }

    /// The events in the order in which they were accepted.
    pub fn timeline(&self) -> Vec<Arc<Pdu>> {
        let data = self.data();
        data.timeline.iter().map(|id| Arc::clone(&data.events[id])).collect()
    }

    /// The events for the given ids that are known.
    pub fn events<'a>(&self, ids: impl IntoIterator<Item = &'a OwnedEventId>) -> Vec<Arc<Pdu>> {
        let data = self.data();
        ids.into_iter().filter_map(|id| data.events.get(id).cloned()).collect()
    }

    /// The ancestors of the given events by `auth_events`, without the events themselves unless one authorises another.
    pub fn auth_chain<'a>(&self, ids: impl IntoIterator<Item = &'a OwnedEventId>) -> Vec<Arc<Pdu>> {
        let data = self.data();
        let ids = ids.into_iter().filter_map(|id| data.events.get(id));
        let mut unseen: Vec<OwnedEventId> = ids.flat_map(|pdu| pdu.auth_events.iter().cloned()).collect();
        let mut chain: HashMap<OwnedEventId, Arc<Pdu>> = HashMap::new();
        while let Some(id) = unseen.pop() {
            let Some(pdu) = data.events.get(&id) else { continue };
            if chain.insert(id, Arc::clone(pdu)).is_none() {
                unseen.extend(pdu.auth_events.iter().cloned());
            }
        }
        let mut chain: Vec<_> = chain.into_values().collect();
        chain.sort_by(|a, b| (a.depth, &a.event_id).cmp(&(b.depth, &b.event_id)));
        chain
    }

    /// The ancestors of the given events by `prev_events`, newest first, until `earliest` or `limit`.
    pub fn history(&self, latest: &[OwnedEventId], earliest: &[OwnedEventId], limit: usize) -> Vec<Arc<Pdu>> {
        let data = self.data();
        let mut found: Vec<Arc<Pdu>> = Vec::new();
        let mut unseen = std::collections::VecDeque::from(latest.to_vec());
        while let Some(id) = unseen.pop_front().filter(|_| found.len() < limit) {
            let known = found.iter().any(|pdu| pdu.event_id == id) || earliest.contains(&id);
            let Some(pdu) = data.events.get(&id).filter(|_| !known) else { continue };
            unseen.extend(pdu.prev_events.iter().cloned());
            found.push(Arc::clone(pdu));
        }
        found
    }

    /// The users whose membership is `join`.
    pub fn joined_users(&self) -> Vec<OwnedUserId> {
        let members = self.events(self.state().values());
        let joined = members.iter().filter_map(|pdu| pdu.membership()).filter(|(_, m)| m.as_str() == "join");
        joined.map(|(user_id, _)| user_id).collect()
    }

    /// Their servers.
    pub fn servers(&self) -> Vec<OwnedServerName> {
        let mut servers: Vec<OwnedServerName> =
            self.joined_users().iter().map(|user_id| UserId::server_name(user_id).to_owned()).collect();
        servers.sort();
        servers.dedup();
        servers
    }

    fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().expect("no test panics while it holds a room")
    }
}
