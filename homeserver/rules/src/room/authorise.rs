//! Whether an event is allowed: the authorisation rules, and which events they read.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#authorization-rules>

mod third_party;

use std::{collections::BTreeSet, sync::Arc};

use ruma::{
    CanonicalJsonObject, EventId, Int, OwnedEventId, OwnedUserId, RoomVersionId, UserId,
    events::{StateEventType, TimelineEventType},
    room_version_rules::AuthorizationRules,
    state_res::{
        self, auth_types_for_event, check_state_dependent_auth_rules, check_state_independent_auth_rules,
        events::{RoomCreateEvent, RoomPowerLevelsEvent},
    },
};
use serde_json::{Value, value::RawValue};

use super::{EventsById, RoomSnapshot, StateKey};
use crate::Pdu;

/// The authorisation rules say no, for this reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAllowed(pub String);

/// The keys of the room state that decide about an event, the create event always among them.
pub fn deciding_keys(
    rules: &AuthorizationRules,
    event_type: &TimelineEventType,
    sender: &UserId,
    state_key: Option<&str>,
    content: &RawValue,
) -> Result<Vec<StateKey>, NotAllowed> {
    let mut keys = auth_types_for_event(event_type, sender, state_key, content, rules).map_err(NotAllowed)?;
    let create = (StateEventType::RoomCreate, String::new());
    if *event_type != TimelineEventType::RoomCreate && !keys.contains(&create) {
        keys.push(create);
    }
    Ok(keys)
}

/// The same for an event that exists.
pub fn deciding_keys_of(rules: &AuthorizationRules, pdu: &Pdu) -> Result<Vec<StateKey>, NotAllowed> {
    deciding_keys(rules, &pdu.event_type, &pdu.sender, pdu.state_key.as_deref(), &pdu.content)
}

/// The events to name as `auth_events`, out of the current state of the room.
/// <https://spec.matrix.org/v1.19/server-server-api/#auth-events-selection>
pub fn select_auth_events(room: &RoomSnapshot, keys: &[StateKey]) -> Vec<OwnedEventId> {
    let names_create = !room.rules.authorization.room_create_event_id_as_room_id;
    let named = keys.iter().filter(|(event_type, _)| names_create || *event_type != StateEventType::RoomCreate);
    named.filter_map(|(event_type, key)| room.state_event_id(event_type, key).map(ToOwned::to_owned)).collect()
}

/// Checks an event against the events that it names as its `auth_events`: they are of the right kind, and they allow
/// it. `events` must hold them, and the create event.
pub fn check_auth_events(rules: &AuthorizationRules, pdu: &Pdu, events: &EventsById) -> Result<(), NotAllowed> {
    if pdu.event_type == TimelineEventType::RoomCreate {
        known_version(pdu)?;
    }
    let fetch = |event_id: &EventId| events.get(event_id).cloned();
    check_state_independent_auth_rules(rules, pdu, fetch).map_err(NotAllowed)?;
    let implied = implied_create(rules, pdu, events);
    let named: Vec<Arc<Pdu>> = pdu.auth_events.iter().filter_map(|id| events.get(id).cloned()).chain(implied).collect();
    check_state(rules, pdu, |event_type, state_key| {
        named.iter().find(|event| is_value_for(event, event_type, state_key)).cloned()
    })
}

/// The create event of version 12 and later, which events do not name because their room is named after it.
fn implied_create(rules: &AuthorizationRules, pdu: &Pdu, events: &EventsById) -> Option<Arc<Pdu>> {
    let event_id = implied_create_id(rules, pdu)?;
    events.get(&event_id).filter(|event| event.is_state(&TimelineEventType::RoomCreate)).cloned()
}

/// The id of the create event that an event builds upon without naming it, as all but the create event itself do from
/// version 12 on.
pub fn implied_create_id(rules: &AuthorizationRules, pdu: &Pdu) -> Option<OwnedEventId> {
    let is_implied = rules.room_create_event_id_as_room_id && pdu.event_type != TimelineEventType::RoomCreate;
    is_implied.then(|| EventId::parse(format!("${}", pdu.room_id.strip_sigil())).ok()).flatten()
}

/// Checks that a create event is the one of its room: the room has no other, and is of the version that the event
/// says.
pub fn check_create(room: &RoomSnapshot, create: &Pdu) -> Result<(), NotAllowed> {
    let present = room.state_event_id(&StateEventType::RoomCreate, "");
    if present.is_some_and(|event_id| event_id != create.event_id) {
        return Err(NotAllowed("the room has another create event".to_owned()));
    }
    let version = known_version(create)?;
    if version != room.version {
        return Err(NotAllowed(format!("the room is of version {}, its create event says {version}", room.version)));
    }
    Ok(())
}

/// The room version that a create event gives, if we know it.
fn known_version(create: &Pdu) -> Result<RoomVersionId, NotAllowed> {
    let version = RoomCreateEvent::new(create).room_version().map_err(NotAllowed)?;
    match version.rules() {
        Some(_) => Ok(version),
        None => Err(NotAllowed(format!("unknown room version {version}"))),
    }
}

