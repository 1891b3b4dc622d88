//! Users of other servers knocking on rooms.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#knocking-upon-a-room>

use axum::extract::State;
use ruma::api::federation::membership::prepare_knock_event;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::{
    Door,
    error::DoorError,
    reply::{Json, Reply},
    request::PutEvent,
    signed::Federation,
};

pub(crate) async fn make(
    State(door): State<Door>,
    Federation { origin, body }: Federation<prepare_knock_event::v1::Request>,
) -> Result<Reply<prepare_knock_event::v1::Response>, DoorError> {
    let template = door.engine.federation_make_knock(&origin, &body.room_id, &body.user_id, &body.ver).await?;
    let event = to_raw_value(&template.event).map_err(|error| DoorError::Internal(error.to_string()))?;
    Ok(Reply(prepare_knock_event::v1::Response::new(template.room_version, event)))
}

/// What the user is shown of the room: whole events.
#[derive(Serialize)]
pub(crate) struct Shown {
    knock_room_state: Vec<Box<RawValue>>,
}

pub(crate) async fn send(
    State(door): State<Door>,
    Federation { origin, body }: Federation<PutEvent>,
) -> Result<Json<Shown>, DoorError> {
    let shown = door.engine.federation_send_knock(&origin, &body.room_id, &body.event_id, &body.event).await;
    Ok(Json(Shown { knock_room_state: shown.map_err(DoorError::refused)? }))
}
