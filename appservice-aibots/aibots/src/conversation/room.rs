//! What is known of a room: who is in it, and how bots are to behave there.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::{Event, Object};
use crate::names::{AI_CONFIG, FUNCTIONAL_MEMBERS};

/// The power that a room asks for when it says nothing.
const STATE_POWER_DEFAULT: i64 = 50;

/// When bots speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// After each message of a human.
    #[default]
    All,
    /// When they are mentioned, or somebody replies to them.
    Mention,
    /// Never.
    Off,
}

impl Mode {
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "all" => Some(Self::All),
            "mention" => Some(Self::Mention),
            "off" => Some(Self::Off),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Mention => "mention",
            Self::Off => "off",
        }
    }
}

/// How bots are to behave in one room. What was set last counts, by a command or by the room's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RoomSettings {
    #[serde(default)]
    pub(crate) mode: Option<Mode>,
    /// The model to use instead of the bot's.
    #[serde(default)]
    pub(crate) model: Option<String>,
    /// Nothing up to this event is told to a model.
    #[serde(default)]
    pub(crate) forgotten_until: Option<String>,
    /// Whether bots may use tools here.
    #[serde(default)]
    pub(crate) tools: bool,
    /// The event of the room's state that these settings have taken in.
    #[serde(default)]
    pub(crate) state_event: Option<String>,
}

impl RoomSettings {
    /// Takes in the room's state, once.
    pub(crate) fn take_state(&mut self, state_event: Option<&str>, config: &Object) -> bool {
        if state_event.is_none() || self.state_event.as_deref() == state_event {
            return false;
        }
        self.state_event = state_event.map(str::to_owned);
        if let Some(mode) = config.get("mode").and_then(Value::as_str).and_then(Mode::named) {
            self.mode = Some(mode);
        }
        if config.get("forbid_bots").and_then(Value::as_bool) == Some(true) {
            self.mode = Some(Mode::Off);
        }
        if let Some(tools) = config.get("tools").and_then(Value::as_bool) {
            self.tools = tools;
        }
        true
    }
}

/// A member, joined or invited.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) is_joined: bool,
    pub(crate) display_name: Option<String>,
    /// Whether their membership says that they are a bot.
    is_flagged: bool,
    since_ms: u64,
}

/// A room as its state says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Room {
    pub(crate) members: BTreeMap<String, Member>,
    functional: BTreeSet<String>,
    /// The content of `m.room.encryption`.
    pub(crate) encryption: Option<Object>,
    pub(crate) history_visibility: String,
    pub(crate) config: Object,
    pub(crate) config_event: Option<String>,
    power: Object,
    creators: BTreeSet<String>,
}

impl Room {
    /// A room from its current state.
    pub(crate) fn from_state(state: &[Value]) -> Self {
        let mut room = Self { history_visibility: "shared".to_owned(), ..Self::default() };
        let events = state.iter().filter_map(Value::as_object).filter_map(|event| Event::read(event, ""));
        for event in events {
            room.take(event);
        }
        room
    }

