//! `/_matrix/client/v3/thirdparty/...`: networks that application services bridge to.

use std::collections::BTreeMap;

use engine::{EngineError, ThirdPartyQuestion};
use ruma::api::client::thirdparty::{
    get_location_for_protocol::v3 as locations_of, get_location_for_room_alias::v3 as locations_by_alias,
    get_protocol::v3 as get_protocol, get_protocols::v3 as get_protocols, get_user_for_protocol::v3 as users_of,
    get_user_for_user_id::v3 as users_by_id,
};
use serde_json::Value;

use crate::{Arguments, Door, Result, error::ApiError, json::Json};

/// What is ours in a query, and no field of a network's.
const NO_FIELDS: &[&str] = &["access_token", "user_id", "device_id", "org.matrix.msc3202.device_id"];

pub(crate) async fn protocols(
    door: Door,
    _: Arguments<get_protocols::Request>,
) -> Result<Json<BTreeMap<String, Value>>> {
    Ok(Json(door.engine.third_party_protocols(None).await?))
}

pub(crate) async fn protocol(door: Door, asked: Arguments<get_protocol::Request>) -> Result<Json<Value>> {
    let name = &asked.request.protocol;
    let known = door.engine.third_party_protocols(Some(name)).await?.remove(name);
    known.map(Json).ok_or_else(no_such_protocol)
}

pub(crate) async fn locations(door: Door, asked: Arguments<locations_of::Request>) -> Result<Json<Vec<Value>>> {
    look_up(&door, ThirdPartyQuestion::Locations(&asked.request.protocol), &fields(&asked.request.fields)).await
}

pub(crate) async fn users(door: Door, asked: Arguments<users_of::Request>) -> Result<Json<Vec<Value>>> {
    look_up(&door, ThirdPartyQuestion::Users(&asked.request.protocol), &fields(&asked.request.fields)).await
}

pub(crate) async fn locations_by_alias(
    door: Door,
    asked: Arguments<locations_by_alias::Request>,
) -> Result<Json<Vec<Value>>> {
    let field = ("alias".to_owned(), asked.request.alias.to_string());
    look_up(&door, ThirdPartyQuestion::LocationsByAlias, &[field]).await
}

pub(crate) async fn users_by_id(door: Door, asked: Arguments<users_by_id::Request>) -> Result<Json<Vec<Value>>> {
    let field = ("userid".to_owned(), asked.request.userid.to_string());
    look_up(&door, ThirdPartyQuestion::UsersById, &[field]).await
}

async fn look_up(
    door: &Door,
    question: ThirdPartyQuestion<'_>,
    fields: &[(String, String)],
) -> Result<Json<Vec<Value>>> {
    door.engine.third_party_lookup(question, fields).await?.map(Json).ok_or_else(no_such_protocol)
}

fn fields(given: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let given = given.iter().filter(|(name, _)| !NO_FIELDS.contains(&name.as_str()));
    given.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn no_such_protocol() -> ApiError {
    EngineError::NotFound("There is no such protocol".to_owned()).into()
}
