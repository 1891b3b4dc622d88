//! `POST /_matrix/media/v3/upload`, `POST /_matrix/media/v1/create`, `PUT /_matrix/media/v3/upload/{serverName}/{mediaId}`

use std::io;

use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use engine::UploadCommand;
use futures_util::{StreamExt, TryStreamExt};
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedMxcUri, UInt,
    api::client::media::{create_content, create_content_async, create_mxc_uri},
};

use crate::{Arguments, Door, Result, json::Json, own_request::Nothing};

/// A file that is coming in.
pub(crate) struct Upload {
    pub(crate) announced_bytes: Option<u64>,
    pub(crate) body: Body,
}

impl Upload {
    /// How long the file is said to be.
    pub(crate) fn announced_bytes(headers: &HeaderMap) -> Option<u64> {
        headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    fn command(self, content_type: Option<String>, filename: Option<String>) -> UploadCommand {
        let body = self.body.into_data_stream().map_err(io::Error::other).boxed();
        UploadCommand { content_type, filename, announced_bytes: self.announced_bytes, body }
    }
}

pub(crate) async fn upload(
    door: Door,
    asked: Arguments<create_content::v3::Request>,
    upload: Upload,
) -> Result<create_content::v3::Response> {
    let command = upload.command(asked.request.content_type, asked.request.filename);
    let media_id = door.engine.upload_media(&asked.requester.user_id, command).await?;
    Ok(create_content::v3::Response::new(uri(&door, &media_id)))
}

pub(crate) async fn create(
    door: Door,
    asked: Arguments<create_mxc_uri::v1::Request>,
) -> Result<create_mxc_uri::v1::Response> {
    let (media_id, expires_ts) = door.engine.reserve_media(&asked.requester.user_id).await?;
    let mut response = create_mxc_uri::v1::Response::new(uri(&door, &media_id));
    response.unused_expires_at = Some(MilliSecondsSinceUnixEpoch(UInt::new_saturating(expires_ts)));
    Ok(response)
}

pub(crate) async fn upload_reserved(
    door: Door,
    asked: Arguments<create_content_async::v3::Request>,
    upload: Upload,
) -> Result<Json<Nothing>> {
    let request = asked.request;
    let command = upload.command(request.content_type, request.filename);
    let user_id = &asked.requester.user_id;
    door.engine.upload_reserved_media(user_id, &request.server_name, &request.media_id, command).await?;
    Ok(Json(Nothing {}))
}

fn uri(door: &Door, media_id: &str) -> OwnedMxcUri {
    format!("mxc://{}/{media_id}", door.engine.server_name()).into()
}
