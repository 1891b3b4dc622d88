//! `GET /_matrix/client/v1/media/thumbnail/{serverName}/{mediaId}`, and the same below `/_matrix/media/v3`.

use axum::{http::HeaderMap, response::Response};
use engine::{Requester, ThumbnailCommand};
use ruma::{
    UInt,
    api::client::{
        authenticated_media::get_content_thumbnail, media::get_content_thumbnail as get_content_thumbnail_before,
    },
    media::Method,
};

use super::{anybody, serve::serve, user};
use crate::{Arguments, Door, Result};

pub(crate) async fn thumbnail(
    door: Door,
    asked: Arguments<get_content_thumbnail::v1::Request>,
    headers: HeaderMap,
) -> Result<Response> {
    let request = asked.request;
    let command = command(request.width, request.height, request.method.as_ref(), request.animated);
    let (reader, origin) = (user(&asked.requester), &request.server_name);
    let found = door.engine.media_thumbnail(&reader, origin, &request.media_id, request.timeout_ms, command).await?;
    serve(&door, &found, None, &headers).await
}

#[expect(deprecated, reason = "the endpoint is")]
pub(crate) async fn thumbnail_unauthenticated(
    door: Door,
    asked: Arguments<get_content_thumbnail_before::v3::Request, Option<Requester>>,
    headers: HeaderMap,
) -> Result<Response> {
    let request = asked.request;
    let command = command(request.width, request.height, request.method.as_ref(), request.animated);
    let (reader, origin) = (anybody(asked.requester.as_ref(), request.allow_remote), &request.server_name);
    let found = door.engine.media_thumbnail(&reader, origin, &request.media_id, request.timeout_ms, command).await?;
    serve(&door, &found, None, &headers).await
}

fn command(width: UInt, height: UInt, method: Option<&Method>, animated: Option<bool>) -> ThumbnailCommand {
    ThumbnailCommand {
        width: width.into(),
        height: height.into(),
        crop: method == Some(&Method::Crop),
        animated: animated.unwrap_or(false),
    }
}
