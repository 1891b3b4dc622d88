//! `/_matrix/client/v3/publicRooms`

use engine::{PublicRoomsPage, PublicRoomsQuery};
use ruma::{
    UInt,
    api::client::directory::{
        get_public_rooms::v3 as get_public_rooms, get_public_rooms_filtered::v3 as get_public_rooms_filtered,
    },
};

use crate::{Arguments, Door, Result};

/// Other than the specification says, the directory is for our users only.
pub(crate) async fn get(door: Door, asked: Arguments<get_public_rooms::Request>) -> Result<get_public_rooms::Response> {
    let request = asked.request;
    let query = PublicRoomsQuery {
        server: request.server,
        limit: request.limit.map(u64::from),
        since: request.since,
        ..PublicRoomsQuery::default()
    };
    let PublicRoomsPage { chunk, next_batch, prev_batch, total } = door.engine.public_rooms(query).await?;
    let mut response = get_public_rooms::Response::new(chunk);
    response.next_batch = next_batch;
    response.prev_batch = prev_batch;
    response.total_room_count_estimate = total.map(UInt::new_saturating);
    Ok(response)
}

pub(crate) async fn post(
    door: Door,
    asked: Arguments<get_public_rooms_filtered::Request>,
) -> Result<get_public_rooms_filtered::Response> {
    let request = asked.request;
    let query = PublicRoomsQuery {
        server: request.server,
        limit: request.limit.map(u64::from),
        since: request.since,
        search_term: request.filter.generic_search_term,
        room_types: request.filter.room_types,
        network: request.room_network,
    };
    let PublicRoomsPage { chunk, next_batch, prev_batch, total } = door.engine.public_rooms(query).await?;
    let mut response = get_public_rooms_filtered::Response::new();
    response.chunk = chunk;
    response.next_batch = next_batch;
    response.prev_batch = prev_batch;
    response.total_room_count_estimate = total.map(UInt::new_saturating);
    Ok(response)
}
