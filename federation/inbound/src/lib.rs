//! The door for other servers: it checks who asks, translates, and lets the engine do the rest.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/>

mod backfill;
mod error;
mod event;
mod event_auth;
mod hierarchy;
mod invite;
mod join;
mod keys;
mod knock;
mod leave;
mod media;
mod missing_events;
mod openid;
mod public_rooms;
mod query;
mod reply;
mod request;
mod routes;
mod send;
mod signed;
mod state;
mod third_party;
mod timestamp;
mod user;
mod version;
mod well_known;

use std::sync::Arc;

use axum::Router;
use engine::Engine;

pub use self::routes::{Access, Endpoint, route_table};

/// What the operator can choose about this door.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `host` or `host:port` where other servers reach this one, served as `/.well-known/matrix/server`. `None`: they
    /// are to find it by its name.
    pub well_known_server: Option<String>,
}

/// What every handler has.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) engine: Engine,
    pub(crate) options: Arc<Options>,
}

/// All endpoints for other servers, and the refusal of what else is below `/_matrix/federation` and `/_matrix/key`.
///
/// It has no fallback of its own, so that it can be merged with the routers of other doors.
pub fn router(engine: Engine, options: Options) -> Router {
    routes::router().with_state(Door { engine, options: Arc::new(options) })
}
