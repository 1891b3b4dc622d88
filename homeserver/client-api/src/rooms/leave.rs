//! `POST /_matrix/client/v3/rooms/{roomId}/leave`

use ruma::api::client::membership::leave_room::v3::{Request, Response};

use crate::{Arguments, Door, Result};

pub(crate) async fn leave(door: Door, asked: Arguments<Request>) -> Result<Response> {
    door.engine.leave(&asked.requester, &asked.request.room_id, asked.request.reason).await?;
    Ok(Response::new())
}
