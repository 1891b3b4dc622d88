//! `GET /_matrix/client/v3/rooms/{roomId}/aliases`

use ruma::api::client::room::aliases::v3::{Request, Response};

use crate::{Arguments, Door, Result};

pub(crate) async fn aliases(door: Door, asked: Arguments<Request>) -> Result<Response> {
    Ok(Response::new(door.engine.local_aliases(&asked.requester, &asked.request.room_id).await?))
}
