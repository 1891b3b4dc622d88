//! A new room: the events it begins with, in order.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#creation>

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedRoomAliasId, OwnedUserId, RoomVersionId, UserId,
    events::{TimelineEventType, room::member::MembershipState},
    room_version_rules::RoomVersionRules,
};
use serde_json::{Value, json};

use super::{member, send::Intent};

/// How many state events a client may give for a new room.
pub const MAX_INITIAL_STATE: usize = 100;
/// How many users a client may invite into a new room.
pub const MAX_INVITES: usize = 100;

/// A set of initial settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// By invitation only.
    PrivateChat,
    /// By invitation only, and all who are invited may do everything.
    TrustedPrivateChat,
    /// Anyone may join.
    PublicChat,
}

/// What the creator wants.
#[derive(Clone, Debug)]
pub struct NewRoom {
    /// The version.
    pub version: RoomVersionId,
    /// The creator.
    pub creator: OwnedUserId,
    /// The initial settings.
    pub preset: Preset,
    /// The alias, which becomes the canonical one.
    pub alias: Option<OwnedRoomAliasId>,
    /// The name.
    pub name: Option<String>,
    /// The topic.
    pub topic: Option<String>,
    /// Further state.
    pub initial_state: Vec<(TimelineEventType, String, CanonicalJsonObject)>,
    /// Further keys for the content of the create event.
    pub creation_content: CanonicalJsonObject,
    /// Keys that replace those of the power levels.
    pub power_level_content_override: Option<CanonicalJsonObject>,
    /// Who will be invited: with [`Preset::TrustedPrivateChat`] they get the creator's power.
    pub invite: Vec<OwnedUserId>,
    /// The content of the creator's member event, but for the membership.
    pub member_content: CanonicalJsonObject,
}

/// Why a room cannot be made so.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CreateError {
    /// A creator has infinite power in this room version and must not be listed.
    #[error("{0} creates the room and must not stand in its power levels")]
    CreatorInPowerLevels(OwnedUserId),
    /// Too many entries.
    #[error("more than {1} entries in `{0}`")]
    TooMany(&'static str, usize),
    /// `additional_creators` is not a list of user ids.
    #[error("`additional_creators` must be a list of user ids")]
    AdditionalCreators,
    /// Something that makes no canonical JSON.
    #[error("not canonical JSON: {0}")]
    Json(String),
}

/// The events of a new room, in the order in which they are to be sent: creation, creator's join, power levels, alias,
/// preset, initial state, name, topic. Invitations follow separately.
pub fn first_events(room: &NewRoom, rules: &RoomVersionRules) -> Result<Vec<Intent>, CreateError> {
    if room.initial_state.len() > MAX_INITIAL_STATE {
        return Err(CreateError::TooMany("initial_state", MAX_INITIAL_STATE));
    }
    if room.invite.len() > MAX_INVITES {
        return Err(CreateError::TooMany("invite", MAX_INVITES));
    }
    let create = create_content(room, rules)?;
    let levels = power_levels(room, rules, &create)?;
    let mut events = vec![
        state(room, TimelineEventType::RoomCreate, "", create),
        member::change(&room.creator, &room.creator, &MembershipState::Join, room.member_content.clone()),
        state(room, TimelineEventType::RoomPowerLevels, "", levels),
    ];
    if let Some(alias) = &room.alias {
        events.push(state(room, TimelineEventType::RoomCanonicalAlias, "", object(json!({ "alias": alias }))?));
    }
    for (event_type, content) in preset_state(room.preset) {
        let replaced = room.initial_state.iter().any(|(given, key, _)| *given == event_type && key.is_empty());
        if !replaced {
            events.push(state(room, event_type, "", object(content)?));
        }
    }
    events.extend(
        room.initial_state
            .iter()
            .map(|(event_type, state_key, content)| state(room, event_type.clone(), state_key, content.clone())),
    );
    if let Some(name) = &room.name {
        events.push(state(room, TimelineEventType::RoomName, "", object(json!({ "name": name }))?));
    }
    if let Some(topic) = &room.topic {
        let content = json!({ "topic": topic, "m.topic": { "m.text": [{ "body": topic }] } });
        events.push(state(room, TimelineEventType::RoomTopic, "", object(content)?));
    }
    Ok(events)
}

fn state(room: &NewRoom, event_type: TimelineEventType, state_key: &str, content: CanonicalJsonObject) -> Intent {
    Intent {
        sender: room.creator.clone(),
        event_type,
        state_key: Some(state_key.to_owned()),
        content,
        redacts: None,
        sticky_duration_ms: None,
        origin_server_ts: None,
    }
}

