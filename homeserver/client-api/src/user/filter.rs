//! `/_matrix/client/v3/user/{userId}/filter`

use ruma::api::client::filter::{create_filter::v3 as create_filter, get_filter::v3 as get_filter};

use crate::{Arguments, Door, Result, error::ApiError};

pub(crate) async fn post(door: Door, asked: Arguments<create_filter::Request>) -> Result<create_filter::Response> {
    let filter = serde_json::to_string(&asked.request.filter).map_err(ApiError::internal)?;
    Ok(create_filter::Response::new(door.engine.create_filter(&asked.requester.user_id, &filter).await?))
}

pub(crate) async fn get(door: Door, asked: Arguments<get_filter::Request>) -> Result<get_filter::Response> {
    let filter = door.engine.filter(&asked.requester.user_id, &asked.request.filter_id).await?;
    Ok(get_filter::Response::new(serde_json::from_str(&filter).map_err(ApiError::internal)?))
}
