//! Events in the format that clients get.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#room-event-format>

use std::sync::Arc;

use rules::Pdu;
use ruma::{
    UserId,
    events::{TimelineEventType, room::member::MembershipState},
    serde::Raw,
};
use serde::{Serialize, Serializer, ser::SerializeStruct};
use serde_json::value::{RawValue, to_raw_value};
use storage::StoredEvent;

use crate::{
    Engine, EngineError, Requester, Result,
    rooms::{Bundling, DeviceSends, SeenEvent},
};

/// How many bytes most events take beside the fields that all are shown: the room, and what is unsigned.
const UNSIGNED_BYTES: usize = 224;

/// After how many events of a state others have their turn.
const WRITTEN_AT_ONCE: usize = 500;

/// One event as ready-made JSON.
#[derive(Clone, Debug)]
pub struct ClientEvent(Box<RawValue>);

impl ClientEvent {
    /// As the type that a response wants.
    pub fn into_raw<T>(self) -> Raw<T> {
        Raw::from_json(self.0)
    }

    /// As it is.
    pub fn raw(&self) -> &RawValue {
        &self.0
    }

    /// The JSON.
    pub fn get(&self) -> &str {
        self.0.get()
    }

    /// The JSON, to be put into other JSON.
    pub(crate) fn into_json(self) -> Box<RawValue> {
        self.0
    }

    /// An event that is ready-made already.
    pub(crate) fn from_json(json: Box<RawValue>) -> Self {
        Self(json)
    }
}

/// JSON that was just written. Reading all of it again, to be sure of its form, would take twice as long as to write it: so
/// `serde_json` is given it as it gives it to itself, which a test holds it to.
struct Written<'a>(&'a str);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const TOKEN: &str = "$serde_json::private::RawValue";
        let mut written = serializer.serialize_struct(TOKEN, 1)?;
        written.serialize_field(TOKEN, self.0)?;
        written.end()
    }
}

#[derive(Default, Serialize)]
struct Unsigned {
    #[serde(skip_serializing_if = "Option::is_none")]
    age: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    membership: Option<MembershipState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_content: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces_state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_sender: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redacted_because: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction_id: Option<String>,
    #[serde(rename = "msc4354_sticky_duration_ttl_ms", skip_serializing_if = "Option::is_none")]
    sticky_left_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    invite_room_state: Option<Box<RawValue>>,
    #[serde(rename = "m.relations", skip_serializing_if = "Option::is_none")]
    relations: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct StrippedFields<'a> {
    content: &'a RawValue,
    sender: &'a UserId,
    state_key: &'a str,
    #[serde(rename = "type")]
    event_type: &'a TimelineEventType,
}

/// A state event stripped to the four fields that invited users are shown.
/// <https://spec.matrix.org/v1.19/client-server-api/#stripped-state>
pub(crate) fn stripped(pdu: &Pdu) -> Option<Box<RawValue>> {
    let state_key = pdu.state_key.as_deref()?;
    let fields = StrippedFields { content: &pdu.content, sender: &pdu.sender, state_key, event_type: &pdu.event_type };
    to_raw_value(&fields).ok()
}

impl Engine {
    /// Events of a room's timeline for a device, with what relates to them. `with_room_id` is off inside of `/sync`,
    /// where the room is around.
    pub(crate) async fn client_events(
        &self,
        requester: &Requester,
        events: &[SeenEvent],
        with_room_id: bool,
    ) -> Result<Vec<ClientEvent>> {
        self.bundled_events(Bundling { requester, with_room_id, with_threads: true }, events).await
    }

    /// The same, with the bundles that are asked for.
    pub(crate) async fn bundled_events(
        &self,
        bundling: Bundling<'_>,
        events: &[SeenEvent],
    ) -> Result<Vec<ClientEvent>> {
        let mut bundles = self.bundles(bundling, events).await?;
        let sends = self.inner.rooms.recent_sends.of(bundling.requester);
        let mut served = Vec::with_capacity(events.len());
        for seen in &*self.without_erased(bundling.requester, events).await? {
            let mut unsigned = self.seen_unsigned(sends.as_ref(), seen).await?;
            unsigned.relations = bundles.remove(&seen.event.pdu.event_id);
            served.push(Self::render(&seen.event.pdu, &unsigned, bundling.with_room_id)?);
        }
        Ok(served)
    }

    /// The same, without what relates to them.
    pub(crate) async fn plain_events(
        &self,
        requester: &Requester,
        events: &[SeenEvent],
        with_room_id: bool,
    ) -> Result<Vec<ClientEvent>> {
        let sends = self.inner.rooms.recent_sends.of(requester);
        let mut served = Vec::with_capacity(events.len());
        for seen in &*self.without_erased(requester, events).await? {
            let unsigned = self.seen_unsigned(sends.as_ref(), seen).await?;
            served.push(Self::render(&seen.event.pdu, &unsigned, with_room_id)?);
        }
        Ok(served)
    }

