//! `POST /_matrix/client/v3/createRoom`

use engine::{CreateRoomCommand, InitialState};
use rules::room::create::Preset;
use ruma::{
    CanonicalJsonObject,
    api::client::room::{
        Visibility,
        create_room::v3::{Request, Response, RoomPreset},
    },
    serde::Raw,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{Arguments, Door, Result, error::ApiError, rooms::invite::address_invite};

pub(crate) async fn create_room(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let Arguments { mut request, requester, service, .. } = asked;
    let invites = std::mem::take(&mut request.invite_3pid).into_iter().map(address_invite).collect();
    let command = CreateRoomCommand { service, ..command(request)? };
    Ok(Response::new(door.engine.create_room_with_addresses(&requester, command, invites).await?))
}

fn command(request: Request) -> Result<CreateRoomCommand> {
    Ok(CreateRoomCommand {
        version: request.room_version,
        preset: request.preset.as_ref().map(preset).transpose()?,
        published: request.visibility == Visibility::Public,
        alias_localpart: request.room_alias_name,
        service: None,
        name: request.name,
        topic: request.topic,
        invite: request.invite,
        initial_state: request.initial_state.iter().map(initial_state).collect::<Result<_>>()?,
        creation_content: request.creation_content.as_ref().map(object).transpose()?.unwrap_or_default(),
        power_level_content_override: request.power_level_content_override.as_ref().map(object).transpose()?,
        is_direct: request.is_direct,
    })
}

fn preset(preset: &RoomPreset) -> Result<Preset> {
    match preset {
        RoomPreset::PrivateChat => Ok(Preset::PrivateChat),
        RoomPreset::TrustedPrivateChat => Ok(Preset::TrustedPrivateChat),
        RoomPreset::PublicChat => Ok(Preset::PublicChat),
        _ => Err(ApiError::invalid_param("Unknown preset")),
    }
}

#[derive(Deserialize)]
struct StateEvent {
    #[serde(rename = "type")]
    event_type: String,
    #[serde(default)]
    state_key: String,
    content: Box<RawValue>,
}

fn initial_state<T>(event: &Raw<T>) -> Result<InitialState> {
    let StateEvent { event_type, state_key, content } =
        event.deserialize_as_unchecked().map_err(|error| ApiError::bad_json(format!("Initial state: {error}")))?;
    Ok(InitialState { event_type: event_type.into(), state_key, content })
}

fn object<T>(raw: &Raw<T>) -> Result<CanonicalJsonObject> {
    raw.deserialize_as_unchecked().map_err(|error| ApiError::bad_json(error.to_string()))
}
