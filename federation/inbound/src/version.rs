//! Which implementation this is.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1version>

use axum::response::IntoResponse;
use http::header::ACCESS_CONTROL_ALLOW_ORIGIN;
use serde_json::json;

use crate::reply::Json;

/// Clients in browsers ask it too, to show what their homeserver is.
pub(crate) async fn get() -> impl IntoResponse {
    let version = json!({"server": {"name": "Nudge", "version": env!("CARGO_PKG_VERSION")}});
    ([(ACCESS_CONTROL_ALLOW_ORIGIN, "*")], Json(version))
}
