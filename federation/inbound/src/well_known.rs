//! Where other servers find this one.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#getwell-knownmatrixserver>

use axum::extract::State;
use serde_json::{Value, json};

use crate::{Door, error::DoorError, reply::Json};

pub(crate) async fn get(State(door): State<Door>) -> Result<Json<Value>, DoorError> {
    let server = door.options.well_known_server.as_ref().ok_or(DoorError::NotFound)?;
    Ok(Json(json!({"m.server": server})))
}
