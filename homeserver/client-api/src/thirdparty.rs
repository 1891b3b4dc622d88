//! `/_matrix/client/v3/thirdparty/...`: networks that application services bridge to. There are none here.

use std::collections::BTreeMap;

use engine::EngineError;
use ruma::api::client::thirdparty::{
    get_location_for_protocol::v3 as locations_of, get_location_for_room_alias::v3 as locations_by_alias,
    get_protocol::v3 as get_protocol, get_protocols::v3 as get_protocols, get_user_for_protocol::v3 as users_of,
    get_user_for_user_id::v3 as users_by_id,
};

use crate::{Arguments, Door, Result, error::ApiError};

pub(crate) async fn protocols(_: Door, _: Arguments<get_protocols::Request>) -> Result<get_protocols::Response> {
    Ok(get_protocols::Response::new(BTreeMap::new()))
}

pub(crate) async fn protocol(_: Door, _: Arguments<get_protocol::Request>) -> Result<get_protocol::Response> {
    Err(no_such_protocol())
}

pub(crate) async fn locations(_: Door, _: Arguments<locations_of::Request>) -> Result<locations_of::Response> {
    Err(no_such_protocol())
}

pub(crate) async fn users(_: Door, _: Arguments<users_of::Request>) -> Result<users_of::Response> {
    Err(no_such_protocol())
}

pub(crate) async fn locations_by_alias(
    _: Door,
    _: Arguments<locations_by_alias::Request>,
) -> Result<locations_by_alias::Response> {
    Ok(locations_by_alias::Response::new(Vec::new()))
}

pub(crate) async fn users_by_id(_: Door, _: Arguments<users_by_id::Request>) -> Result<users_by_id::Response> {
    Ok(users_by_id::Response::new(Vec::new()))
}

fn no_such_protocol() -> ApiError {
    EngineError::NotFound("There is no such protocol".to_owned()).into()
}
