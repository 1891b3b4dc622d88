//! `GET /_matrix/client/v3/rooms/{roomId}/joined_members`

use std::collections::BTreeMap;

use ruma::{OwnedUserId, api::client::membership::joined_members::v3::Request};
use serde::Serialize;

use crate::{
    Arguments, Door, Result,
    json::{Json, Written},
};

/// The members of a room.
#[derive(Serialize)]
struct Members {
    joined: BTreeMap<OwnedUserId, Member>,
}

/// One of them. What a profile does not have is `null`, as other servers write it: there are clients that expect both
/// fields.
#[derive(Serialize)]
struct Member {
    display_name: Option<String>,
    avatar_url: Option<String>,
}

pub(crate) async fn joined_members(door: Door, asked: Arguments<Request>) -> Result<Written> {
    let members = door.engine.joined_members(&asked.requester, &asked.request.room_id).await?;
    Written::large(&door, members.len(), move || {
        let joined = members.into_iter().map(|(user_id, profile)| {
            (user_id, Member { display_name: profile.display_name, avatar_url: profile.avatar_url })
        });
        Json(Members { joined: joined.collect() })
    })
    .await
}
