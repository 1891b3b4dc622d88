//! `GET /_matrix/client/v1/media/download/{serverName}/{mediaId}` and, with a name, `.../{fileName}`; the same below
//! `/_matrix/media/v3`, for what may be had without an access token and for those who have one all the same.

use std::time::Duration;

use axum::{http::HeaderMap, response::Response};
use engine::{MediaAsker, Requester};
use ruma::{
    ServerName,
    api::client::{
        authenticated_media::{get_content, get_content_as_filename},
        media::{get_content as get_content_before, get_content_as_filename as get_content_as_filename_before},
    },
};

use super::{anybody, serve::serve, user};
use crate::{Arguments, Door, Result};

pub(crate) async fn download(
    door: Door,
    asked: Arguments<get_content::v1::Request>,
    headers: HeaderMap,
) -> Result<Response> {
    let request = asked.request;
    let wanted = Wanted { origin: &request.server_name, media_id: &request.media_id, filename: None };
    wanted.find(&door, &user(&asked.requester), request.timeout_ms, &headers).await
}

pub(crate) async fn download_as(
    door: Door,
    asked: Arguments<get_content_as_filename::v1::Request>,
    headers: HeaderMap,
) -> Result<Response> {
    let request = asked.request;
    let filename = Some(request.filename.as_str());
    let wanted = Wanted { origin: &request.server_name, media_id: &request.media_id, filename };
    wanted.find(&door, &user(&asked.requester), request.timeout_ms, &headers).await
}

#[expect(deprecated, reason = "the endpoint is")]
pub(crate) async fn download_unauthenticated(
    door: Door,
    asked: Arguments<get_content_before::v3::Request, Option<Requester>>,
    headers: HeaderMap,
) -> Result<Response> {
    let request = asked.request;
    let reader = anybody(asked.requester.as_ref(), request.allow_remote);
    let wanted = Wanted { origin: &request.server_name, media_id: &request.media_id, filename: None };
    wanted.find(&door, &reader, request.timeout_ms, &headers).await
}

#[expect(deprecated, reason = "the endpoint is")]
pub(crate) async fn download_as_unauthenticated(
    door: Door,
    asked: Arguments<get_content_as_filename_before::v3::Request, Option<Requester>>,
    headers: HeaderMap,
) -> Result<Response> {
    let request = asked.request;
    let reader = anybody(asked.requester.as_ref(), request.allow_remote);
    let filename = Some(request.filename.as_str());
    let wanted = Wanted { origin: &request.server_name, media_id: &request.media_id, filename };
    wanted.find(&door, &reader, request.timeout_ms, &headers).await
}

struct Wanted<'a> {
    origin: &'a ServerName,
    media_id: &'a str,
    filename: Option<&'a str>,
}

impl Wanted<'_> {
    async fn find(self, door: &Door, reader: &MediaAsker, timeout: Duration, headers: &HeaderMap) -> Result<Response> {
        let medium = door.engine.medium(reader, self.origin, self.media_id, timeout).await?;
        serve(door, &medium, self.filename, headers).await
    }
}
