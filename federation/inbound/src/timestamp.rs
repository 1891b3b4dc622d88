//! The event that is closest to a time.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1timestamp_to_eventroomid>

use axum::extract::State;
use ruma::api::{
    Direction,
    federation::event::get_event_by_timestamp::v1::{Request, Response},
};

use crate::{Door, error::DoorError, reply::Reply, signed::Federation};

pub(crate) async fn get(
    State(door): State<Door>,
    Federation { origin, body }: Federation<Request>,
) -> Result<Reply<Response>, DoorError> {
    let (ts, forward) = (body.ts.0.into(), body.dir == Direction::Forward);
    let found = door.engine.federation_timestamp_to_event(&origin, &body.room_id, ts, forward).await;
    let (event_id, origin_server_ts) = found.map_err(DoorError::hidden)?;
    Ok(Reply(Response::new(event_id, origin_server_ts)))
}
