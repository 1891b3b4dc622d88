//! `GET /_matrix/client/v3/rooms/{roomId}/members`

use ruma::api::client::membership::get_member_events::v3::{Request, Response};

use super::raw;
use crate::{Arguments, Door, Result, json::Written};

pub(crate) async fn members(door: Door, asked: Arguments<Request>) -> Result<Written> {
    let Arguments { request, requester, .. } = asked;
    let members = door
        .engine
        .members(&requester, &request.room_id, request.at.as_deref(), request.membership, request.not_membership)
        .await?;
    Written::large(&door, members.len(), move || Response::new(raw(members))).await
}
