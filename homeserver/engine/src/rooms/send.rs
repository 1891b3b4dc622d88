//! Sending events into a room of ours.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#sending-events-to-a-room>

use std::sync::Arc;

use rules::{
    Change, Pdu, RoomSnapshot,
    event::read_json,
    room::send::{self, Circumstances, Intent, SendError},
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, RoomId,
    events::{StateEventType, TimelineEventType},
    room_version_rules::EventsReferenceFormatVersion,
};
use serde_json::value::RawValue;
use storage::CommitError;

use super::{
    Decision,
    chain::{has_chain, may_follow},
    changes::MAX_ATTEMPTS,
};
use crate::{Engine, EngineError, Requester, Result};

/// The longest transaction id, in bytes.
const MAX_TRANSACTION_ID_BYTES: usize = 255;

/// How often an event is decided as one that follows others before it is decided alone: when one fails, all that follow
/// it do, and are few to fail a second time.
const FOLLOWING_ATTEMPTS_MAX: usize = 3;

/// An event that a client sends.
#[derive(Clone, Debug)]
pub struct SendCommand {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The event type.
    pub event_type: TimelineEventType,
    /// The content: a JSON object.
    pub content: Box<RawValue>,
    /// The client's transaction id: the same again, from the same device, for the same room and type, gives the same
    /// event.
    pub transaction_id: Option<String>,
}

/// What else can be wished of an event.
#[derive(Clone, Copy, Debug, Default)]
pub struct SendOptions {
    /// For how long it is to be sticky, in milliseconds, if it is.
    pub sticky_duration_ms: Option<u32>,
    /// What time it is to bear, if not that of its making. For application services only; not for redactions.
    pub origin_server_ts: Option<MilliSecondsSinceUnixEpoch>,
}

impl From<Option<u32>> for SendOptions {
    /// For how long it is to be sticky.
    fn from(sticky_duration_ms: Option<u32>) -> Self {
        Self { sticky_duration_ms, origin_server_ts: None }
    }
}

/// The request that an event comes from, for it to be done once.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) requester: Requester,
    pub(crate) scope: String,
    pub(crate) transaction_id: String,
}

impl Engine {
    /// Sends a message event and returns its id once it is durable.
    pub async fn send(&self, requester: &Requester, command: SendCommand) -> Result<OwnedEventId> {
        self.send_sticky(requester, command, None).await
    }

    /// The same, for an event that may be sticky, for so many milliseconds, or of which more is wished.
    pub async fn send_sticky(
        &self,
        requester: &Requester,
        command: SendCommand,
        options: impl Into<SendOptions> + Send,
    ) -> Result<OwnedEventId> {
        let SendOptions { sticky_duration_ms, origin_server_ts } = options.into();
        let content = object(&command.content)?;
        if command.event_type == TimelineEventType::RoomRedaction
            && let Some(target) = redaction_target(&content)
        {
            let reason = text(&content, "reason");
            return self.redact(requester, &command.room_id, &target, reason, command.transaction_id).await;
        }
        let scope = format!("send/{}/{}", command.room_id, command.event_type);
        let request = request(requester, scope, command.transaction_id)?;
        let intent = Intent {
            sender: requester.user_id.clone(),
            event_type: command.event_type,
            state_key: None,
            content,
            redacts: None,
            sticky_duration_ms,
            origin_server_ts,
        };
        let event_id = self.send_intent(&command.room_id, intent, request).await?;
        // Whoever waits is to be woken by the event, not by the presence of its sender.
        self.note_activity(requester);
        Ok(event_id)
    }

    /// Sets one entry of the room state and returns the event that did. Setting what is set already changes nothing.
    pub async fn set_state(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        event_type: StateEventType,
        state_key: &str,
        content: &RawValue,
    ) -> Result<OwnedEventId> {
        self.set_sticky_state(requester, room_id, event_type, state_key, content, None).await
    }

