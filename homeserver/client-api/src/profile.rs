//! `/_matrix/client/v3/profile/{userId}` and `/profile/{userId}/{keyName}`

use engine::EngineError;
use ruma::{
    api::{
        IncomingRequest, Metadata,
        client::profile::{
            delete_profile_field::v3 as delete_field, get_profile::v3 as get_profile,
            get_profile_field::v3 as get_field, set_profile_field::v3 as set_field,
        },
        error::DeserializationError,
    },
    profile::ProfileFieldValue,
    serde::JsonObject,
};
use serde_json::Value;

use crate::{Arguments, Door, Result, arguments::Open, error::ApiError};

/// The only field that is a guest's to change.
const OF_GUESTS: &str = "displayname";

pub(crate) async fn get(door: Door, asked: Open<get_profile::Request>) -> Result<get_profile::Response> {
    Ok(door.engine.profile(&asked.request.user_id).await?.into_fields().into_iter().collect())
}

pub(crate) async fn get_field(door: Door, asked: Open<get_field::Request>) -> Result<get_field::Response> {
    let name = asked.request.field.as_str();
    let value = door.engine.profile(&asked.request.user_id).await?.into_fields().remove(name);
    match value {
        Some(value) => Ok(get_field::Response::new(ProfileFieldValue::new(name, value).map_err(ApiError::internal)?)),
        // Clients know these two to be there, empty or not.
        None if matches!(name, "displayname" | "avatar_url") => Ok(get_field::Response::default()),
        None => Err(EngineError::NotFound("The profile has no such field".to_owned()).into()),
    }
}

/// The wish to set a field. ruma's own type takes a body with another field for broken JSON.
pub(crate) struct SetField {
    name: String,
    value: Option<Value>,
}

impl Metadata for SetField {
    const METHOD: http::Method = set_field::Request::METHOD;
    const RATE_LIMITED: bool = set_field::Request::RATE_LIMITED;
    type Authentication = <set_field::Request as Metadata>::Authentication;
    type PathBuilder = <set_field::Request as Metadata>::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = set_field::Request::PATH_BUILDER;
}

impl IncomingRequest for SetField {
    type EndpointError = <set_field::Request as IncomingRequest>::EndpointError;
    type OutgoingResponse = set_field::Response;

    fn try_from_http_request_inner(request: http::Request<&[u8]>, path: &[&str]) -> Result<Self, DeserializationError> {
        let name = path.get(1).copied().unwrap_or_default().to_owned();
        let mut body: JsonObject = serde_json::from_slice(request.body())?;
        let value = body.remove(&name);
        Ok(Self { name, value })
    }
}

pub(crate) async fn put_field(door: Door, asked: Arguments<SetField>) -> Result<set_field::Response> {
    let Arguments { request: SetField { name, value }, requester, guest, .. } = asked;
    refuse_guest(guest, &name)?;
    let value = value.ok_or_else(|| EngineError::MissingParam(format!("The body has no `{name}`")))?;
    door.engine.set_profile_field(&requester, &name, value).await?;
    Ok(set_field::Response::new())
}

pub(crate) async fn delete_field(
    door: Door,
    asked: Arguments<delete_field::Request>,
) -> Result<delete_field::Response> {
    let name = asked.request.field.as_str();
    refuse_guest(asked.guest, name)?;
    door.engine.delete_profile_field(&asked.requester, name).await?;
    Ok(delete_field::Response::new())
}

fn refuse_guest(guest: bool, name: &str) -> Result<()> {
    if guest && name != OF_GUESTS {
        return Err(EngineError::GuestForbidden("Guests may change their display name only".to_owned()).into());
    }
    Ok(())
}
