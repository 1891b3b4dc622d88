//! Reading the state of a room: as it is now for those who are in it, as it was when they left for those who were.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidstate>

use ruma::{OwnedEventId, RoomId, events::StateEventType};

use super::RoomView;
use crate::{ClientEvent, Engine, EngineError, Requester, Result};

impl Engine {
    /// The whole state.
    pub async fn state(&self, requester: &Requester, room_id: &RoomId) -> Result<Vec<ClientEvent>> {
        self.reading_view(requester, room_id).await?;
        self.whole_room(room_id).await?;
        let view = self.reading_view(requester, room_id).await?;
        let event_ids = self.readable_state(&view, view.reads_until(), |_, _| true).await?;
        let events = self.storage().readable_events(&event_ids).await?;
        self.client_state(&events, true).await
    }

    /// One event of the state.
    pub async fn state_event(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        event_type: &StateEventType,
        state_key: &str,
    ) -> Result<ClientEvent> {
        let mut view = self.reading_view(requester, room_id).await?;
        let is_member = *event_type == StateEventType::RoomMember;
        if is_member && view.room.is_partial() && view.room.state_value(event_type, state_key).is_none() {
            self.whole_room(room_id).await?;
            view = self.reading_view(requester, room_id).await?;
        }
        let event_id = match view.reads_until() {
            None => view.room.state_event_id(event_type, state_key).map(ToOwned::to_owned),
            Some(order) => {
                let entry = self.storage().state_entry_at(room_id, event_type, state_key, order).await?;
                entry.and_then(|entry| entry.event_id)
            }
        };
        let event = match event_id {
            Some(event_id) => self.stored_event(&event_id).await?,
            None => None,
        };
        let event = event.ok_or_else(|| EngineError::not_found("The room has no such state"))?;
        let served = self.client_state(&[event], true).await?;
        served.into_iter().next().ok_or_else(|| EngineError::internal("one event was served as none"))
    }

    /// The view of somebody who wants to read a room: not for rooms that they have forgotten.
    pub(crate) async fn reading_view(&self, requester: &Requester, room_id: &RoomId) -> Result<RoomView> {
        let view = self.view(room_id, &requester.user_id).await?;
        if view.reads_until().is_some() {
            let record = self.storage().membership(&requester.user_id, room_id).await?;
            if record.is_some_and(|record| record.forgotten) {
                return Err(EngineError::forbidden("You have forgotten this room"));
            }
        }
        Ok(view)
    }

    /// The ids of the wanted events of a room's state, as it is now or as of an order.
    pub(crate) async fn readable_state(
        &self,
        view: &RoomView,
        until: Option<i64>,
        wanted: impl Fn(&StateEventType, &str) -> bool + Sync,
    ) -> Result<Vec<OwnedEventId>> {
        let mut event_ids: Vec<OwnedEventId> = match until {
            None => {
                let entries = view.room.state().filter(|((event_type, key), _)| wanted(event_type, key));
                entries.map(|(_, value)| value.event_id.clone()).collect()
            }
            Some(order) => {
                let values = self.state_values(&view.room.room_id, order, &|key| wanted(&key.0, &key.1)).await?;
                values.into_values().collect()
            }
        };
        event_ids.sort_unstable();
        Ok(event_ids)
    }
}

impl RoomView {
    /// The last order at which the user may read the state; `None` for no limit.
    pub(crate) fn reads_until(&self) -> Option<i64> {
        if self.is_joined() || self.is_world_readable() { None } else { Some(self.left_at().unwrap_or(i64::MIN)) }
    }
}
