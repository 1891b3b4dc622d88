//! `GET /_matrix/client/v1/rooms/{roomId}/timestamp_to_event`

use ruma::api::{
    Direction,
    client::room::get_event_by_timestamp::v1::{Request, Response},
};

use crate::{Arguments, Door, Result};

pub(crate) async fn timestamp_to_event(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let Arguments { request, requester, .. } = asked;
    let (ts, forward) = (request.ts.0.into(), request.dir == Direction::Forward);
    let (event_id, ts) = door.engine.timestamp_to_event(&requester, &request.room_id, ts, forward).await?;
    Ok(Response::new(event_id, ts))
}