    fn take(&mut self, event: Event) {
        let key = event.state_key.clone().unwrap_or_default();
        match (event.kind.as_str(), key.as_str()) {
            ("m.room.member", _) => self.take_member(key, &event),
            ("m.room.encryption", "") => self.encryption = Some(event.content),
            ("m.room.power_levels", "") => self.power = event.content,
            ("m.room.create", "") => self.take_creators(&event),
            ("m.room.history_visibility", "") => {
                event.text("history_visibility").clone_into(&mut self.history_visibility);
            }
            (FUNCTIONAL_MEMBERS | "m.member_hints", "") => {
                let members = event.content.get("service_members").and_then(Value::as_array);
                self.functional.extend(members.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
            }
            (AI_CONFIG, "") => (self.config, self.config_event) = (event.content, Some(event.event_id)),
            _ => {}
        }
    }

    fn take_member(&mut self, user_id: String, event: &Event) {
        let membership = event.text("membership");
        if !matches!(membership, "join" | "invite") {
            return;
        }
        let display_name = event.content.get("displayname").and_then(Value::as_str).map(str::to_owned);
        let member = Member {
            is_joined: membership == "join",
            display_name,
            is_flagged: event.content.get("bot").and_then(Value::as_bool).unwrap_or(false),
            since_ms: event.sent_ms,
        };
        self.members.insert(user_id, member);
    }

    fn take_creators(&mut self, event: &Event) {
        // From version 12 on, creators stand above all levels.
        if matches!(event.text("room_version"), "" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "10" | "11")
        {
            return;
        }
        self.creators.insert(event.sender.clone());
        let more = event.content.get("additional_creators").and_then(Value::as_array);
        self.creators.extend(more.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
    }

    pub(crate) fn is_joined(&self, user_id: &str) -> bool {
        self.members.get(user_id).is_some_and(|member| member.is_joined)
    }

    /// Whether somebody says, or the room says of them, that they are a machine.
    pub(crate) fn is_flagged_as_bot(&self, user_id: &str) -> bool {
        self.functional.contains(user_id) || self.members.get(user_id).is_some_and(|member| member.is_flagged)
    }

    /// Our bots that are in the room, in the order in which they came.
    pub(crate) fn bots<'a>(&self, is_ours: impl Fn(&str) -> bool + 'a) -> Vec<String> {
        let joined = self.members.iter().filter(|(user_id, member)| member.is_joined && is_ours(user_id));
        let mut bots: Vec<_> = joined.map(|(user_id, member)| (member.since_ms, user_id.clone())).collect();
        bots.sort();
        bots.into_iter().map(|(_, user_id)| user_id).collect()
    }

    /// How many humans are in the room, or asked to come.
    pub(crate) fn humans(&self, is_ours: impl Fn(&str) -> bool) -> usize {
        self.members.keys().filter(|user_id| !is_ours(user_id) && !self.is_flagged_as_bot(user_id)).count()
    }

    /// A conversation of one human with one bot.
    pub(crate) fn is_direct(&self, is_ours: impl Fn(&str) -> bool) -> bool {
        self.bots(&is_ours).len() == 1 && self.humans(&is_ours) == 1
    }

    /// What to call somebody.
    pub(crate) fn name_of<'a>(&'a self, user_id: &'a str) -> &'a str {
        let name = self.members.get(user_id).and_then(|member| member.display_name.as_deref());
        name.filter(|name| !name.trim().is_empty()).unwrap_or_else(|| {
            let localpart = user_id.strip_prefix('@').unwrap_or(user_id);
            localpart.split(':').next().unwrap_or(localpart)
        })
    }

    /// A conversation of two humans, which others are guests in.
    pub(crate) fn is_of_two(&self, is_ours: impl Fn(&str) -> bool) -> bool {
        self.humans(is_ours) == 2
    }

    /// Those whom the state lists as no persons.
    pub(crate) fn functional_members(&self) -> &BTreeSet<String> {
        &self.functional
    }

    /// Whether somebody may change how bots are to behave.
    pub(crate) fn may_set_state(&self, user_id: &str) -> bool {
        self.may_send(user_id, AI_CONFIG)
    }

    /// Whether somebody may set state of a type.
    pub(crate) fn may_send(&self, user_id: &str, kind: &str) -> bool {
        let level = |value: Option<&Value>| value.and_then(Value::as_i64);
        let own = level(self.power.get("users").and_then(|users| users.get(user_id)));
        let own = own.or_else(|| level(self.power.get("users_default"))).unwrap_or(0);
        let asked = level(self.power.get("events").and_then(|events| events.get(kind)));
        let asked = asked.or_else(|| level(self.power.get("state_default"))).unwrap_or(STATE_POWER_DEFAULT);
        self.creators.contains(user_id) || own >= asked
    }
}

#[cfg(test)]
pub(crate) fn room_with(members: &[&str]) -> Room {
    let member = |(index, user_id): (usize, &&str)| {
        serde_json::json!({ "type": "m.room.member", "state_key": user_id, "sender": user_id, "event_id": format!("${index}"),
            "origin_server_ts": index, "content": { "membership": "join" } })
    };
    Room::from_state(&members.iter().enumerate().map(member).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Mode, Room, RoomSettings, room_with};

    fn is_ours(user_id: &str) -> bool {
        user_id.starts_with("@bot")
    }

    #[test]
    fn bots_come_in_the_order_of_their_joining() {
        let room = room_with(&["@alice:t", "@bot-z:t", "@bot-a:t"]);
        assert_eq!(room.bots(is_ours), ["@bot-z:t", "@bot-a:t"]);
        assert!(!room.is_direct(is_ours));
        assert!(room_with(&["@alice:t", "@bot-z:t"]).is_direct(is_ours));
        assert!(!room_with(&["@alice:t", "@bob:t", "@bot-z:t"]).is_direct(is_ours));
    }

    #[test]
    fn settings_want_the_power_to_set_state() {
        let event = |kind: &str, content: serde_json::Value| json!({ "type": kind, "state_key": "", "sender": "@owner:t", "event_id": "$x", "content": content });
        let levels = event("m.room.power_levels", json!({ "users": { "@admin:t": 50 }, "users_default": 0 }));
        let room = Room::from_state(&[levels.clone(), event("m.room.create", json!({ "room_version": "12" }))]);
        assert!(room.may_set_state("@admin:t") && room.may_set_state("@owner:t") && !room.may_set_state("@guest:t"));
        let room = Room::from_state(&[levels, event("m.room.create", json!({ "room_version": "11" }))]);
        assert!(!room.may_set_state("@owner:t"), "below version 12 a creator has what the levels say");
    }

    #[test]
    fn the_state_of_a_room_is_taken_in_once() {
        let mut settings = RoomSettings::default();
        let config = json!({ "mode": "mention", "tools": true });
        assert!(settings.take_state(Some("$1"), config.as_object().unwrap()));
        assert_eq!((settings.mode, settings.tools), (Some(Mode::Mention), true));
        settings.mode = Some(Mode::All);
        assert!(!settings.take_state(Some("$1"), config.as_object().unwrap()), "a later command counts");
        assert!(settings.take_state(Some("$2"), json!({ "forbid_bots": true }).as_object().unwrap()));
        assert_eq!(settings.mode, Some(Mode::Off));
    }
}
