//! `/_matrix/client/v3/user/{userId}/account_data/{type}` and `/user/{userId}/rooms/{roomId}/account_data/{type}`

use ruma::{
    RoomId,
    api::auth_scheme::AccessToken,
    api::client::config::{
        get_global_account_data::v3 as get_global, get_room_account_data::v3 as get_room,
        set_global_account_data::v3 as set_global, set_room_account_data::v3 as set_room,
    },
    serde::Raw,
};
use serde_json::value::RawValue;

use crate::{
    Arguments, Door, Result,
    error::ApiError,
    json::Json,
    own_request::{Nothing, OwnRequest, own_request},
};

pub(crate) async fn get(door: Door, asked: Arguments<get_global::Request>) -> Result<get_global::Response> {
    let event_type = asked.request.event_type.to_string();
    let content = door.engine.account_data(&asked.requester.user_id, None, &event_type).await?;
    Ok(get_global::Response::new(Raw::from_json(content)))
}

pub(crate) async fn put(door: Door, asked: Arguments<set_global::Request>) -> Result<set_global::Response> {
    let event_type = asked.request.event_type.to_string();
    refuse_server_managed(&event_type)?;
    door.engine.set_account_data(&asked.requester, None, &event_type, asked.request.data.into_json()).await?;
    Ok(set_global::Response::new())
}

pub(crate) async fn get_of_room(door: Door, asked: Arguments<get_room::Request>) -> Result<get_room::Response> {
    let Arguments { request, requester, .. } = asked;
    let (room_id, event_type) = (&request.room_id, request.event_type.to_string());
    let content = door.engine.account_data(&requester.user_id, Some(room_id), &event_type).await?;
    Ok(get_room::Response::new(Raw::from_json(content)))
}

pub(crate) async fn put_of_room(door: Door, asked: Arguments<set_room::Request>) -> Result<set_room::Response> {
    let Arguments { request, requester, .. } = asked;
    let (room_id, event_type) = (&request.room_id, request.event_type.to_string());
    refuse_server_managed(&event_type)?;
    door.engine.set_account_data(&requester, Some(room_id), &event_type, request.data.into_json()).await?;
    Ok(set_room::Response::new())
}

own_request!(
    /// Deletes account data: <https://github.com/matrix-org/matrix-spec-proposals/pull/3391>
    Deletion,
    DELETE "/_matrix/client/unstable/org.matrix.msc3391/user/{user_id}/account_data/{event_type}",
    AccessToken
);

own_request!(
    /// Deletes account data of a room: <https://github.com/matrix-org/matrix-spec-proposals/pull/3391>
    DeletionOfRoom,
    DELETE "/_matrix/client/unstable/org.matrix.msc3391/user/{user_id}/rooms/{room_id}/account_data/{event_type}",
    AccessToken
);

pub(crate) async fn delete(door: Door, asked: Arguments<Deletion>) -> Result<Json<Nothing>> {
    let event_type = asked.request.parameter(1);
    refuse_server_managed(event_type)?;
    door.engine.set_account_data(&asked.requester, None, event_type, nothing()).await?;
    Ok(Json(Nothing {}))
}

pub(crate) async fn delete_of_room(door: Door, asked: Arguments<DeletionOfRoom>) -> Result<Json<Nothing>> {
    let room_id = RoomId::parse(asked.request.parameter(1));
    let room_id = room_id.map_err(|error| ApiError::invalid_param(error.to_string()))?;
    let event_type = asked.request.parameter(2);
    refuse_server_managed(event_type)?;
    door.engine.set_account_data(&asked.requester, Some(&room_id), event_type, nothing()).await?;
    Ok(Json(Nothing {}))
}

/// What is left of account data that is deleted.
fn nothing() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).unwrap_or_default()
}

/// The engine refuses these too; the specification wants a reply of its own for them.
fn refuse_server_managed(event_type: &str) -> Result<()> {
    if matches!(event_type, "m.fully_read" | "m.push_rules") {
        return Err(ApiError::ServerManaged(event_type.to_owned()));
    }
    Ok(())
}
