//! The state of a room before an event.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1stateroomid>

use axum::{extract::State, response::Response};
use ruma::api::federation::event::{get_room_state, get_room_state_ids};

use crate::{
    Door,
    error::DoorError,
    reply::{self, Reply},
    signed::Federation,
};

pub(crate) async fn get(
    State(door): State<Door>,
    Federation { origin, body }: Federation<get_room_state::v1::Request>,
) -> Result<Response, DoorError> {
    let found = door.engine.federation_state(&origin, &body.room_id, &body.event_id).await;
    let found = found?;
    let size = found.auth_chain.len() + found.pdus.len();
    let answer = Reply(get_room_state::v1::Response::new(found.auth_chain, found.pdus));
    Ok(reply::large(&door, size, answer).await)
}

pub(crate) async fn get_ids(
    State(door): State<Door>,
    Federation { origin, body }: Federation<get_room_state_ids::v1::Request>,
) -> Result<Response, DoorError> {
    let found = door.engine.federation_state_ids(&origin, &body.room_id, &body.event_id).await;
    let found = found?;
    let size = found.auth_chain_ids.len() + found.pdu_ids.len();
    let answer = Reply(get_room_state_ids::v1::Response::new(found.auth_chain_ids, found.pdu_ids));
    Ok(reply::large(&door, size, answer).await)
}
