//! Reading JSON from outside: what is malformed ends here.
//!
//! Spec: <https://spec.matrix.org/v1.19/appendices/#canonical-json>,
//! <https://spec.matrix.org/v1.19/client-server-api/#size-limits>

use std::fmt;

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, OwnedEventId, UserId,
    events::TimelineEventType,
    room_version_rules::{EventIdFormatVersion, EventsReferenceFormatVersion, RoomVersionRules},
    signatures::reference_hash,
    state_res::check_pdu_format,
};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::MAX_PDU_BYTES;
use crate::pdu::{MAX_DEPTH, Pdu, PduError};

/// Why text from outside is not an event.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not canonical JSON, or an object in it has the same key twice.
    #[error("not canonical JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// It violates the format of the room version or the size limits.
    #[error("{0}")]
    Format(String),
    /// Its fields do not make an event.
    #[error(transparent)]
    Pdu(#[from] PduError),
}

/// Reads a JSON object strictly: integers within ±(2^53 - 1) only, no key twice at any depth.
pub fn read_json(text: &str) -> Result<CanonicalJsonObject, ReadError> {
    serde_json::from_str::<UniqueKeys>(text)?;
    Ok(serde_json::from_str(text)?)
}

/// Reads one event of a room of the given version from outside: strict JSON, without `unsigned` and the other fields
/// that its server does not sign, its form checked, its id worked out. Signatures are not checked here.
pub fn read_pdu(text: &str, rules: &RoomVersionRules) -> Result<(Pdu, CanonicalJsonObject), ReadError> {
    check_pdu(read_json(text)?, rules)
}

/// The same, of an event that is read already.
pub(super) fn check_pdu(
    mut object: CanonicalJsonObject,
    rules: &RoomVersionRules,
) -> Result<(Pdu, CanonicalJsonObject), ReadError> {
    object.remove("unsigned");
    if !rules.event_format.require_event_id {
        object.remove("event_id");
    }
    let json = serde_json::to_string(&object)?;
    check_format(&object, json.len(), rules)?;
    let event_id = event_id(&object, rules)?;
    let pdu = Pdu::from_json(event_id, json.into(), false)?;
    check_no_nul(&pdu)?;
    check_legacy_room_id(&pdu, rules)?;
    Ok((pdu, object))
}

/// The id of an event: its reference hash, or, in versions 1 and 2, what it says.
/// <https://spec.matrix.org/v1.19/server-server-api/#calculating-the-reference-hash-for-an-event>
pub fn event_id(object: &CanonicalJsonObject, rules: &RoomVersionRules) -> Result<OwnedEventId, ReadError> {
    let id = match (&rules.event_id_format, object.get("event_id")) {
        (EventIdFormatVersion::V1, Some(CanonicalJsonValue::String(id))) => id.clone(),
        (EventIdFormatVersion::V1, _) => return Err(ReadError::Format("no `event_id` field".to_owned())),
        _ => format!("${}", reference_hash(object, rules).map_err(|error| ReadError::Format(error.to_string()))?),
    };
    EventId::parse(&id).map_err(|error| ReadError::Format(format!("event id {id:?}: {error}")))
}

/// Checks the form of an event that has so many bytes.
fn check_format(object: &CanonicalJsonObject, size: usize, rules: &RoomVersionRules) -> Result<(), ReadError> {
    if size > MAX_PDU_BYTES {
        return Err(ReadError::Format(format!("event of {size} bytes; at most {MAX_PDU_BYTES} are allowed")));
    }
    // The library refuses what is exactly as large as allowed. It does not look at the signatures, so the few events
    // of that size are shown to it without them.
    if size == MAX_PDU_BYTES {
        let mut smaller = object.clone();
        smaller.remove("signatures");
        check_pdu_format(&smaller, &rules.event_format).map_err(ReadError::Format)?;
    } else {
        check_pdu_format(object, &rules.event_format).map_err(ReadError::Format)?;
    }
    match object.get("depth") {
        Some(CanonicalJsonValue::Integer(depth)) if i64::from(*depth) as u64 <= MAX_DEPTH => {}
        _ => return Err(ReadError::Format(format!("`depth` is not an integer between 0 and {MAX_DEPTH}"))),
    }
    check_unchecked(object, rules).map_err(|what| ReadError::Format(what.to_owned()))
}

/// What the library leaves unchecked.
fn check_unchecked(object: &CanonicalJsonObject, rules: &RoomVersionRules) -> Result<(), &'static str> {
    if !matches!(object.get("content"), Some(CanonicalJsonValue::Object(_))) {
        return Err("`content` is not an object");
    }
    let paired = rules.events_reference_format == EventsReferenceFormatVersion::V1;
    let fits = |reference: &CanonicalJsonValue| paired == matches!(reference, CanonicalJsonValue::Array(_));
    for field in ["prev_events", "auth_events"] {
        if !matches!(object.get(field), Some(CanonicalJsonValue::Array(references)) if references.iter().all(fits)) {
            return Err("`prev_events` or `auth_events` are not of the form of the room version");
        }
    }
    let is_create = matches!(object.get("type"), Some(CanonicalJsonValue::String(name)) if name == "m.room.create");
    if is_create && !rules.event_format.require_room_create_room_id && object.contains_key("room_id") {
        return Err("create event with a `room_id`");
    }
    Ok(())
}

/// Content is kept as escaped JSON, but these stand in columns of the database, and those cannot hold a NUL.
fn check_no_nul(pdu: &Pdu) -> Result<(), ReadError> {
    let ids = pdu.prev_events.iter().chain(&pdu.auth_events).chain(&pdu.redacts).chain([&pdu.event_id]);
    let mut texts = ids.map(|id| id.as_str()).chain(pdu.state_key.as_deref());
    if texts.any(|text| text.contains('\0')) || pdu.event_type.to_string().contains('\0') {
        return Err(ReadError::Format("a NUL character in the type, the state key or an event id".to_owned()));
    }
    Ok(())
}

/// Until version 11, the domain of the room id is the creator's.
fn check_legacy_room_id(pdu: &Pdu, rules: &RoomVersionRules) -> Result<(), ReadError> {
    let names_creator = rules.authorization.room_create_event_id_as_room_id
        || pdu.event_type != TimelineEventType::RoomCreate
        || pdu.room_id.server_name() == Some(UserId::server_name(&pdu.sender));
    if names_creator {
        return Ok(());
    }
    Err(ReadError::Format("create event from a server that the room id does not name".to_owned()))
}

/// Any JSON value none of whose objects has a key twice. Checks, and keeps nothing.
struct UniqueKeys;

impl<'de> Deserialize<'de> for UniqueKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueKeysVisitor)
    }
}

struct UniqueKeysVisitor;

impl<'de> Visitor<'de> for UniqueKeysVisitor {
    type Value = UniqueKeys;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<UniqueKeys, E> {
        Err(E::custom(format!("{value} is not an integer within the limits of canonical JSON")))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }

    fn visit_unit<E: Error>(self) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<UniqueKeys, A::Error> {
        while items.next_element::<UniqueKeys>()?.is_some() {}
        Ok(UniqueKeys)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<UniqueKeys, A::Error> {
        let mut keys = std::collections::HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            entries.next_value::<UniqueKeys>()?;
            if let Some(key) = keys.replace(key) {
                return Err(A::Error::custom(format!("key {key:?} stands twice in an object")));
            }
        }
        Ok(UniqueKeys)
    }
}

#[cfg(test)]
mod tests;
