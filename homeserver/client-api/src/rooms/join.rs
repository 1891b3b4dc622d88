//! `POST /_matrix/client/v3/rooms/{roomId}/join`

use ruma::api::client::membership::join_room_by_id::v3::{Request, Response};

use crate::{Arguments, Door, Result};

pub(crate) async fn join(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let Arguments { request, requester, .. } = asked;
    door.engine.join(&requester, &request.room_id, &[], request.reason).await?;
    Ok(Response::new(request.room_id))
}
