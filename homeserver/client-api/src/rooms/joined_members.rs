//! `GET /_matrix/client/v3/rooms/{roomId}/joined_members`

use ruma::api::client::membership::joined_members::v3::{Request, Response, RoomMember};

use crate::{Arguments, Door, Result};

pub(crate) async fn joined_members(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let members = door.engine.joined_members(&asked.requester, &asked.request.room_id).await?;
    let joined = members.into_iter().map(|(user_id, profile)| {
        let mut member = RoomMember::new();
        member.display_name = profile.display_name;
        member.avatar_url = profile.avatar_url.map(Into::into);
        (user_id, member)
    });
    Ok(Response::new(joined.collect()))
}
