//! `GET /_matrix/client/unstable/io.element.msc4308/thread_subscriptions`: what sliding sync left out of which threads the
//! user follows.
//!
//! Proposal: <https://github.com/matrix-org/matrix-spec-proposals/pull/4308>

use engine::ThreadSubscriptionChanges;
use ruma::api::auth_scheme::AccessToken;
use serde::Serialize;

use crate::{Arguments, Door, Result, error::ApiError, json::Json, own_request::own_request, query};

own_request!(
    /// Asks which threads the user follows.
    List,
    GET "/_matrix/client/unstable/io.element.msc4308/thread_subscriptions",
    AccessToken
);

/// A page.
#[derive(Serialize)]
pub(crate) struct Page {
    #[serde(flatten)]
    changes: ThreadSubscriptionChanges,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<String>,
}

/// Pages go backwards only. `to` is not looked at: where a stretch begins stands in `from` already.
pub(crate) async fn list(door: Door, asked: Arguments<List>) -> Result<Json<Page>> {
    let parameter = |name| query::parameter(&asked.query, name);
    if parameter("dir")?.is_some_and(|direction| direction != "b") {
        return Err(ApiError::invalid_param("`dir` is `b`"));
    }
    let limit = parameter("limit")?.map(|limit| limit.parse::<usize>());
    let limit = limit.transpose().map_err(|_| ApiError::invalid_param("`limit` is not a number"))?;
    let from = parameter("from")?;
    let mut changes = door.engine.thread_subscriptions(&asked.requester, from.as_deref(), limit).await?;
    let end = changes.more.take();
    Ok(Json(Page { changes, end }))
}
