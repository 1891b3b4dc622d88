//! Whether the process lives (`/health`), and whether it can answer requests (`/ready`).

use std::time::Duration;

use axum::{Router, extract::State, http::StatusCode, response::Response, routing::get};
use storage::Storage;

use crate::{doors::json, stopping::Stopping};

/// Whoever asks wants to know soon.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(2);

/// The paths of this router.
pub(crate) const PATHS: &[&str] = &["/health", "/ready"];

#[derive(Clone)]
struct Checks {
    storage: Storage,
    stopping: Stopping,
}

/// `/health` and `/ready`.
pub(crate) fn router(storage: Storage, stopping: Stopping) -> Router {
    Router::new()
        .route("/health", get(async || status(StatusCode::OK, "alive")))
        .route("/ready", get(ready))
        .with_state(Checks { storage, stopping })
}

async fn ready(State(checks): State<Checks>) -> Response {
    let trouble = if checks.stopping.is_asked() {
        Some("stopping")
    } else {
        match tokio::time::timeout(DATABASE_TIMEOUT, checks.storage.ping()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => {
                tracing::warn!(%error, "not ready: the database does not answer");
                Some("database unavailable")
            }
            Err(_) => {
                tracing::warn!("not ready: the database takes longer than {} s to answer", DATABASE_TIMEOUT.as_secs());
                Some("database slow")
            }
        }
    };
    let panicked = checks.storage.tasks().panicked_lately();
    match trouble {
        None if panicked.is_empty() => status(StatusCode::OK, "ready"),
        // What fell over goes on again; whoever watches is to look into the log.
        None => json(StatusCode::OK, &serde_json::json!({ "status": "degraded", "panicked": panicked })),
        Some(trouble) => status(StatusCode::SERVICE_UNAVAILABLE, trouble),
    }
}

fn status(code: StatusCode, text: &str) -> Response {
    json(code, &serde_json::json!({ "status": text }))
}
