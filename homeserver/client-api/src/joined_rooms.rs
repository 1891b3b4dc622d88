//! `GET /_matrix/client/v3/joined_rooms`

use ruma::api::client::membership::joined_rooms::v3::{Request, Response};

use crate::{Arguments, Door, Result};

pub(crate) async fn joined_rooms(door: Door, asked: Arguments<Request>) -> Result<Response> {
    Ok(Response::new(door.engine.joined_rooms(&asked.requester).await?))
}
