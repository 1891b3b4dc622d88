//! `GET /_matrix/client/v3/sync`

mod complete;

use engine::SyncQuery;
use ruma::{
    UserId,
    api::client::{
        filter::FilterDefinition,
        sync::sync_events::v3::{Filter, Request},
    },
};

use self::complete::Complete;
use crate::{Arguments, Door, Result, error::ApiError};

pub(crate) async fn sync(door: Door, asked: Arguments<Request>) -> Result<Complete> {
    let Arguments { request, requester, .. } = asked;
    let query = SyncQuery {
        filter: filter(&door, &requester.user_id, request.filter).await?,
        since: request.since,
        full_state: request.full_state,
        timeout_ms: request.timeout.map_or(0, |timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
        use_state_after: request.use_state_after,
    };
    Ok(Complete(door.engine.sync(&requester, query).await?))
}

async fn filter(door: &Door, user_id: &UserId, filter: Option<Filter>) -> Result<FilterDefinition> {
    match filter {
        None => Ok(FilterDefinition::default()),
        Some(Filter::FilterDefinition(filter)) => Ok(filter),
        // What does not read as a filter is taken for the id of one.
        Some(Filter::FilterId(text)) if text.trim_start().starts_with('{') => {
            Err(ApiError::invalid_param("The filter is not a valid filter"))
        }
        Some(Filter::FilterId(filter_id)) => {
            let filter = door.engine.filter(user_id, &filter_id).await?;
            serde_json::from_str(&filter).map_err(ApiError::internal)
        }
        Some(_) => Err(ApiError::invalid_param("Unknown form of filter")),
    }
}
