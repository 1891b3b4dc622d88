//! `GET /_matrix/client/v3/sync`

mod complete;
mod request;
pub(crate) mod sliding;

use engine::{RelationFilter, Requester, SyncAnswer, SyncQuery};
use ruma::{
    UserId,
    api::client::{filter::FilterDefinition, sync::sync_events::v3::Filter},
};

use serde::Deserialize;

use self::complete::Complete;
pub(crate) use self::request::Request;
use crate::{Arguments, Door, Result, error::ApiError, query};

/// Whoever waits keeps room for nothing but the query: the rest of the request is read by a future of its own.
pub(crate) fn sync(door: Door, asked: Arguments<Request>) -> impl Future<Output = Result<Complete>> {
    let uses_proposed_names = asked.request.uses_proposed_names;
    let reading = Box::pin(read(door.clone(), asked));
    async move {
        let (requester, query) = reading.await?;
        let SyncAnswer { response, sticky } = door.engine.sync(&requester, &query).await?;
        Ok(Complete { response, sticky, uses_proposed_names })
    }
}

async fn read(door: Door, asked: Arguments<Request>) -> Result<(Requester, Box<SyncQuery>)> {
    let Arguments { request: Request { standard: request, .. }, requester, query, .. } = asked;
    let (filter, relations) = filter(&door, &requester.user_id, request.filter, &query).await?;
    let query = SyncQuery {
        filter,
        relations,
        since: request.since,
        full_state: request.full_state,
        timeout_ms: request.timeout.map_or(0, |timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
        use_state_after: request.use_state_after,
        set_presence: Some(request.set_presence),
    };
    Ok((requester, Box::new(query)))
}

/// The part of a filter that ruma does not read.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Further {
    room: FurtherOfRoom,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FurtherOfRoom {
    timeline: RelationFilter,
}

async fn filter(
    door: &Door,
    user_id: &UserId,
    filter: Option<Filter>,
    query: &str,
) -> Result<(FilterDefinition, RelationFilter)> {
    match filter {
        None => Ok(Default::default()),
        Some(Filter::FilterDefinition(filter)) => {
            let further: Further = query::json(query, "filter")?;
            Ok((filter, further.room.timeline))
        }
        // What does not read as a filter is taken for the id of one.
        Some(Filter::FilterId(text)) if text.trim_start().starts_with('{') => {
            Err(ApiError::invalid_param("The filter is not a valid filter"))
        }
        Some(Filter::FilterId(filter_id)) => {
            let filter = door.engine.filter(user_id, &filter_id).await?;
            // Filters that were stored before this part was read may hold anything there.
            let further: Further = serde_json::from_str(&filter).unwrap_or_default();
            Ok((serde_json::from_str(&filter).map_err(ApiError::internal)?, further.room.timeline))
        }
        Some(_) => Err(ApiError::invalid_param("Unknown form of filter")),
    }
}
