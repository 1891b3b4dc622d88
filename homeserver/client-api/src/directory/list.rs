//! `/_matrix/client/v3/directory/list/room/{roomId}`: whether a room is published.

use ruma::api::client::{
    appservice::set_room_visibility::v3 as set_room_visibility_of_network,
    directory::{get_room_visibility::v3 as get_room_visibility, set_room_visibility::v3 as set_room_visibility},
    room::Visibility,
};

use crate::{Arguments, Door, Result, arguments::Open, error::ApiError};

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
    _door: Door,
    _asked: Arguments<set_room_visibility_of_network::Request>,
) -> Result<set_room_visibility_of_network::Response> {
    Err(ApiError::forbidden("Only application services may list rooms of other networks"))
}