    async fn seen_unsigned(&self, sends: Option<&DeviceSends>, seen: &SeenEvent) -> Result<Unsigned> {
        let mut unsigned = self.unsigned(&seen.event).await?;
        self.add_replaced(&seen.event, &mut unsigned).await?;
        unsigned.membership = Some(seen.membership.clone());
        unsigned.transaction_id = sends.and_then(|sends| sends.transaction_id(&seen.event.pdu.event_id));
        Ok(unsigned)
    }

    /// State events, without what depends on who asks, nor what they replaced: that would cost a query for each member.
    pub(crate) async fn client_state(
        &self,
        events: &[Arc<StoredEvent>],
        with_room_id: bool,
    ) -> Result<Vec<ClientEvent>> {
        let mut served = Vec::with_capacity(events.len());
        for (number, event) in events.iter().enumerate() {
            if number > 0 && number % WRITTEN_AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
            let unsigned = self.unsigned(event).await?;
            served.push(Self::render(&event.pdu, &unsigned, with_room_id)?);
        }
        Ok(served)
    }

    /// An event for an application service, with what an invited user is shown of a room that we are not in.
    pub(crate) async fn service_event(
        &self,
        event: &StoredEvent,
        invite_room_state: Option<Box<RawValue>>,
    ) -> Result<ClientEvent> {
        let mut unsigned = self.unsigned(event).await?;
        self.add_replaced(event, &mut unsigned).await?;
        unsigned.invite_room_state = invite_room_state;
        Self::render(&event.pdu, &unsigned, true)
    }

    async fn unsigned(&self, event: &StoredEvent) -> Result<Unsigned> {
        let sent_ms = u64::from(event.pdu.origin_server_ts.0) as i64;
        let now_ms = self.world().clock.now_ms();
        let mut unsigned = Unsigned { age: Some(now_ms as i64 - sent_ms), ..Unsigned::default() };
        unsigned.sticky_left_ms = self.sticky_left_ms(&event.pdu, now_ms);
        if let Some(redacted_by) = &event.redacted_by
            && let Some(redaction) = self.stored_event(redacted_by).await?
        {
            let because = Self::render(&redaction.pdu, &Unsigned::default(), true)?;
            unsigned.redacted_because = Some(because.0);
        }
        Ok(unsigned)
    }

    /// For how long an event is still sticky. Not as its sender's clock has it: what is dated ahead counts from when it
    /// came.
    fn sticky_left_ms(&self, pdu: &Pdu, now_ms: u64) -> Option<u64> {
        pdu.sticky_duration_ms?;
        let until_ms = self.storage().sticky_until(&pdu.room_id, &pdu.event_id)?;
        Some(until_ms.saturating_sub(now_ms)).filter(|left_ms| *left_ms > 0)
    }

    /// What a state event replaced.
    async fn add_replaced(&self, event: &StoredEvent, unsigned: &mut Unsigned) -> Result<()> {
        if let (Some((event_type, state_key)), Some(order)) = (event.pdu.state_key_pair(), event.order) {
            let before = self.storage().state_entry_at(&event.pdu.room_id, &event_type, &state_key, order - 1).await?;
            if let Some(replaced) = before.and_then(|entry| entry.event_id)
                && replaced != event.pdu.event_id
                && let Some(replaced) = self.stored_event(&replaced).await?
            {
                unsigned.prev_content = Some(replaced.pdu.content.clone());
                unsigned.prev_sender = Some(replaced.pdu.sender.to_string());
                unsigned.replaces_state = Some(replaced.pdu.event_id.to_string());
            }
        }
        Ok(())
    }

    fn render(pdu: &Pdu, unsigned: &Unsigned, with_room_id: bool) -> Result<ClientEvent> {
        let fields = pdu.shown_fields().map_err(EngineError::internal)?;
        let mut json = Vec::with_capacity(fields.len() + UNSIGNED_BYTES);
        json.push(b'{');
        json.extend_from_slice(fields.as_bytes());
        if with_room_id {
            json.extend_from_slice(br#","room_id":"#);
            serde_json::to_writer(&mut json, &pdu.room_id).map_err(EngineError::internal)?;
        }
        json.extend_from_slice(br#","unsigned":"#);
        serde_json::to_writer(&mut json, unsigned).map_err(EngineError::internal)?;
        json.push(b'}');
        let json = String::from_utf8(json).map_err(EngineError::internal)?;
        to_raw_value(&Written(&json)).map(ClientEvent).map_err(EngineError::internal)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::to_raw_value;

    use super::Written;

    #[test]
    fn what_was_written_stays_as_it_is() {
        let json = r#"{"body":"\u00e9 \"x\"","n":[1,2.50,null]}"#;
        assert_eq!(to_raw_value(&Written(json)).unwrap().get(), json);
    }
}
