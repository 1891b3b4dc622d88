//! `/_matrix/client/v3/pushrules/`

use std::collections::BTreeMap;

use http::{HeaderValue, header::CONTENT_TYPE};
use ruma::api::{
    BytesBody, OutgoingResponse,
    client::push::{
        delete_pushrule::v3 as delete_rule, get_pushrule::v3 as get_rule, get_pushrule_actions::v3 as get_actions,
        get_pushrule_enabled::v3 as get_enabled, get_pushrules_all::v3 as get_all,
        get_pushrules_global_scope::v3 as get_global, set_pushrule::v3 as set_rule,
        set_pushrule_actions::v3 as set_actions, set_pushrule_enabled::v3 as set_enabled,
    },
    error::IntoHttpError,
};
use serde_json::value::RawValue;

use crate::{Arguments, Door, Result, error::ApiError};

/// Rules with a list for each kind. ruma leaves out those that are empty; clients expect them.
pub(crate) struct Rules(Box<RawValue>);

impl OutgoingResponse for Rules {
    type Body = BytesBody;

    fn try_into_http_response_inner(self) -> Result<http::Response<BytesBody>, IntoHttpError> {
        let mut response = http::Response::new(BytesBody(self.0.get().as_bytes().to_vec()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }
}

pub(crate) async fn all(door: Door, asked: Arguments<get_all::Request>) -> Result<Rules> {
    Ok(Rules(door.engine.push_rules_content(&asked.requester.user_id).await?))
}

pub(crate) async fn global(door: Door, asked: Arguments<get_global::Request>) -> Result<Rules> {
    let content = door.engine.push_rules_content(&asked.requester.user_id).await?;
    let mut scopes: BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(content.get()).map_err(ApiError::internal)?;
    Ok(Rules(scopes.remove("global").ok_or_else(|| ApiError::internal("push rules without their only scope"))?))
}

pub(crate) async fn get(door: Door, asked: Arguments<get_rule::Request>) -> Result<get_rule::Response> {
    let get_rule::Request { kind, rule_id, .. } = asked.request;
    let rule = door.engine.push_rule(&asked.requester.user_id, &kind, &rule_id).await?;
    Ok(get_rule::Response::new(rule.into()))
}

pub(crate) async fn put(door: Door, asked: Arguments<set_rule::Request>) -> Result<set_rule::Response> {
    let set_rule::Request { rule, before, after, .. } = asked.request;
    door.engine.set_push_rule(&asked.requester, rule, before.as_deref(), after.as_deref()).await?;
    Ok(set_rule::Response::new())
}

pub(crate) async fn delete(door: Door, asked: Arguments<delete_rule::Request>) -> Result<delete_rule::Response> {
    let delete_rule::Request { kind, rule_id, .. } = asked.request;
    door.engine.delete_push_rule(&asked.requester, kind, &rule_id).await?;
    Ok(delete_rule::Response::new())
}

pub(crate) async fn get_enabled(door: Door, asked: Arguments<get_enabled::Request>) -> Result<get_enabled::Response> {
    let get_enabled::Request { kind, rule_id, .. } = asked.request;
    let rule = door.engine.push_rule(&asked.requester.user_id, &kind, &rule_id).await?;
    Ok(get_enabled::Response::new(rule.enabled()))
}

pub(crate) async fn put_enabled(door: Door, asked: Arguments<set_enabled::Request>) -> Result<set_enabled::Response> {
    let set_enabled::Request { kind, rule_id, enabled, .. } = asked.request;
    door.engine.enable_push_rule(&asked.requester, kind, &rule_id, enabled).await?;
    Ok(set_enabled::Response::new())
}

pub(crate) async fn get_actions(door: Door, asked: Arguments<get_actions::Request>) -> Result<get_actions::Response> {
    let get_actions::Request { kind, rule_id, .. } = asked.request;
    let rule = door.engine.push_rule(&asked.requester.user_id, &kind, &rule_id).await?;
    Ok(get_actions::Response::new(rule.actions().to_vec()))
}

pub(crate) async fn put_actions(door: Door, asked: Arguments<set_actions::Request>) -> Result<set_actions::Response> {
    let set_actions::Request { kind, rule_id, actions, .. } = asked.request;
    door.engine.set_push_rule_actions(&asked.requester, kind, &rule_id, actions).await?;
    Ok(set_actions::Response::new())
}
