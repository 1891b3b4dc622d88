//! `POST /_matrix/client/v3/rooms/{roomId}/upgrade`

use ruma::api::client::room::upgrade_room::v3::{Request, Response};

use crate::{Arguments, Door, Result};

pub(crate) async fn upgrade(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let Arguments { request, requester, .. } = asked;
    let Request { room_id, new_version, additional_creators, .. } = request;
    let replacement = door.engine.upgrade_room(&requester, &room_id, new_version, additional_creators).await?;
    Ok(Response::new(replacement))
}
