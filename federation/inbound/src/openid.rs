//! Who a user is that has shown a service a token of ours.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#openid>

use axum::extract::State;
use engine::EngineError;
use ruma::api::federation::openid::get_openid_userinfo::v1::{Request, Response};

use crate::{Door, error::DoorError, reply::Reply, request::Open};

pub(crate) async fn userinfo(
    State(door): State<Door>,
    Open(asked): Open<Request>,
) -> Result<Reply<Response>, DoorError> {
    match door.engine.open_id_user(&asked.access_token).await {
        Ok(user_id) => Ok(Reply(Response::new(user_id))),
        Err(EngineError::UnknownToken { .. }) => Err(DoorError::UnknownToken),
        Err(error) => Err(error.into()),
    }
}
