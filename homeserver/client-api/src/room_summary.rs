//! `GET /_matrix/client/v1/room_summary/{roomIdOrAlias}`

use ruma::api::client::room::get_summary::v1::{Request, Response};

use crate::{Arguments, Door, Result};

pub(crate) async fn room_summary(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let Arguments { request, requester, .. } = asked;
    let (summary, membership) = door.engine.room_summary(&requester, &request.room_id_or_alias, &request.via).await?;
    let mut response = Response::new(summary);
    response.membership = Some(membership);
    Ok(response)
}
