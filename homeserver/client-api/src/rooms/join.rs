//! `POST /_matrix/client/v3/rooms/{roomId}/join`

use ruma::api::client::membership::join_room_by_id::v3::{Request, Response};

use crate::{Arguments, Door, Result, body};

pub(crate) async fn join(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let more = body::canonical(&asked.body)?;
    let Arguments { request, requester, .. } = asked;
    door.engine.join_with(&requester, &request.room_id, &[], request.reason, more).await?;
    Ok(Response::new(request.room_id))
}
