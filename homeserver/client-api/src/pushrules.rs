//! `GET /_matrix/client/v3/pushrules/`: what clients show as the notification settings. Nothing here sets them.

use engine::{EngineError, Requester};
use ruma::{
    api::client::push::{
        get_pushrules_all::v3 as get_pushrules_all, get_pushrules_global_scope::v3 as get_pushrules_global_scope,
    },
    push::Ruleset,
};
use serde::Deserialize;

use crate::{Arguments, Door, Result, error::ApiError};

pub(crate) async fn all(
    door: Door,
    asked: Arguments<get_pushrules_all::Request>,
) -> Result<get_pushrules_all::Response> {
    Ok(get_pushrules_all::Response::new(ruleset(&door, &asked.requester).await?))
}

pub(crate) async fn global(
    door: Door,
    asked: Arguments<get_pushrules_global_scope::Request>,
) -> Result<get_pushrules_global_scope::Response> {
    Ok(get_pushrules_global_scope::Response::new(ruleset(&door, &asked.requester).await?))
}

#[derive(Deserialize)]
struct Content {
    global: Ruleset,
}

/// The rules in the user's account data, or the specification's default ones.
async fn ruleset(door: &Door, requester: &Requester) -> Result<Ruleset> {
    match door.engine.account_data(&requester.user_id, None, "m.push_rules").await {
        Ok(content) => serde_json::from_str(content.get()).map(|Content { global }| global).map_err(ApiError::internal),
        Err(EngineError::NotFound(_)) => Ok(Ruleset::server_default(&requester.user_id)),
        Err(error) => Err(error.into()),
    }
}
