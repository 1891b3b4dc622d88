//! The history of a room, backwards.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1backfillroomid>

use axum::extract::State;
use ruma::api::federation::backfill::get_backfill::v1;

use crate::{Door, error::DoorError, reply::Reply, signed::Federation};

pub(crate) async fn get(
    State(door): State<Door>,
    Federation { origin, body }: Federation<v1::Request>,
) -> Result<Reply<v1::Response>, DoorError> {
    let engine = &door.engine;
    let limit = u64::from(body.limit) as usize;
    let pdus = engine.federation_backfill(&origin, &body.room_id, &body.v, limit).await;
    let pdus = pdus?;
    Ok(Reply(v1::Response::new(engine.server_name().to_owned(), engine.world().clock.now(), pdus)))
}
