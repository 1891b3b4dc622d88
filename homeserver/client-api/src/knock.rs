//! `POST /_matrix/client/v3/knock/{roomIdOrAlias}`

use ruma::api::client::knock::knock_room::v3::{Request, Response};

use crate::{Arguments, Door, Result};

pub(crate) async fn knock(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let Arguments { request, requester, .. } = asked;
    let room = &request.room_id_or_alias;
    let room_id = door.engine.knock_by_alias_or_id(&requester, room, &request.via, request.reason).await?;
    Ok(Response::new(room_id))
}