/// Checks an event against a room state.
pub fn check_state(
    rules: &AuthorizationRules,
    pdu: &Pdu,
    state: impl Fn(&StateEventType, &str) -> Option<Arc<Pdu>>,
) -> Result<(), NotAllowed> {
    check_state_dependent_auth_rules(rules, pdu, &state).map_err(NotAllowed)?;
    third_party::check_signature(pdu, &state)
}

/// Checks an event against the current state of the room. `events` must hold the deciding events.
pub fn check_current_state(room: &RoomSnapshot, pdu: &Pdu, events: &EventsById) -> Result<(), NotAllowed> {
    check_state(&room.rules.authorization, pdu, |event_type, state_key| {
        events.get(room.state_event_id(event_type, state_key)?).cloned()
    })
}

fn is_value_for(event: &Pdu, event_type: &StateEventType, state_key: &str) -> bool {
    event.state_key.as_deref() == Some(state_key) && event.event_type.to_string() == event_type.to_string()
}

/// The power that redacting others' events takes when the room does not say.
const DEFAULT_REDACT_LEVEL: i32 = 50;
/// The power that inviting takes when the room does not say.
const DEFAULT_INVITE_LEVEL: i32 = 0;
/// The power that notifying the whole room takes when the room does not say.
const DEFAULT_NOTIFICATION_LEVEL: i32 = 50;
/// The power that sending state takes in a room without power levels.
const DEFAULT_STATE_LEVEL: i32 = 50;

/// What users may do, as the create and power levels events say.
pub struct PowerLevels {
    rules: AuthorizationRules,
    create: RoomCreateEvent<Arc<Pdu>>,
    levels: Option<RoomPowerLevelsEvent<Arc<Pdu>>>,
}

impl PowerLevels {
    /// From the room's create event and its power levels event, if it has one.
    pub fn new(rules: &AuthorizationRules, create: Arc<Pdu>, levels: Option<Arc<Pdu>>) -> Self {
        Self {
            rules: rules.clone(),
            create: RoomCreateEvent::new(create),
            levels: levels.map(RoomPowerLevelsEvent::new),
        }
    }

    /// Whether a user may redact the events of others.
    pub fn may_redact(&self, user_id: &UserId) -> bool {
        self.user_reaches(user_id, self.level("redact").unwrap_or(DEFAULT_REDACT_LEVEL.into()))
    }

    /// Whether a user may notify in a way that takes power, such as `room`.
    pub fn may_notify(&self, user_id: &UserId, key: &str) -> bool {
        let level = || self.read(self.content()?.get("notifications")?.get(key)?);
        self.user_reaches(user_id, level().unwrap_or(DEFAULT_NOTIFICATION_LEVEL.into()))
    }

    fn level(&self, field: &str) -> Option<Int> {
        self.read(self.content()?.get(field)?)
    }

    fn content(&self) -> Option<serde_json::Map<String, Value>> {
        self.levels.as_ref()?.content_as()
    }

    fn read(&self, level: &Value) -> Option<Int> {
        match level {
            Value::String(text) if !self.rules.integer_power_levels => text.trim().parse().ok(),
            value => value.as_i64().and_then(Int::new),
        }
    }

    /// Whether a user may invite others.
    pub fn may_invite(&self, user_id: &UserId) -> bool {
        self.user_reaches(user_id, self.level("invite").unwrap_or(DEFAULT_INVITE_LEVEL.into()))
    }

    /// Whether a user may send state events of a type.
    pub fn may_send_state(&self, user_id: &UserId, event_type: &TimelineEventType) -> bool {
        let needed = match &self.levels {
            Some(levels) => levels.event_power_level(event_type, Some(""), &self.rules).ok(),
            None => Some(Int::from(DEFAULT_STATE_LEVEL)),
        };
        needed.is_some_and(|needed| self.user_reaches(user_id, needed))
    }

    /// The creator whom new power levels name, the first in their order, where creators stand above all levels and must
    /// not be named.
    pub fn creator_named_in(&self, users: &CanonicalJsonObject) -> Option<OwnedUserId> {
        let creators = self.create.creators(&self.rules).unwrap_or_default();
        let stand_above = self.rules.explicitly_privilege_room_creators;
        creators.into_iter().filter(|user_id| stand_above && users.contains_key(user_id.as_str())).min()
    }

    fn user_reaches(&self, user_id: &UserId, needed: Int) -> bool {
        let creators = self.create.creators(&self.rules).unwrap_or_default();
        if creators.contains(user_id) && (self.rules.explicitly_privilege_room_creators || self.levels.is_none()) {
            return true;
        }
        let level = match &self.levels {
            Some(levels) => levels.user_power_level(user_id, &self.rules).ok(),
            None => Some(Int::from(0)),
        };
        level.is_some_and(|level| level >= needed)
    }
}

/// All events that the given ones name as `auth_events`, each once, in the order of their ids.
pub fn named_auth_events<'a>(pdus: impl IntoIterator<Item = &'a Pdu>) -> BTreeSet<OwnedEventId> {
    pdus.into_iter().flat_map(|pdu| state_res::Event::auth_events(pdu).cloned().collect::<Vec<_>>()).collect()
}
