//! `POST /_matrix/client/v3/rooms/{roomId}/kick`

use ruma::api::client::membership::kick_user::v3::{Request, Response};

use crate::{Arguments, Door, Result};

pub(crate) async fn kick(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let Arguments { request, requester, .. } = asked;
    door.engine.kick(&requester, &request.room_id, &request.user_id, request.reason).await?;
    Ok(Response::new())
}
