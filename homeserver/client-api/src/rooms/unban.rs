//! `POST /_matrix/client/v3/rooms/{roomId}/unban`

use ruma::api::client::membership::unban_user::v3::{Request, Response};

use crate::{Arguments, Door, Result};

pub(crate) async fn unban(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let Arguments { request, requester, .. } = asked;
    door.engine.unban(&requester, &request.room_id, &request.user_id, request.reason).await?;
    Ok(Response::new())
}