    /// The same, by an event that may be sticky, and for how long it is, in milliseconds. What is set already is set anew
    /// by one that is.
    pub async fn set_sticky_state(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        event_type: StateEventType,
        state_key: &str,
        content: &RawValue,
        options: impl Into<SendOptions> + Send,
    ) -> Result<OwnedEventId> {
        let SendOptions { sticky_duration_ms, origin_server_ts } = options.into();
        let content = object(content)?;
        if event_type == StateEventType::RoomMember {
            return self.set_member_state(requester, room_id, state_key, content, origin_server_ts).await;
        }
        if event_type == StateEventType::RoomCreate {
            return Err(EngineError::invalid_param("The room has been created already"));
        }
        if event_type == StateEventType::RoomCanonicalAlias {
            self.check_canonical_alias(requester, room_id, &content).await?;
        }
        let room = self.known_room(room_id).await?;
        Self::require_joined(&room, &requester.user_id)?;
        if event_type == StateEventType::RoomPowerLevels {
            self.check_no_creator(&room, &content).await?;
        }
        if let Some(existing) = self.state_pdu(&room, &event_type, state_key).await?
            && existing.sender == requester.user_id
            && existing.content_as::<CanonicalJsonObject>().as_ref() == Some(&content)
            && sticky_duration_ms.is_none()
        {
            return Ok(existing.event_id.clone());
        }
        let intent = Intent {
            sender: requester.user_id.clone(),
            event_type: event_type.to_string().into(),
            state_key: Some(state_key.to_owned()),
            content,
            redacts: None,
            sticky_duration_ms,
            origin_server_ts,
        };
        let event_id = self.send_intent(room_id, intent, None).await?;
        if event_type == StateEventType::RoomGuestAccess {
            self.make_guests_leave(room_id).await?;
        }
        Ok(event_id)
    }

    /// Rooms whose creators stand above all power levels must not name them there: a mistake of the asker's, not a
    /// lack of rights.
    async fn check_no_creator(&self, room: &RoomSnapshot, content: &CanonicalJsonObject) -> Result<()> {
        let Some(CanonicalJsonValue::Object(users)) = content.get("users") else { return Ok(()) };
        match self.power_levels(room).await?.creator_named_in(users) {
            Some(user_id) => Err(EngineError::InvalidParam(format!("{user_id} created the room and needs no level"))),
            None => Ok(()),
        }
    }

    /// Makes an intent an event of the room. A request that was done before gives the same event again, also when it
    /// would be refused by now.
    pub(crate) async fn send_intent(
        &self,
        room_id: &RoomId,
        intent: Intent,
        request: Option<Request>,
    ) -> Result<OwnedEventId> {
        match self.send_once(room_id, intent, request.clone()).await {
            Err(refused) => self.done_before(request.as_ref()).await?.ok_or(refused),
            sent => sent,
        }
    }

    /// Decides, commits, and decides anew when the room changed in between. The commit finds out whether the request was
    /// done before.
    async fn send_once(&self, room_id: &RoomId, intent: Intent, request: Option<Request>) -> Result<OwnedEventId> {
        if may_follow(&intent) && self.room(room_id).await?.is_some_and(|room| has_chain(&room)) {
            for _ in 0..FOLLOWING_ATTEMPTS_MAX {
                if let Some(event_id) = self.send_following(room_id, &intent, request.as_ref()).await? {
                    return Ok(event_id);
                }
            }
        }
        self.send_alone(room_id, intent, request).await
    }

    /// The same, while nobody else changes the room.
    async fn send_alone(&self, room_id: &RoomId, intent: Intent, request: Option<Request>) -> Result<OwnedEventId> {
        let _lock = self.inner.rooms.lock(room_id).await;
        for _ in 0..MAX_ATTEMPTS {
            let room = self.changeable(self.room(room_id).await?)?;
            self.check_relation(room_id, &intent).await?;
            let (pdu, mut decision) = self.decide_send(&room, intent.clone()).await?;
            decision.changes.extend(request.as_ref().map(|request| request.done_by(&pdu, self.world().clock.now_ms())));
            match self.commit_decision(&room, decision).await {
                Ok(_) => {
                    self.remember_request(request, &pdu.event_id);
                    return Ok(pdu.event_id.clone());
                }
                Err(CommitError::Conflict) => {}
                Err(CommitError::AlreadyDone(event_id)) => return Ok(event_id),
                Err(CommitError::Storage(error)) => return Err(error.into()),
            }
        }
        Err(EngineError::Busy)
    }

