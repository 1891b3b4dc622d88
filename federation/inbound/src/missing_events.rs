//! What lies between events that a server has and events that it has heard of.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1get_missing_eventsroomid>

use axum::extract::State;
use ruma::api::federation::event::get_missing_events::v1;

use crate::{Door, error::DoorError, reply::Reply, signed::Federation};

pub(crate) async fn post(
    State(door): State<Door>,
    Federation { origin, body }: Federation<v1::Request>,
) -> Result<Reply<v1::Response>, DoorError> {
    let v1::Request { room_id, limit, min_depth, earliest_events, latest_events, .. } = body;
    let limit = u64::from(limit) as usize;
    let events = door
        .engine
        .federation_missing_events(&origin, &room_id, &earliest_events, &latest_events, limit, min_depth.into())
        .await;
    Ok(Reply(v1::Response::new(events?)))
}
