//! `/_matrix/client/v3/directory/list/room/{roomId}`: whether a room is published.

use ruma::{
    RoomId,
    api::{
        auth_scheme::AccessToken,
        client::{
            appservice::set_room_visibility::v3 as set_room_visibility_of_network,
            directory::{
                get_room_visibility::v3 as get_room_visibility, set_room_visibility::v3 as set_room_visibility,
            },
            room::Visibility,
        },
    },
};

use crate::{
    Arguments, Door, Result,
    arguments::Open,
    error::ApiError,
    json::Json,
    own_request::{Nothing, OwnRequest, own_request},
};

pub(crate) async fn get(
    door: Door,
    asked: Open<get_room_visibility::Request>,
) -> Result<get_room_visibility::Response> {
    let published = door.engine.room_published(&asked.request.room_id).await?;
    let visibility = if published { Visibility::Public } else { Visibility::Private };
    Ok(get_room_visibility::Response::new(visibility))
}

pub(crate) async fn put(
    door: Door,
    asked: Arguments<set_room_visibility::Request>,
) -> Result<set_room_visibility::Response> {
    let published = match asked.request.visibility {
        Visibility::Public => true,
        Visibility::Private => false,
        _ => return Err(ApiError::invalid_param("`visibility` is `public` or `private`")),
    };
    door.engine.set_room_published(&asked.requester, &asked.request.room_id, published).await?;
    Ok(set_room_visibility::Response::new())
}

/// Only application services list rooms of other networks: their tokens say who they are.
pub(crate) async fn put_of_network(
    door: Door,
    asked: Arguments<set_room_visibility_of_network::Request>,
) -> Result<set_room_visibility_of_network::Response> {
    let refuse = || ApiError::forbidden("Only application services may list rooms of other networks");
    let service = asked.service.ok_or_else(refuse)?;
    let listed = match asked.request.visibility {
        Visibility::Public => true,
        Visibility::Private => false,
        _ => return Err(ApiError::invalid_param("`visibility` is `public` or `private`")),
    };
    let (network, room_id) = (&asked.request.network_id, &asked.request.room_id);
    door.engine.set_room_of_network(&service, network, room_id, listed).await?;
    Ok(set_room_visibility_of_network::Response::new())
}

own_request!(
    /// The wish to take a room out of the list of a network, which older services say in this way.
    UnlistOfNetwork,
    DELETE "/_matrix/client/v3/directory/list/appservice/{network_id}/{room_id}",
    AccessToken
);

pub(crate) async fn delete_of_network(door: Door, asked: Arguments<UnlistOfNetwork>) -> Result<Json<Nothing>> {
    let refuse = || ApiError::forbidden("Only application services may list rooms of other networks");
    let service = asked.service.ok_or_else(refuse)?;
    let room_id = RoomId::parse(asked.request.parameter(1));
    let room_id = room_id.map_err(|error| ApiError::invalid_param(error.to_string()))?;
    door.engine.set_room_of_network(&service, asked.request.parameter(0), &room_id, false).await?;
    Ok(Json(Nothing {}))
}
