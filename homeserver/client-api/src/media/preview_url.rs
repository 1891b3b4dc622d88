//! `GET /_matrix/client/v1/media/preview_url`, `GET /_matrix/media/v3/preview_url`

use ruma::api::client::{authenticated_media::get_media_preview as current, media::get_media_preview as before};

use crate::{Arguments, Door, Result, error::ApiError};

pub(crate) async fn preview(door: Door, asked: Arguments<current::v1::Request>) -> Result<current::v1::Response> {
    let preview = door.engine.preview_url(&asked.request.url).await?;
    current::v1::Response::from_serialize(&*preview).map_err(ApiError::internal)
}

#[expect(deprecated, reason = "the endpoint is")]
pub(crate) async fn preview_before(door: Door, asked: Arguments<before::v3::Request>) -> Result<before::v3::Response> {
    let preview = door.engine.preview_url(&asked.request.url).await?;
    before::v3::Response::from_serialize(&*preview).map_err(ApiError::internal)
}
