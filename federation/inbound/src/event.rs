//! One event.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1eventeventid>

use axum::extract::State;
use ruma::api::federation::event::get_event::v1;

use crate::{Door, error::DoorError, reply::Reply, signed::Federation};

pub(crate) async fn get(
    State(door): State<Door>,
    Federation { origin, body }: Federation<v1::Request>,
) -> Result<Reply<v1::Response>, DoorError> {
    let engine = &door.engine;
    let pdu = engine.federation_event(&origin, &body.event_id).await.map_err(DoorError::hidden)?;
    Ok(Reply(v1::Response::new(engine.server_name().to_owned(), engine.world().clock.now(), pdu)))
}
