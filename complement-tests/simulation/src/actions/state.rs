//! Users change the state of rooms.

use engine::EngineError;
use ruma::{OwnedEventId, events::StateEventType};
use serde_json::{Value, json, value::to_raw_value};

use super::{Kind, membership::VISIBILITIES};
use crate::{Failure, universe::Universe};

impl Universe {
    pub(super) async fn change_state(&mut self, kind: Kind) -> Result<(), Failure> {
        let (room, user) = self.room_and_user().await?;
        let who = self.user_id(user).to_string();
        if kind == Kind::DisplayName {
            let name = format!("Name {}", self.next());
            let done = self.engine_of(user).set_display_name(self.requester(user), Some(name.clone())).await;
            return self.note(kind, &who, &name, done.map(|()| "done".to_owned()));
        }
        let Some((event_type, content)) = self.new_state(kind, room, user).await? else { return Ok(()) };
        let what = format!("room {} {content}", room + 1);
        let set = self.set_state(room, user, event_type, &content).await;
        if let Ok(event_id) = &set {
            self.promise(user, room, event_id);
        }
        self.note(kind, &who, &what, set.map(|event_id| event_id.to_string()))
    }

    /// Join rules; restricted ones let in whoever is in another room.
    fn join_rules(&mut self, rule: &str) -> Value {
        if rule != "restricted" {
            return json!({ "join_rule": rule });
        }
        let other = self.dice.pick(&self.rooms);
        json!({ "join_rule": rule, "allow": [{ "type": "m.room_membership", "room_id": other }] })
    }

    /// An access control list, which denies one of the other servers or none.
    fn server_acl(&mut self, room: usize, user: usize) -> Value {
        let server = self.users[user].server;
        let denied = (server + self.dice.between(1, self.servers.len() - 1)) % self.servers.len();
        let deny = if self.dice.percent(40) { vec![self.servers[denied].name().to_owned()] } else { Vec::new() };
        self.denied.extend(deny.iter().map(|name| (room, name.clone())));
        json!({ "allow": ["*"], "deny": deny, "allow_ip_literals": false })
    }

    async fn set_state(
        &self,
        room: usize,
        user: usize,
        event_type: StateEventType,
        content: &Value,
    ) -> Result<OwnedEventId, EngineError> {
        let content = to_raw_value(content).expect("a JSON object is JSON");
        self.engine_of(user).set_state(self.requester(user), &self.rooms[room], event_type, "", &content).await
    }

    async fn new_state(
        &mut self,
        kind: Kind,
        room: usize,
        user: usize,
    ) -> Result<Option<(StateEventType, Value)>, Failure> {
        let number = self.next();
        Ok(Some(match kind {
            Kind::Topic => (StateEventType::RoomTopic, json!({ "topic": format!("Topic {number}") })),
            Kind::Name => (StateEventType::RoomName, json!({ "name": format!("Name {number}") })),
            Kind::JoinRules => {
                let rule = self.dice.weighted(&[("public", 3), ("invite", 2), ("restricted", 3)]);
                (StateEventType::RoomJoinRules, self.join_rules(rule))
            }
            Kind::HistoryVisibility => {
                let visibility = self.dice.pick(&VISIBILITIES);
                (StateEventType::RoomHistoryVisibility, json!({ "history_visibility": visibility }))
            }
            Kind::ServerAcl => (StateEventType::RoomServerAcl, self.server_acl(room, user)),
            _ => {
                let Some(levels) = self.power_levels(room, user).await? else { return Ok(None) };
                (StateEventType::RoomPowerLevels, self.changed(levels))
            }
        }))
    }

    /// The power levels as a user's server has them.
    pub(super) async fn power_levels(&self, room: usize, user: usize) -> Result<Option<Value>, Failure> {
        let storage = self.engine_of(user).storage();
        let head = storage.head();
        let entry = storage.state_entry_at(&self.rooms[room], &StateEventType::RoomPowerLevels, "", head).await?;
        let Some(event_id) = entry.and_then(|entry| entry.event_id) else { return Ok(None) };
        let event = storage.event(&event_id).await?;
        Ok(event.and_then(|event| serde_json::from_str(event.pdu.content.get()).ok()))
    }

    fn changed(&mut self, mut levels: Value) -> Value {
        match self.dice.below(10) {
            0 => levels["events_default"] = json!(self.dice.pick(&[0, 50])),
            1 => levels["invite"] = json!(self.dice.pick(&[0, 50])),
            2 => levels["state_default"] = json!(self.dice.pick(&[0, 50, 100])),
            3 => levels["ban"] = json!(self.dice.pick(&[50, 100])),
            _ => {
                let user = self.dice.below(self.users.len());
                let target = self.user_id(user).to_string();
                levels["users"][target] = json!(self.dice.pick(&[0, 50, 50, 100, 100]));
            }
        }
        levels
    }
}
