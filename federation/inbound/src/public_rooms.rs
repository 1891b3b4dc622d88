//! The directory of public rooms.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#public-room-directory>

use axum::extract::State;
use engine::{PublicRoomsPage, PublicRoomsQuery};
use ruma::{
    UInt,
    api::federation::directory::{get_public_rooms, get_public_rooms_filtered},
};

use crate::{Door, error::DoorError, reply::Reply, signed::Federation};

pub(crate) async fn get(
    State(door): State<Door>,
    Federation { body, .. }: Federation<get_public_rooms::v1::Request>,
) -> Result<Reply<get_public_rooms::v1::Response>, DoorError> {
    let query = PublicRoomsQuery {
        limit: body.limit.map(u64::from),
        since: body.since,
        network: body.room_network,
        ..PublicRoomsQuery::default()
    };
    let PublicRoomsPage { chunk, next_batch, prev_batch, total } = door.engine.federation_public_rooms(query).await?;
    let mut response = get_public_rooms::v1::Response::new();
    response.chunk = chunk;
    response.next_batch = next_batch;
    response.prev_batch = prev_batch;
    response.total_room_count_estimate = total.map(UInt::new_saturating);
    Ok(Reply(response))
}

pub(crate) async fn post(
    State(door): State<Door>,
    Federation { body, .. }: Federation<get_public_rooms_filtered::v1::Request>,
) -> Result<Reply<get_public_rooms_filtered::v1::Response>, DoorError> {
    let query = PublicRoomsQuery {
        server: None,
        limit: body.limit.map(u64::from),
        since: body.since,
        search_term: body.filter.generic_search_term,
        room_types: body.filter.room_types,
        network: body.room_network,
    };
    let PublicRoomsPage { chunk, next_batch, prev_batch, total } = door.engine.federation_public_rooms(query).await?;
    let mut response = get_public_rooms_filtered::v1::Response::new();
    response.chunk = chunk;
    response.next_batch = next_batch;
    response.prev_batch = prev_batch;
    response.total_room_count_estimate = total.map(UInt::new_saturating);
    Ok(Reply(response))
}
