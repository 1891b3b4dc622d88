//! One event as servers exchange it: the canonical JSON, and the fields that decisions read.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#pdus>

use std::sync::Arc;

use ruma::{
    CanonicalJsonObject, EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId,
    events::{StateEventType, TimelineEventType},
    state_res,
};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::event::{shown::Shown, sticky};

/// The `depth` that no event exceeds: the largest integer of canonical JSON, 2^53 - 1.
pub const MAX_DEPTH: u64 = (1 << 53) - 1;

/// An event that has been checked for form, with its id worked out. Cheap to share, never changed.
#[derive(Clone, Debug)]
pub struct Pdu {
    /// The event id: the reference hash from room version 3 on, a field of the event before.
    pub event_id: OwnedEventId,
    /// The room. For a create event of version 12 and later it is worked out from the event id.
    pub room_id: OwnedRoomId,
    /// Who sent it.
    pub sender: OwnedUserId,
    /// The event type.
    pub event_type: TimelineEventType,
    /// The state key, if this is a state event.
    pub state_key: Option<String>,
    /// The content, as canonical JSON.
    pub content: Box<RawValue>,
    /// When the sending server says it was made.
    pub origin_server_ts: MilliSecondsSinceUnixEpoch,
    /// One more than the greatest depth among `prev_events`, at most [`MAX_DEPTH`].
    pub depth: u64,
    /// The events before this one.
    pub prev_events: Vec<OwnedEventId>,
    /// The events that authorise this one.
    pub auth_events: Vec<OwnedEventId>,
    /// The top-level `redacts` of versions 1-10. See [`Pdu::redaction_target`].
    pub redacts: Option<OwnedEventId>,
    /// For how long the event says that it is sticky, in milliseconds. See [`crate::event::sticky`].
    pub sticky_duration_ms: Option<u32>,
    /// Whether the event was rejected, which state resolution and authorisation must know.
    pub rejected: bool,
    /// The whole event as canonical JSON: with hashes and signatures, without `unsigned`.
    pub json: Box<str>,
    /// See [`Pdu::shown_fields`].
    pub(crate) shown: Shown,
}

/// Why a JSON object is not an event.
#[derive(Debug, thiserror::Error)]
pub enum PduError {
    /// A field is missing or has the wrong type.
    #[error("malformed event: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The event violates the format of its room version or the size limits.
    #[error("event violates its format: {0}")]
    Format(String),
    /// The room id of a create event cannot be worked out.
    #[error("event has no room id")]
    NoRoomId,
}

#[derive(Deserialize)]
struct Fields {
    room_id: Option<OwnedRoomId>,
    sender: OwnedUserId,
    #[serde(rename = "type")]
    event_type: TimelineEventType,
    state_key: Option<String>,
    content: Box<RawValue>,
    origin_server_ts: MilliSecondsSinceUnixEpoch,
    depth: u64,
    prev_events: Vec<EventReference>,
    auth_events: Vec<EventReference>,
    // Other servers look at it in redactions only, so anything may stand there.
    redacts: Option<serde_json::Value>,
    msc4354_sticky: Option<serde_json::Value>,
}

/// An id, or, in versions 1 and 2, a pair of an id and hashes.
#[derive(Deserialize)]
#[serde(untagged)]
enum EventReference {
    Id(OwnedEventId),
    Pair(OwnedEventId, serde::de::IgnoredAny),
}

impl EventReference {
    fn into_id(self) -> OwnedEventId {
        match self {
            Self::Id(id) | Self::Pair(id, _) => id,
        }
    }
}

impl Pdu {
    /// Reads an event from its canonical form. `event_id` must be the one that belongs to it.
    pub fn from_canonical(event_id: OwnedEventId, object: &CanonicalJsonObject) -> Result<Self, PduError> {
        let json = serde_json::to_string(object)?;
        Self::from_json(event_id, json.into(), false)
    }

