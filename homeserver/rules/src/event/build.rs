//! Building our own events: the one place where this server hashes and signs one.
//!
//! It takes a typed draft, never JSON from outside, and refuses a sender of another server.

use std::collections::BTreeMap;

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId,
    events::TimelineEventType,
    room_version_rules::{EventIdFormatVersion, EventsReferenceFormatVersion, RoomVersionRules},
    signatures::{JsonError, hash_and_sign_event, sign_event},
};

use super::{MAX_PDU_BYTES, ReadError, ServerKey, read::check_pdu, sticky};
use crate::pdu::Pdu;

/// An event that one of our users wants to be made.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The room; `None` for a create event of version 12 and later, whose id is the room's.
    pub room_id: Option<OwnedRoomId>,
    /// A user of this server.
    pub sender: OwnedUserId,
    /// The event type.
    pub event_type: TimelineEventType,
    /// The state key, for a state event.
    pub state_key: Option<String>,
    /// The content.
    pub content: CanonicalJsonObject,
    /// The event to redact, where that is a field of the event itself (until version 10).
    pub redacts: Option<OwnedEventId>,
    /// The events before.
    pub prev_events: Vec<OwnedEventId>,
    /// The events that authorise it.
    pub auth_events: Vec<OwnedEventId>,
    /// One more than the greatest depth among `prev_events`.
    pub depth: u64,
    /// The time.
    pub origin_server_ts: MilliSecondsSinceUnixEpoch,
    /// For versions 1 and 2 only, where ids are not hashes.
    pub legacy: Option<LegacyParts>,
}

/// What an event of versions 1 and 2 needs besides.
#[derive(Clone, Debug)]
pub struct LegacyParts {
    /// A random string for the event id.
    pub id_seed: String,
    /// The reference hashes of the events that it refers to.
    pub reference_hashes: BTreeMap<OwnedEventId, String>,
}

/// How many objects and lists may stand within each other in the content of our own events. Parsers commonly give up
/// at 128, and others wrap what we send in a few more.
pub const MAX_NESTING: usize = 100;

/// Why an event was not built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The sender belongs to another server.
    #[error("{0} is not a user of this server")]
    ForeignSender(OwnedUserId),
    /// The event would be larger than events may be, or not of the form that the room version wants.
    #[error(transparent)]
    Unfit(#[from] ReadError),
    /// The event could not be hashed or signed.
    #[error("the event cannot be signed: {0}")]
    Sign(#[from] JsonError),
}

/// Hashes and signs a draft, and checks the result as if it had come from outside.
pub fn build(draft: Draft, rules: &RoomVersionRules, key: &ServerKey) -> Result<Pdu, BuildError> {
    build_sticky(draft, None, rules, key)
}

/// The same, for an event that may be sticky, and for how long it is.
pub fn build_sticky(
    draft: Draft,
    sticky_duration_ms: Option<u32>,
    rules: &RoomVersionRules,
    key: &ServerKey,
) -> Result<Pdu, BuildError> {
    if draft.sender.server_name() != key.server_name() {
        return Err(BuildError::ForeignSender(draft.sender));
    }
    if draft.content.values().any(|value| nests_deeper(value, MAX_NESTING - 1)) {
        return Err(ReadError::Format(format!("content nested more than {MAX_NESTING} levels deep")).into());
    }
    let mut object = draft.into_object(rules);
    object.extend(sticky_duration_ms.map(|duration_ms| (sticky::FIELD.to_owned(), sticky::field(duration_ms))));
    hash_and_sign_event(key.server_name().as_str(), key, &mut object, &rules.redaction).map_err(unsigned)?;
    Ok(check_pdu(object, rules)?.0)
}

/// The library looks at the size before it signs.
fn unsigned(error: JsonError) -> BuildError {
    match error {
        JsonError::PduTooLarge => {
            ReadError::Format(format!("event too large; at most {MAX_PDU_BYTES} bytes are allowed")).into()
        }
        error => error.into(),
    }
}

/// Adds our signature to an event of another server that was checked before: an invite for one of our users, or a
/// restricted join that one of our users authorises.
pub fn countersign(
    object: &mut CanonicalJsonObject,
    rules: &RoomVersionRules,
    key: &ServerKey,
) -> Result<(), BuildError> {
    Ok(sign_event(key.server_name().as_str(), key, object, &rules.redaction)?)
}

fn nests_deeper(value: &CanonicalJsonValue, levels: usize) -> bool {
    let mut items: Box<dyn Iterator<Item = &CanonicalJsonValue>> = match value {
        CanonicalJsonValue::Array(list) => Box::new(list.iter()),
        CanonicalJsonValue::Object(object) => Box::new(object.values()),
        _ => return false,
    };
    levels == 0 || items.any(|item| nests_deeper(item, levels - 1))
}

impl Draft {
    /// The event without hashes and signatures.
    pub fn into_object(self, rules: &RoomVersionRules) -> CanonicalJsonObject {
        use CanonicalJsonValue::{Integer, Object, String};

        let prev_events = self.references(&self.prev_events, rules);
        let auth_events = self.references(&self.auth_events, rules);
        let mut object = CanonicalJsonObject::from([
            ("type".to_owned(), String(self.event_type.to_string())),
            ("sender".to_owned(), String(self.sender.to_string())),
            ("content".to_owned(), Object(self.content)),
            ("prev_events".to_owned(), prev_events),
            ("auth_events".to_owned(), auth_events),
            ("depth".to_owned(), Integer(ruma::UInt::new_saturating(self.depth).into())),
            ("origin_server_ts".to_owned(), Integer(self.origin_server_ts.0.into())),
        ]);
        let optional = [
            ("room_id", self.room_id.map(|id| id.to_string())),
            ("state_key", self.state_key),
            ("redacts", self.redacts.map(|id| id.to_string())),
        ];
        object.extend(optional.into_iter().filter_map(|(key, value)| Some((key.to_owned(), String(value?)))));
        if let (EventIdFormatVersion::V1, Some(legacy)) = (&rules.event_id_format, self.legacy) {
            let event_id = format!("${}:{}", legacy.id_seed, self.sender.server_name());
            object.insert("event_id".to_owned(), String(event_id));
        }
        object
    }

    fn references(&self, ids: &[OwnedEventId], rules: &RoomVersionRules) -> CanonicalJsonValue {
        let reference = |id: &OwnedEventId| {
            let name = CanonicalJsonValue::String(id.to_string());
            match rules.events_reference_format {
                EventsReferenceFormatVersion::V1 => {
                    let hash = self.legacy.as_ref().and_then(|legacy| legacy.reference_hashes.get(id));
                    let hashes = hash.map(|hash| ("sha256".to_owned(), CanonicalJsonValue::String(hash.clone())));
                    CanonicalJsonValue::Array(vec![name, CanonicalJsonValue::Object(hashes.into_iter().collect())])
                }
                _ => name,
            }
        };
        CanonicalJsonValue::Array(ids.iter().map(reference).collect())
    }
}

#[cfg(test)]
mod tests;
