//! Spaces.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#spaces>

use axum::extract::State;
use ruma::api::federation::space::{
    SpaceHierarchyParentSummary,
    get_hierarchy::v1::{Request, Response},
};

use crate::{Door, error::DoorError, reply::Reply, signed::Federation};

pub(crate) async fn get(
    State(door): State<Door>,
    Federation { origin, body }: Federation<Request>,
) -> Result<Reply<Response>, DoorError> {
    let reply = door.engine.federation_hierarchy(&origin, &body.room_id, body.suggested_only).await;
    let reply = reply.map_err(DoorError::hidden)?;
    let mut response = Response::new(SpaceHierarchyParentSummary::new(reply.room.summary, reply.room.children_state));
    response.children = reply.children;
    response.inaccessible_children = reply.inaccessible_children;
    Ok(Reply(response))
}
