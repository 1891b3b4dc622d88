//! `/_matrix/client/v3/directory/room/{roomAlias}`

use engine::EngineError;
use ruma::api::client::alias::{
    create_alias::v3 as create_alias, delete_alias::v3 as delete_alias, get_alias::v3 as get_alias,
};

use crate::{Arguments, Door, Result, arguments::Open, error::ApiError};

pub(crate) async fn get(door: Door, asked: Open<get_alias::Request>) -> Result<get_alias::Response> {
    let (room_id, servers) = door.engine.resolve_alias(&asked.request.room_alias).await?;
    Ok(get_alias::Response::new(room_id, servers))
}

pub(crate) async fn put(door: Door, asked: Arguments<create_alias::Request>) -> Result<create_alias::Response> {
    let Arguments { request, requester, service, .. } = asked;
    match door.engine.create_alias(&requester, service.as_ref(), &request.room_alias, &request.room_id).await {
        Ok(()) => Ok(create_alias::Response::new()),
        Err(EngineError::RoomInUse) => Err(ApiError::AliasTaken),
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn delete(door: Door, asked: Arguments<delete_alias::Request>) -> Result<delete_alias::Response> {
    door.engine.delete_alias(&asked.requester, asked.service.as_ref(), &asked.request.room_alias).await?;
    Ok(delete_alias::Response::new())
}
