//! Letting users of other servers out of rooms, and letting them refuse invites.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#leaving-rooms-rejecting-invites>

use axum::extract::State;
use ruma::api::federation::membership::{create_leave_event, prepare_leave_event};
use serde_json::{Value, json, value::to_raw_value};

use crate::{
    Door,
    error::DoorError,
    reply::{Json, Reply},
    request::PutEvent,
    signed::Federation,
};

pub(crate) async fn make(
    State(door): State<Door>,
    Federation { origin, body }: Federation<prepare_leave_event::v1::Request>,
) -> Result<Reply<prepare_leave_event::v1::Response>, DoorError> {
    let template = door.engine.federation_make_leave(&origin, &body.room_id, &body.user_id).await;
    let template = template.map_err(DoorError::refused)?;
    let event = to_raw_value(&template.event).map_err(|error| DoorError::Internal(error.to_string()))?;
    Ok(Reply(prepare_leave_event::v1::Response::new(Some(template.room_version), event)))
}

pub(crate) async fn send_v1(
    State(door): State<Door>,
    Federation { origin, body }: Federation<PutEvent>,
) -> Result<Json<(u16, Value)>, DoorError> {
    let sent = door.engine.federation_send_leave(&origin, &body.room_id, &body.event_id, &body.event).await;
    sent.map_err(DoorError::refused)?;
    Ok(Json((200, json!({}))))
}

pub(crate) async fn send_v2(
    State(door): State<Door>,
    Federation { origin, body }: Federation<create_leave_event::v2::Request>,
) -> Result<Reply<create_leave_event::v2::Response>, DoorError> {
    let sent = door.engine.federation_send_leave(&origin, &body.room_id, &body.event_id, &body.pdu).await;
    sent.map_err(DoorError::refused)?;
    Ok(Reply(create_leave_event::v2::Response::new()))
}
