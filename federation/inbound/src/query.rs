//! Questions about our users and aliases.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#querying-for-information>

use axum::extract::State;
use ruma::{
    api::federation::query::{get_profile_information, get_room_information},
    profile::ProfileFieldName,
};

use crate::{Door, error::DoorError, reply::Reply, signed::Federation};

pub(crate) async fn profile(
    State(door): State<Door>,
    Federation { body, .. }: Federation<get_profile_information::v1::Request>,
) -> Result<Reply<get_profile_information::v1::Response>, DoorError> {
    let field = body.field.as_ref().map(ProfileFieldName::as_str);
    let fields = door.engine.local_profile(&body.user_id).await?.into_fields().into_iter();
    Ok(Reply(fields.filter(|(name, _)| field.is_none_or(|field| field == name)).collect()))
}

pub(crate) async fn directory(
    State(door): State<Door>,
    Federation { body, .. }: Federation<get_room_information::v1::Request>,
) -> Result<Reply<get_room_information::v1::Response>, DoorError> {
    let (room_id, servers) = door.engine.federation_query_directory(&body.room_alias).await?;
    Ok(Reply(get_room_information::v1::Response::new(room_id, servers)))
}
