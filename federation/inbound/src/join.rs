//! Letting users of other servers into rooms.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>

use axum::{extract::State, response::Response};
use engine::SendJoinReply;
use ruma::{
    EventId, OwnedServerName, RoomId, ServerName,
    api::federation::membership::{create_join_event, prepare_join_event},
};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::{
    Door,
    error::DoorError,
    reply::{self, Json, Reply},
    request::PutEvent,
    signed::Federation,
};

pub(crate) async fn make(
    State(door): State<Door>,
    Federation { origin, body }: Federation<prepare_join_event::v1::Request>,
) -> Result<Reply<prepare_join_event::v1::Response>, DoorError> {
    let template = door.engine.federation_make_join(&origin, &body.room_id, &body.user_id, &body.ver).await?;
    let event = to_raw_value(&template.event).map_err(|error| DoorError::Internal(error.to_string()))?;
    let mut response = prepare_join_event::v1::Response::new(event);
    response.room_version = Some(template.room_version);
    Ok(Reply(response))
}

/// The answer to `send_join`: ruma's type, and the one field that it lacks.
#[derive(Serialize)]
pub(crate) struct RoomState {
    /// Who answers. Was required before version 1.2.
    origin: OwnedServerName,
    #[serde(flatten)]
    room_state: create_join_event::v2::RoomState,
}

impl RoomState {
    fn event_count(&self) -> usize {
        self.room_state.state.len() + self.room_state.auth_chain.len()
    }
}

pub(crate) async fn send_v1(
    State(door): State<Door>,
    Federation { origin, body }: Federation<PutEvent>,
) -> Result<Response, DoorError> {
    let state = send(&door, &origin, &body.room_id, (&body.event_id, &body.event), false).await?;
    Ok(reply::large(&door, state.event_count(), Json((200, state))).await)
}

pub(crate) async fn send_v2(
    State(door): State<Door>,
    Federation { origin, body }: Federation<create_join_event::v2::Request>,
) -> Result<Response, DoorError> {
    let state = send(&door, &origin, &body.room_id, (&body.event_id, &body.pdu), body.omit_members).await?;
    Ok(reply::large(&door, state.event_count(), Json(state)).await)
}

async fn send(
    door: &Door,
    origin: &ServerName,
    room_id: &RoomId,
    (event_id, event): (&EventId, &RawValue),
    omit_members: bool,
) -> Result<RoomState, DoorError> {
    let reply = door.engine.federation_send_join(origin, room_id, event_id, event, omit_members).await;
    Ok(room_state(door.engine.server_name(), reply.map_err(DoorError::refused)?))
}

fn room_state(origin: &ServerName, reply: SendJoinReply) -> RoomState {
    let mut room_state = create_join_event::v2::RoomState::new();
    room_state.event = Some(reply.event);
    room_state.state = reply.state;
    room_state.auth_chain = reply.auth_chain;
    room_state.members_omitted = reply.members_omitted;
    room_state.servers_in_room = Some(reply.servers_in_room.iter().map(ToString::to_string).collect());
    RoomState { origin: origin.to_owned(), room_state }
}
