//! `GET /_matrix/client/v1/room_summary/{roomIdOrAlias}`

use engine::Requester;
use ruma::api::client::room::get_summary::v1::{Request, Response};

use crate::{Arguments, Door, Result};

pub(crate) async fn room_summary(door: Door, asked: Arguments<Request, Option<Requester>>) -> Result<Response> {
    let Arguments { request, requester, .. } = asked;
    let Some(requester) = requester else {
        return Ok(Response::new(door.engine.room_summary_for_anybody(&request.room_id_or_alias).await?));
    };
    let (summary, membership) = door.engine.room_summary(&requester, &request.room_id_or_alias, &request.via).await?;
    let mut response = Response::new(summary);
    response.membership = Some(membership);
    Ok(response)
}
