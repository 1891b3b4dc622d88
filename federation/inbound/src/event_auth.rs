//! What authorises an event.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1event_authroomideventid>

use axum::extract::State;
use ruma::api::federation::authorization::get_event_authorization::v1;

use crate::{Door, error::DoorError, reply::Reply, signed::Federation};

pub(crate) async fn get(
    State(door): State<Door>,
    Federation { origin, body }: Federation<v1::Request>,
) -> Result<Reply<v1::Response>, DoorError> {
    let auth_chain = door.engine.federation_event_auth(&origin, &body.room_id, &body.event_id).await;
    Ok(Reply(v1::Response::new(auth_chain?)))
}
