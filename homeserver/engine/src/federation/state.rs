//! The state of rooms of ours, and auth chains, for servers that are in them.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#retrieving-events>

use std::sync::Arc;

use rules::RoomSnapshot;
use ruma::{EventId, OwnedEventId, RoomId, ServerName};
use serde_json::value::RawValue;
use storage::StoredEvent;

use crate::{Engine, EngineError, Result};

/// A state with its events.
#[derive(Clone, Debug)]
pub struct StateReply {
    /// The state before the event.
    pub pdus: Vec<Box<RawValue>>,
    /// Its ancestors by `auth_events`.
    pub auth_chain: Vec<Box<RawValue>>,
}

/// A state by its ids.
#[derive(Clone, Debug)]
pub struct StateIdsReply {
    /// The state before the event.
    pub pdu_ids: Vec<OwnedEventId>,
    /// Its ancestors by `auth_events`.
    pub auth_chain_ids: Vec<OwnedEventId>,
}

impl Engine {
    /// The state before an event.
    pub async fn federation_state(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<StateReply> {
        let ids = self.federation_state_ids(origin, room_id, event_id).await?;
        let pdus = self.raw_events(&ids.pdu_ids).await?;
        Ok(StateReply { pdus, auth_chain: self.raw_events(&ids.auth_chain_ids).await? })
    }

    /// The ids of the state before an event.
    pub async fn federation_state_ids(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<StateIdsReply> {
        self.event_shared_with(origin, room_id, event_id).await?;
        self.whole_room(room_id).await?;
        let (room, event) = self.event_shared_with(origin, room_id, event_id).await?;
        let state = self.stored_state_before(&room, &event).await?;
        // Where all of ours have left, nobody asks for the members any more: a part would be taken for the whole.
        let state = state.filter(|_| !room.is_partial());
        let state = state.ok_or_else(|| EngineError::not_found("The state before that event is not known here"))?;
        let mut pdu_ids: Vec<OwnedEventId> = state.into_values().collect();
        pdu_ids.sort();
        let mut auth_chain_ids = self.storage().auth_chain(&pdu_ids).await?;
        auth_chain_ids.sort();
        Ok(StateIdsReply { pdu_ids, auth_chain_ids })
    }

    /// The ancestors of an event by `auth_events`.
    pub async fn federation_event_auth(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<Vec<Box<RawValue>>> {
        let (_, event) = self.event_shared_with(origin, room_id, event_id).await?;
        let chain = self.storage().auth_chain(&event.pdu.auth_events).await?;
        self.raw_events(&chain).await
    }

    /// An event of a room that both we and the asking server are in.
    async fn event_shared_with(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<(Arc<RoomSnapshot>, Arc<StoredEvent>)> {
        let room = self.room_shared_with(origin, room_id).await?;
        let event = self.stored_event(event_id).await?.filter(|event| event.pdu.room_id == room_id);
        let event = event.ok_or_else(|| EngineError::not_found("There is no such event in the room"))?;
        Ok((room, event))
    }
}
