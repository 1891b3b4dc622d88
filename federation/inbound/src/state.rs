//! The state of a room before an event.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1stateroomid>

use axum::extract::State;
use ruma::api::federation::event::{get_room_state, get_room_state_ids};

use crate::{Door, error::DoorError, reply::Reply, signed::Federation};

pub(crate) async fn get(
    State(door): State<Door>,
    Federation { origin, body }: Federation<get_room_state::v1::Request>,
) -> Result<Reply<get_room_state::v1::Response>, DoorError> {
    let reply = door.engine.federation_state(&origin, &body.room_id, &body.event_id).await;
    let reply = reply.map_err(DoorError::hidden)?;
    Ok(Reply(get_room_state::v1::Response::new(reply.auth_chain, reply.pdus)))
}

pub(crate) async fn get_ids(
    State(door): State<Door>,
    Federation { origin, body }: Federation<get_room_state_ids::v1::Request>,
) -> Result<Reply<get_room_state_ids::v1::Response>, DoorError> {
    let reply = door.engine.federation_state_ids(&origin, &body.room_id, &body.event_id).await;
    let reply = reply.map_err(DoorError::hidden)?;
    Ok(Reply(get_room_state_ids::v1::Response::new(reply.auth_chain_ids, reply.pdu_ids)))
}
