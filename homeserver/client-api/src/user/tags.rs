//! `/_matrix/client/v3/user/{userId}/rooms/{roomId}/tags`

use ruma::{
    api::client::tag::{create_tag::v3 as create_tag, delete_tag::v3 as delete_tag, get_tags::v3 as get_tags},
    events::tag::Tags,
};

use crate::{Arguments, Door, Result, error::ApiError};

pub(crate) async fn get(door: Door, asked: Arguments<get_tags::Request>) -> Result<get_tags::Response> {
    let tags = door.engine.tags(&asked.requester, &asked.request.room_id).await?;
    // A client may have written anything there by another way.
    let readable = tags.into_iter().filter_map(|(name, info)| Some((name.into(), serde_json::from_value(info).ok()?)));
    Ok(get_tags::Response::new(readable.collect::<Tags>()))
}

pub(crate) async fn put(door: Door, asked: Arguments<create_tag::Request>) -> Result<create_tag::Response> {
    let Arguments { request, requester, body, .. } = asked;
    let info = serde_json::from_slice(&body).map_err(ApiError::internal)?;
    door.engine.set_tag(&requester, &request.room_id, &request.tag, info).await?;
    Ok(create_tag::Response::new())
}

pub(crate) async fn delete(door: Door, asked: Arguments<delete_tag::Request>) -> Result<delete_tag::Response> {
    let Arguments { request, requester, .. } = asked;
    door.engine.remove_tag(&requester, &request.room_id, &request.tag).await?;
    Ok(delete_tag::Response::new())
}
