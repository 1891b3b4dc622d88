//! Random histories of a room: users on many branches do what they may, as each branch sees it.

use std::{collections::HashMap, sync::Arc};

use homeserver_rules::{
    Pdu,
    room::{
        EventsById, StateMap,
        authorise::{check_auth_events, check_state, deciding_keys_of},
        resolve::resolve,
    },
};
use ruma::{OwnedEventId, RoomVersionId, events::StateEventType, room_version_rules::RoomVersionRules};
use serde_json::{Value, json};

use super::branch;

/// Those with power act more often, or little would happen.
const ACTORS: [usize; 8] = [0, 0, 0, 1, 1, 2, 3, 4];
const USERS: [&str; 5] = ["@alice:a.test", "@bob:b.test", "@carol:c.test", "@dave:a.test", "@erin:b.test"];

/// What somebody tries to do. All numbers are taken modulo what there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// On top of which state.
    pub(crate) parent: usize,
    /// And which other one, for a merge.
    pub(crate) other: usize,
    /// What.
    pub(crate) action: usize,
    /// Who.
    pub(crate) actor: usize,
    /// To whom, or which value.
    pub(crate) target: usize,
    /// When, within few moments, so that many things happen at the same time.
    pub(crate) time: usize,
}

/// A history, and the state at each point of it.
pub(crate) struct Graph {
    pub(crate) rules: RoomVersionRules,
    pub(crate) events: EventsById,
    pub(crate) states: Vec<StateMap>,
    room_id: String,
}

impl Graph {
    /// A public room that Alice created, with Bob as a moderator and Carol as a member.
    pub(crate) fn new(version: RoomVersionId) -> Self {
        let rules = version.rules().unwrap();
        let named_after_create = rules.authorization.room_create_event_id_as_room_id;
        let room_id = if named_after_create { "!event00000000" } else { "!room:a.test" };
        let mut graph =
            Self { rules, events: HashMap::new(), states: vec![StateMap::new()], room_id: room_id.to_owned() };
        let levels = json!({
            "users": if named_after_create { json!({ USERS[1]: 50 }) } else { json!({ USERS[0]: 100, USERS[1]: 50 }) },
            "events": { "m.room.power_levels": 50 },
        });
        let join = |user| (user, "m.room.member", user, json!({ "membership": "join" }));
        let first = [
            (USERS[0], "m.room.create", "", json!({ "creator": USERS[0], "room_version": version })),
            join(USERS[0]),
            (USERS[0], "m.room.power_levels", "", levels),
            (USERS[0], "m.room.join_rules", "", json!({ "join_rule": "public" })),
            join(USERS[1]),
            join(USERS[2]),
        ];
        for (index, (sender, event_type, state_key, content)) in first.into_iter().enumerate() {
            assert!(graph.extend(graph.states.len() - 1, sender, event_type, state_key, content, index));
        }
        graph
    }

    /// Lets somebody try something; what the rules refuse does not happen.
    pub(crate) fn step(&mut self, step: Step) {
        const LEVELS: [i64; 4] = [0, 25, 50, 100];
        const RULES: [&str; 2] = ["public", "invite"];
        let parent = step.parent % self.states.len();
        let actor = USERS[ACTORS[step.actor % ACTORS.len()]];
        let target = USERS[step.target % USERS.len()];
        let member = |target, membership| (target, "m.room.member", json!({ "membership": membership }));
        let (state_key, event_type, content) = match step.action % 11 {
            0 => ("", "m.room.topic", json!({ "topic": step.time })),
            1 | 2 => ("", "m.room.power_levels", self.levels_with(parent, target, LEVELS[step.time % LEVELS.len()])),
            3 => ("", "m.room.join_rules", json!({ "join_rule": RULES[step.target % RULES.len()] })),
            4 => member(target, "ban"),
            5 => member(target, "leave"),
            6 => member(actor, "join"),
            7 => member(actor, "leave"),
            8 => member(target, "invite"),
            9 => ("key", "org.example", json!({ "value": step.time })),
            _ => return self.merge(parent, step.other % self.states.len()),
        };
        self.extend(parent, actor, event_type, state_key, content, 10 + step.time % 8);
    }

    fn levels_with(&self, parent: usize, user: &str, level: i64) -> Value {
        let present = self.states[parent].get(&(StateEventType::RoomPowerLevels, String::new()));
        let mut content: Value = present.map_or(json!({}), |levels| self.events[levels].content_as().unwrap());
        content["users"][user] = json!(level);
        content
    }

    fn merge(&mut self, one: usize, other: usize) {
        let branches = [one, other].map(|index| branch(&self.events, &self.states[index])).into();
        let state = resolve(&self.rules, branches, &self.events).unwrap();
        self.states.push(state);
    }

    fn extend(
        &mut self,
        parent: usize,
        sender: &str,
        event_type: &str,
        state_key: &str,
        content: Value,
        time: usize,
    ) -> bool {
        let state = &self.states[parent];
        let bare = self.pdu(sender, event_type, state_key, &content, time, &[]);
        let keys = deciding_keys_of(&self.rules.authorization, &bare).unwrap();
        let names_create = !self.rules.authorization.room_create_event_id_as_room_id;
        let named = keys.iter().filter(|(event_type, _)| names_create || *event_type != StateEventType::RoomCreate);
        let auth_events: Vec<OwnedEventId> = named.filter_map(|key| state.get(key).cloned()).collect();
        let pdu = Arc::new(self.pdu(sender, event_type, state_key, &content, time, &auth_events));
        let before = |event_type: &StateEventType, key: &str| {
            self.events.get(state.get(&(event_type.clone(), key.to_owned()))?).cloned()
        };
        let rules = &self.rules.authorization;
        if check_auth_events(rules, &pdu, &self.events).and_then(|()| check_state(rules, &pdu, before)).is_err() {
            return false;
        }
        let mut after = state.clone();
        after.insert(pdu.state_key_pair().unwrap(), pdu.event_id.clone());
        self.events.insert(pdu.event_id.clone(), pdu);
        self.states.push(after);
        true
    }

    /// An event that nobody signed: resolution does not look. Ids are in no order that follows from time.
    fn pdu(
        &self,
        sender: &str,
        event_type: &str,
        state_key: &str,
        content: &Value,
        time: usize,
        auth_events: &[OwnedEventId],
    ) -> Pdu {
        let id = (self.events.len() as u32).wrapping_mul(0x9e37_79b1);
        let latest = if event_type == "m.room.create" { Vec::new() } else { vec!["$before"] };
        let first_join = self.events.len() == 1;
        let mut event = json!({
            "type": event_type, "sender": sender, "state_key": state_key, "content": content, "depth": 1,
            "origin_server_ts": 1_000 + time, "auth_events": auth_events,
            "prev_events": if first_join { vec!["$event00000000"] } else { latest },
        });
        if event_type != "m.room.create" || self.rules.event_format.require_room_create_room_id {
            event["room_id"] = json!(self.room_id);
        }
        let event_id = format!("$event{id:08x}").try_into().unwrap();
        Pdu::from_json(event_id, event.to_string().into(), false).unwrap()
    }
}
