//! `GET /_matrix/client/v3/rooms/{roomId}/event/{eventId}`

use ruma::api::client::room::get_room_event::v3::{Request, Response};

use crate::{Arguments, Door, Result};

pub(crate) async fn event(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let event = door.engine.event(&asked.requester, &asked.request.room_id, &asked.request.event_id).await?;
    Ok(Response::new(event.into_raw()))
}