    /// Reads an event from the canonical JSON that storage keeps.
    pub fn from_json(event_id: OwnedEventId, json: Box<str>, rejected: bool) -> Result<Self, PduError> {
        let fields: Fields = serde_json::from_str(&json)?;
        let room_id = match fields.room_id {
            Some(room_id) => room_id,
            None => RoomId::new_v2(event_id.localpart()).map_err(|_| PduError::NoRoomId)?,
        };
        Ok(Self {
            event_id,
            room_id,
            sender: fields.sender,
            event_type: fields.event_type,
            state_key: fields.state_key,
            content: fields.content,
            origin_server_ts: fields.origin_server_ts,
            depth: fields.depth,
            prev_events: fields.prev_events.into_iter().map(EventReference::into_id).collect(),
            auth_events: fields.auth_events.into_iter().map(EventReference::into_id).collect(),
            redacts: fields.redacts.and_then(|redacts| EventId::parse(redacts.as_str()?).ok()),
            sticky_duration_ms: fields.msc4354_sticky.as_ref().and_then(sticky::read),
            rejected,
            json,
            shown: Shown::default(),
        })
    }

    /// The key under which this event stands in the room state, if it is a state event.
    pub fn state_key_pair(&self) -> Option<(StateEventType, String)> {
        let state_key = self.state_key.clone()?;
        Some((StateEventType::from(self.event_type.to_string()), state_key))
    }

    /// Whether this is the state event of the given type with an empty state key.
    pub fn is_state(&self, event_type: &TimelineEventType) -> bool {
        self.event_type == *event_type && self.state_key.as_deref() == Some("")
    }

    /// One string field of the content.
    pub fn content_str(&self, field: &str) -> Option<String> {
        self.content_as::<serde_json::Map<String, serde_json::Value>>()?.get(field)?.as_str().map(ToOwned::to_owned)
    }

    /// The content in another shape; `None` when it does not fit.
    pub fn content_as<'a, T: Deserialize<'a>>(&'a self) -> Option<T> {
        serde_json::from_str(self.content.get()).ok()
    }

    /// The `membership` of a member event, and the user it is about.
    pub fn membership(&self) -> Option<(OwnedUserId, ruma::events::room::member::MembershipState)> {
        if self.event_type != TimelineEventType::RoomMember {
            return None;
        }
        let user_id = UserId::parse(self.state_key.as_deref()?).ok()?;
        Some((user_id, self.content_str("membership")?.into()))
    }

    /// The event that this one redacts: `content.redacts` from room version 11 on, `redacts` before.
    pub fn redaction_target(&self, content_field_redacts: bool) -> Option<OwnedEventId> {
        if self.event_type != TimelineEventType::RoomRedaction {
            return None;
        }
        if content_field_redacts {
            // An id with a NUL names no event that could be stored, or looked up.
            self.content_str("redacts").filter(|id| !id.contains('\0')).and_then(|id| id.try_into().ok())
        } else {
            self.redacts.clone()
        }
    }

    /// Whether the room is named after this event: it is the create event of a room of version 12 or later.
    pub fn names_its_room(&self) -> bool {
        self.event_type == TimelineEventType::RoomCreate && self.room_id.strip_sigil() == self.event_id.localpart()
    }

    /// The same event, rejected or not.
    #[must_use]
    pub fn judged(&self, rejected: bool) -> Self {
        Self { rejected, ..self.clone() }
    }

    /// The same event, marked as rejected.
    #[must_use]
    pub fn into_rejected(mut self) -> Self {
        self.rejected = true;
        self
    }

    /// The event as an owned JSON value, to be sent to other servers.
    pub fn to_raw_json(&self) -> Box<RawValue> {
        RawValue::from_string(self.json.clone().into()).unwrap_or_else(|_| to_raw_value(&()).unwrap_or_default())
    }
}

impl state_res::Event for Pdu {
    type Id = OwnedEventId;

    fn event_id(&self) -> &Self::Id {
        &self.event_id
    }

    fn room_id(&self) -> Option<&RoomId> {
        // The rules ask whether the event itself names a room, which such a create event must not.
        (!self.names_its_room()).then_some(&self.room_id)
    }

    fn sender(&self) -> &UserId {
        &self.sender
    }

    fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.origin_server_ts
    }

    fn event_type(&self) -> &TimelineEventType {
        &self.event_type
    }

    fn content(&self) -> &RawValue {
        &self.content
    }

    fn state_key(&self) -> Option<&str> {
        self.state_key.as_deref()
    }

    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &Self::Id> + '_> {
        Box::new(self.prev_events.iter())
    }

    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &Self::Id> + '_> {
        Box::new(self.auth_events.iter())
    }

    fn redacts(&self) -> Option<&Self::Id> {
        self.redacts.as_ref()
    }

    fn rejected(&self) -> bool {
        self.rejected
    }
}

/// Events by id, as decisions look them up.
pub type Events = std::collections::HashMap<OwnedEventId, Arc<Pdu>>;