fn create_content(room: &NewRoom, rules: &RoomVersionRules) -> Result<CanonicalJsonObject, CreateError> {
    let mut content = room.creation_content.clone();
    content.insert("room_version".to_owned(), CanonicalJsonValue::String(room.version.to_string()));
    if rules.authorization.use_room_create_sender {
        content.remove("creator");
    } else {
        content.insert("creator".to_owned(), CanonicalJsonValue::String(room.creator.to_string()));
    }
    if !rules.authorization.additional_room_creators {
        return Ok(content);
    }
    let mut creators = additional_creators(&content)?;
    if room.preset == Preset::TrustedPrivateChat {
        creators.extend(room.invite.iter().map(ToString::to_string));
    }
    creators.retain(|user_id| *user_id != room.creator.as_str());
    creators.sort();
    creators.dedup();
    if creators.is_empty() {
        content.remove("additional_creators");
    } else {
        let list = creators.into_iter().map(CanonicalJsonValue::String).collect();
        content.insert("additional_creators".to_owned(), CanonicalJsonValue::Array(list));
    }
    Ok(content)
}

fn additional_creators(content: &CanonicalJsonObject) -> Result<Vec<String>, CreateError> {
    let Some(list) = content.get("additional_creators") else { return Ok(Vec::new()) };
    let CanonicalJsonValue::Array(list) = list else { return Err(CreateError::AdditionalCreators) };
    let user_id = |value: &CanonicalJsonValue| match value {
        CanonicalJsonValue::String(id) if <&UserId>::try_from(id.as_str()).is_ok() => Ok(id.clone()),
        _ => Err(CreateError::AdditionalCreators),
    };
    list.iter().map(user_id).collect()
}

fn power_levels(
    room: &NewRoom,
    rules: &RoomVersionRules,
    create: &CanonicalJsonObject,
) -> Result<CanonicalJsonObject, CreateError> {
    let creators_stand_above = rules.authorization.explicitly_privilege_room_creators;
    let mut users = serde_json::Map::new();
    if !creators_stand_above {
        users.insert(room.creator.to_string(), json!(100));
        if room.preset == Preset::TrustedPrivateChat {
            users.extend(room.invite.iter().map(|user_id| (user_id.to_string(), json!(100))));
        }
    }
    let mut content = object(json!({
        "users": users,
        "users_default": 0,
        "events": {
            "m.room.name": 50,
            "m.room.avatar": 50,
            "m.room.canonical_alias": 50,
            "m.room.power_levels": 100,
            "m.room.history_visibility": 100,
            "m.room.encryption": 100,
            "m.room.server_acl": 100,
            "m.room.tombstone": if creators_stand_above { 150 } else { 100 },
        },
        "events_default": 0,
        "state_default": 50,
        "ban": 50,
        "kick": 50,
        "redact": 50,
        // Where anybody may join, invitations are for reaching people elsewhere, and so for spam.
        "invite": if room.preset == Preset::PublicChat { 50 } else { 0 },
    }))?;
    content.extend(room.power_level_content_override.clone().unwrap_or_default());
    if creators_stand_above {
        check_no_creator(&content, room, additional_creators(create)?)?;
    }
    Ok(content)
}

fn check_no_creator(levels: &CanonicalJsonObject, room: &NewRoom, additional: Vec<String>) -> Result<(), CreateError> {
    let Some(CanonicalJsonValue::Object(users)) = levels.get("users") else { return Ok(()) };
    let creators = additional.into_iter().filter_map(|id| UserId::parse(id).ok());
    let mut creators = std::iter::once(room.creator.clone()).chain(creators);
    match creators.find(|user_id| users.contains_key(user_id.as_str())) {
        Some(user_id) => Err(CreateError::CreatorInPowerLevels(user_id)),
        None => Ok(()),
    }
}

fn preset_state(preset: Preset) -> Vec<(TimelineEventType, Value)> {
    let (join_rule, guests_may_join) = match preset {
        Preset::PublicChat => ("public", false),
        Preset::PrivateChat | Preset::TrustedPrivateChat => ("invite", true),
    };
    let mut state = vec![
        (TimelineEventType::RoomJoinRules, json!({ "join_rule": join_rule })),
        (TimelineEventType::RoomHistoryVisibility, json!({ "history_visibility": "shared" })),
    ];
    if guests_may_join {
        // That they may not needs no event: it is what holds without one.
        state.push((TimelineEventType::RoomGuestAccess, json!({ "guest_access": "can_join" })));
    }
    state
}

fn object(value: Value) -> Result<CanonicalJsonObject, CreateError> {
    serde_json::from_value(value).map_err(|error| CreateError::Json(error.to_string()))
}
