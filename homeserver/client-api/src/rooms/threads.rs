//! `GET /_matrix/client/v1/rooms/{roomId}/threads`

use ruma::api::client::threads::get_threads::v1::{IncludeThreads, Request, Response};

use super::raw;
use crate::{Arguments, Door, Result, error::ApiError};

pub(crate) async fn threads(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let Arguments { request, requester, .. } = asked;
    let only_participated = match request.include {
        IncludeThreads::All => false,
        IncludeThreads::Participated => true,
        _ => return Err(ApiError::invalid_param("`include` is `all` or `participated`")),
    };
    let limit = request.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let from = request.from.as_deref();
    let page = door.engine.threads(&requester, &request.room_id, only_participated, from, limit).await?;
    let mut response = Response::new(raw(page.chunk));
    response.next_batch = page.next_batch;
    Ok(response)
}
