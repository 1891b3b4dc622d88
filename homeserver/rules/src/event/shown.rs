//! What all clients are shown alike of an event.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#room-event-format>

use std::sync::OnceLock;

use ruma::{EventId, MilliSecondsSinceUnixEpoch, UserId, events::TimelineEventType};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::Pdu;

#[derive(Serialize)]
struct Fields<'a> {
    content: &'a RawValue,
    event_id: &'a EventId,
    origin_server_ts: MilliSecondsSinceUnixEpoch,
    #[serde(skip_serializing_if = "Option::is_none")]
    redacts: Option<&'a EventId>,
    sender: &'a UserId,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_key: Option<&'a str>,
    #[serde(rename = "type")]
    event_type: &'a TimelineEventType,
    #[serde(rename = "msc4354_sticky", skip_serializing_if = "Option::is_none")]
    sticky: Option<Sticky>,
}

/// That the event is delivered to whoever is in the room for so long, under the name that its proposal gives it.
#[derive(Serialize)]
struct Sticky {
    duration_ms: u32,
}

/// The fields as they were written. A copy of an event is written anew: it may be about to become another one.
#[derive(Debug, Default)]
pub(crate) struct Shown(OnceLock<Box<str>>);

impl Clone for Shown {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Pdu {
    /// The fields of the event that all clients are shown alike, as JSON without the braces around them: all but
    /// `room_id`, which is left out where the room is around, and `unsigned`, which depends on who asks, and when.
    ///
    /// They are written once: what is said in a room is read by all who are in it.
    pub fn shown_fields(&self) -> Result<&str, serde_json::Error> {
        if let Some(shown) = self.shown.0.get() {
            return Ok(shown);
        }
        let redacts = self.redacts.clone().or_else(|| self.redaction_target(true));
        let json = serde_json::to_string(&Fields {
            content: &self.content,
            event_id: &self.event_id,
            origin_server_ts: self.origin_server_ts,
            redacts: redacts.as_deref(),
            sender: &self.sender,
            state_key: self.state_key.as_deref(),
            event_type: &self.event_type,
            sticky: self.sticky_duration_ms.map(|duration_ms| Sticky { duration_ms }),
        })?;
        let bare = json.strip_prefix('{').and_then(|json| json.strip_suffix('}')).unwrap_or_default();
        Ok(self.shown.0.get_or_init(|| bare.into()))
    }
}