    /// A room, if new events of it can be made here.
    pub(super) fn changeable(&self, room: Option<Arc<RoomSnapshot>>) -> Result<Arc<RoomSnapshot>> {
        let room = room.filter(|room| self.is_ours_to_change(room));
        room.ok_or_else(|| EngineError::forbidden("You are not in this room"))
    }

    /// The event that an intent makes of the room as it is, and what it changes.
    pub(crate) async fn decide_send(&self, room: &RoomSnapshot, intent: Intent) -> Result<(Arc<Pdu>, Decision)> {
        let pdu = self.make_event(room, intent).await?;
        let pdu = self.with_recommendation(room, pdu).await?;
        let step = send::accept(room, &pdu, &rules::room::EventsById::new());
        let mut changes = step.changes;
        changes.extend(self.redaction_change(room, &pdu).await?);
        let after = step.room.ok_or_else(|| EngineError::internal("an accepted event leads to no room"))?;
        Ok((pdu, Decision { changes, room: after }))
    }

    /// The event that an intent makes of the room as it is.
    pub(crate) async fn make_event(&self, room: &RoomSnapshot, intent: Intent) -> Result<Arc<Pdu>> {
        let keys = send::keys_for(room, &intent).map_err(|reason| EngineError::forbidden(reason.to_string()))?;
        let mut events = self.events_for_keys(room, &keys).await?;
        if matches!(room.rules.events_reference_format, EventsReferenceFormatVersion::V1) {
            let ids: Vec<_> = room.forward_extremities.iter().map(|(event_id, _)| event_id.clone()).collect();
            events.extend(self.events_by_id(&ids).await?);
        }
        let circumstances = Circumstances {
            key: self.federation().key(),
            now: self.world().clock.now(),
            id_seed: self.world().random_string(18),
            events: &events,
        };
        Ok(send::make(room, intent, &circumstances)?)
    }

    async fn done_before(&self, request: Option<&Request>) -> Result<Option<OwnedEventId>> {
        let Some(request) = request else { return Ok(None) };
        let Requester { user_id, device_id, .. } = &request.requester;
        Ok(self.storage().transaction(user_id, device_id, &request.scope, &request.transaction_id).await?)
    }

    pub(super) fn remember_request(&self, request: Option<Request>, event_id: &EventId) {
        let Some(Request { requester, transaction_id, .. }) = request else { return };
        self.inner.rooms.recent_sends.remember(requester, event_id.to_owned(), transaction_id);
    }
}

impl Request {
    pub(super) fn done_by(&self, pdu: &Pdu, now_ms: u64) -> Change {
        Change::TransactionId {
            user_id: self.requester.user_id.clone(),
            device_id: self.requester.device_id.clone(),
            scope: self.scope.clone(),
            transaction_id: self.transaction_id.clone(),
            event_id: pdu.event_id.clone(),
            ts: now_ms,
        }
    }
}

impl From<SendError> for EngineError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::NotAllowed(reason) => Self::Forbidden(reason.to_string()),
            SendError::Build(error) => error.into(),
        }
    }
}

/// The request of a client that gave a transaction id.
pub(crate) fn request(requester: &Requester, scope: String, transaction_id: Option<String>) -> Result<Option<Request>> {
    let Some(transaction_id) = transaction_id else { return Ok(None) };
    if transaction_id.len() > MAX_TRANSACTION_ID_BYTES {
        let text = format!("The transaction id is longer than {MAX_TRANSACTION_ID_BYTES} bytes");
        return Err(EngineError::InvalidParam(text));
    }
    Ok(Some(Request { requester: requester.clone(), scope, transaction_id }))
}

/// The content of an event as a client gave it.
pub(crate) fn object(content: &RawValue) -> Result<CanonicalJsonObject> {
    read_json(content.get()).map_err(|error| EngineError::BadJson(error.to_string()))
}

pub(crate) fn text(content: &CanonicalJsonObject, field: &str) -> Option<String> {
    content.get(field).and_then(|value| value.as_str()).map(ToOwned::to_owned)
}

fn redaction_target(content: &CanonicalJsonObject) -> Option<OwnedEventId> {
    text(content, "redacts").and_then(|id| id.try_into().ok())
}
