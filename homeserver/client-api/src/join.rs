//! `POST /_matrix/client/v3/join/{roomIdOrAlias}`

use ruma::api::client::membership::join_room_by_id_or_alias::v3::{Request, Response};

use crate::{Arguments, Door, Result, body};

pub(crate) async fn join(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let more = body::canonical(&asked.body)?;
    let Arguments { request, requester, .. } = asked;
    let room = &request.room_id_or_alias;
    let room_id = door.engine.join_by_alias_or_id(&requester, room, &request.via, request.reason, more).await?;
    Ok(Response::new(room_id))
}
