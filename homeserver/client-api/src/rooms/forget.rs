//! `POST /_matrix/client/v3/rooms/{roomId}/forget`

use ruma::api::client::membership::forget_room::v3::{Request, Response};

use crate::{Arguments, Door, Result};

pub(crate) async fn forget(door: Door, asked: Arguments<Request>) -> Result<Response> {
    door.engine.forget(&asked.requester, &asked.request.room_id).await?;
    Ok(Response::new())
}
