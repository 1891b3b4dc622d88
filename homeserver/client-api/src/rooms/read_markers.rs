//! `POST /_matrix/client/v3/rooms/{roomId}/read_markers`

use ruma::api::client::read_marker::set_read_marker::v3::{Request, Response};

use crate::{Arguments, Door, Result};

pub(crate) async fn read_markers(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let Arguments { request, requester, .. } = asked;
    let Request { room_id, fully_read, read_receipt, private_read_receipt, .. } = request;
    door.engine.read_markers(&requester, &room_id, fully_read, read_receipt, private_read_receipt).await?;
    Ok(Response::new())
}
