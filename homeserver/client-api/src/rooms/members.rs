//! `GET /_matrix/client/v3/rooms/{roomId}/members`

use ruma::api::client::membership::get_member_events::v3::{Request, Response};

use super::raw;
use crate::{Arguments, Door, Result};

pub(crate) async fn members(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let Arguments { request, requester, .. } = asked;
    let members = door
        .engine
        .members(&requester, &request.room_id, request.at.as_deref(), request.membership, request.not_membership)
        .await?;
    Ok(Response::new(raw(members)))
}
