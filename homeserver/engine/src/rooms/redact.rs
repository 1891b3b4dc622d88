//! Redacting events.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#redactions>

use rules::room::{redact, send::Intent};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, EventId, OwnedEventId, RoomId, events::TimelineEventType};

use super::send::request;
use crate::{Engine, EngineError, Requester, Result};

impl Engine {
    /// Refuses to redact what somebody else sent.
    pub async fn require_own_event(&self, requester: &Requester, room_id: &RoomId, event_id: &EventId) -> Result<()> {
        match self.stored_event(event_id).await? {
            Some(event) if event.pdu.sender == requester.user_id && event.pdu.room_id == *room_id => Ok(()),
            _ => Err(EngineError::UserSuspended),
        }
    }

    /// Redacts an event: one's own, or any with the power to, even one that has not come here yet.
    pub async fn redact(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        event_id: &EventId,
        reason: Option<String>,
        transaction_id: Option<String>,
    ) -> Result<OwnedEventId> {
        let room = self.known_room(room_id).await?;
        Self::require_joined(&room, &requester.user_id)?;
        let target = self.stored_event(event_id).await?;
        if target.as_ref().is_some_and(|target| target.pdu.room_id != room_id) {
            return Err(EngineError::not_found("There is no such event in the room"));
        }
        let levels = self.power_levels(&room).await?;
        if !redact::may_ask(&requester.user_id, target.as_ref().map(|target| &*target.pdu), &levels) {
            return Err(match target {
                Some(_) => EngineError::forbidden("You may not redact events of others in this room"),
                None => EngineError::not_found("There is no such event in the room"),
            });
        }
        let mut content = CanonicalJsonObject::new();
        content.extend(reason.map(|reason| ("reason".to_owned(), CanonicalJsonValue::String(reason))));
        if room.rules.redaction.content_field_redacts {
            content.insert("redacts".to_owned(), CanonicalJsonValue::String(event_id.to_string()));
        }
        let intent = Intent {
            sender: requester.user_id.clone(),
            event_type: TimelineEventType::RoomRedaction,
            state_key: None,
            content,
            redacts: Some(event_id.to_owned()),
            sticky_duration_ms: None,
            origin_server_ts: None,
        };
        let request = request(requester, format!("redact/{room_id}/{event_id}"), transaction_id)?;
        self.send_intent(room_id, intent, request).await
    }
}
