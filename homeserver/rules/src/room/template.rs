//! Joining or leaving by way of another server: what we take from its template, and what we check of it.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedUserId, RoomId,
    ServerName, UserId,
    events::{TimelineEventType, room::member::MembershipState},
    owned_event_id,
    room_version_rules::{EventsReferenceFormatVersion, RoomVersionRules},
};

use super::{
    EventsById, RoomSnapshot,
    authorise::{NotAllowed, check_current_state},
    member,
    send::{self, Intent},
};
use crate::{
    Pdu,
    event::{Draft, build::LegacyParts},
    pdu::MAX_DEPTH,
};

/// The template asks for something else than what we asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other server's template has an unexpected `{0}`")]
pub struct UnexpectedTemplate(&'static str);

/// What we want to become by way of the other server.
pub struct Wanted<'a> {
    /// The room.
    pub room_id: &'a RoomId,
    /// Our user.
    pub user_id: &'a UserId,
    /// The membership.
    pub membership: MembershipState,
    /// The content of the member event, but for the membership.
    pub content: CanonicalJsonObject,
    /// The server that is asked.
    pub asked: &'a ServerName,
    /// The time.
    pub now: MilliSecondsSinceUnixEpoch,
    /// A random string, for the event ids of versions 1 and 2.
    pub id_seed: String,
}

/// The draft of our member event. Of the template it takes `prev_events`, `auth_events`, `depth` and the user who
/// authorises a restricted join; all else is ours.
pub fn draft(
    wanted: Wanted<'_>,
    template: &CanonicalJsonObject,
    rules: &RoomVersionRules,
) -> Result<Draft, UnexpectedTemplate> {
    expect_text(template, "type", "m.room.member")?;
    expect_text(template, "room_id", wanted.room_id.as_str())?;
    expect_text(template, "sender", wanted.user_id.as_str())?;
    expect_text(template, "state_key", wanted.user_id.as_str())?;
    let Some(CanonicalJsonValue::Object(content)) = template.get("content") else {
        return Err(UnexpectedTemplate("content"));
    };
    expect_text(content, "membership", wanted.membership.as_str())?;

    let mut ours = wanted.content;
    if let Some(user_id) = authoriser(content, wanted.asked)? {
        ours.insert("join_authorised_via_users_server".to_owned(), CanonicalJsonValue::String(user_id.to_string()));
    }
    let intent = member::change(wanted.user_id, wanted.user_id, &wanted.membership, ours);
    Ok(Draft {
        room_id: Some(wanted.room_id.to_owned()),
        sender: intent.sender,
        event_type: TimelineEventType::RoomMember,
        state_key: intent.state_key,
        content: intent.content,
        redacts: None,
        prev_events: references(template, "prev_events")?,
        auth_events: references(template, "auth_events")?,
        depth: depth(template)?,
        origin_server_ts: wanted.now,
        legacy: matches!(rules.events_reference_format, EventsReferenceFormatVersion::V1)
            .then(|| LegacyParts { id_seed: wanted.id_seed, reference_hashes: hashes(template) }),
    })
}

fn expect_text(object: &CanonicalJsonObject, field: &'static str, expected: &str) -> Result<(), UnexpectedTemplate> {
    match object.get(field) {
        Some(CanonicalJsonValue::String(text)) if text == expected => Ok(()),
        _ => Err(UnexpectedTemplate(field)),
    }
}

/// Only a user of the server that is asked can authorise a join there: another server's signature would be missing.
fn authoriser(content: &CanonicalJsonObject, asked: &ServerName) -> Result<Option<OwnedUserId>, UnexpectedTemplate> {
    const FIELD: &str = "join_authorised_via_users_server";
    let Some(value) = content.get(FIELD) else { return Ok(None) };
    let user_id = value.as_str().and_then(|id| <&UserId>::try_from(id).ok());
    let user_id = user_id.filter(|user_id| user_id.server_name() == asked).ok_or(UnexpectedTemplate(FIELD))?;
    Ok(Some(user_id.to_owned()))
}

fn depth(template: &CanonicalJsonObject) -> Result<u64, UnexpectedTemplate> {
    match template.get("depth") {
        Some(CanonicalJsonValue::Integer(depth)) => {
            u64::try_from(i64::from(*depth)).ok().filter(|depth| *depth <= MAX_DEPTH).ok_or(UnexpectedTemplate("depth"))
        }
        _ => Err(UnexpectedTemplate("depth")),
    }
}

fn references(template: &CanonicalJsonObject, field: &'static str) -> Result<Vec<OwnedEventId>, UnexpectedTemplate> {
    let Some(CanonicalJsonValue::Array(list)) = template.get(field) else { return Err(UnexpectedTemplate(field)) };
    let id = |value: &CanonicalJsonValue| match value {
        CanonicalJsonValue::String(id) => EventId::parse(id).ok(),
        CanonicalJsonValue::Array(pair) => match pair.first() {
            Some(CanonicalJsonValue::String(id)) => EventId::parse(id).ok(),
            _ => None,
        },
        _ => None,
    };
    list.iter().map(|value| id(value).ok_or(UnexpectedTemplate(field))).collect()
}

/// The reference hashes that a template of version 1 or 2 gives with its references.
fn hashes(template: &CanonicalJsonObject) -> std::collections::BTreeMap<OwnedEventId, String> {
    let lists = ["prev_events", "auth_events"].into_iter().filter_map(|field| template.get(field));
    let pairs = lists.flat_map(|list| match list {
        CanonicalJsonValue::Array(list) => list.clone(),
        _ => Vec::new(),
    });
    pairs
        .filter_map(|pair| {
            let CanonicalJsonValue::Array(pair) = pair else { return None };
            let [CanonicalJsonValue::String(id), CanonicalJsonValue::Object(hashes)] = pair.as_slice() else {
                return None;
            };
            let Some(CanonicalJsonValue::String(hash)) = hashes.get("sha256") else { return None };
            Some((EventId::parse(id).ok()?, hash.clone()))
        })
        .collect()
}

/// A template for a member event of another server's user, if the event would be allowed as the room is.
pub fn offer(
    room: &RoomSnapshot,
    intent: Intent,
    now: MilliSecondsSinceUnixEpoch,
    events: &EventsById,
) -> Result<CanonicalJsonObject, NotAllowed> {
    let object = send::draft(room, intent, now)?.into_object(&room.rules);
    let text = serde_json::to_string(&object).map_err(|error| NotAllowed(error.to_string()))?;
    // The id of an event without hashes means nothing, and nothing here reads it.
    let placeholder = owned_event_id!("$template");
    let pdu = Pdu::from_json(placeholder, text.into(), false).map_err(|error| NotAllowed(error.to_string()))?;
    check_current_state(room, &pdu, events)?;
    Ok(object)
}
