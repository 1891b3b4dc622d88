//! `GET /_matrix/client/v1/mutual_rooms`

use ruma::{
    UInt,
    api::client::membership::get_mutual_rooms::{unstable, v1},
};

use crate::{Arguments, Door, Result};

pub(crate) async fn mutual_rooms(door: Door, asked: Arguments<v1::Request>) -> Result<v1::Response> {
    let Arguments { request, requester, .. } = asked;
    let rooms = door.engine.mutual_rooms(&requester, &request.user_id, request.from.as_deref()).await?;
    let mut response = v1::Response::new(UInt::new_saturating(rooms.count as u64), rooms.joined);
    response.next_batch = rooms.next_batch;
    Ok(response)
}

/// As clients ask that were made when this was a proposal (MSC2666).
pub(crate) async fn proposed(door: Door, asked: Arguments<unstable::Request>) -> Result<unstable::Response> {
    let Arguments { request, requester, .. } = asked;
    let rooms = door.engine.mutual_rooms(&requester, &request.user_id, request.from.as_deref()).await?;
    let mut response = unstable::Response::new(rooms.joined);
    response.next_batch = rooms.next_batch;
    Ok(response)
}
