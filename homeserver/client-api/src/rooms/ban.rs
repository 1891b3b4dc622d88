//! `POST /_matrix/client/v3/rooms/{roomId}/ban`

use ruma::api::client::membership::ban_user::v3::{Request, Response};

use crate::{Arguments, Door, Result};

pub(crate) async fn ban(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let Arguments { request, requester, .. } = asked;
    door.engine.ban(&requester, &request.room_id, &request.user_id, request.reason).await?;
    Ok(Response::new())
}
