//! Which implementation this is.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1version>

use serde_json::{Value, json};

use crate::reply::Json;

pub(crate) async fn get() -> Json<Value> {
    Json(json!({"server": {"name": "Nudge", "version": env!("CARGO_PKG_VERSION")}}))
}
