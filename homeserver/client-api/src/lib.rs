//! The door for clients: the Client-Server API as an axum [`Router`] over the [`Engine`].
//!
//! Handlers only translate: request -> command, outcome -> reply. Their files mirror the URLs; [`routes`] has one row
//! per endpoint; [`error`] is the only place with status codes and errcodes. What is not in the table does not exist:
//! it answers 404 `M_UNRECOGNIZED`.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/>

mod access_token;
mod account;
mod admin;
mod administration;
mod ai;
mod appservice;
mod arguments;
mod body;
mod capabilities;
mod cors;
mod create_room;
mod dehydrated_device;
mod delayed_events;
mod devices;
mod directory;
mod error;
mod events;
mod interactive;
mod join;
mod joined_rooms;
mod json;
mod keys;
mod knock;
mod login;
mod logout;
mod media;
mod mutual_rooms;
mod notifications;
mod own_request;
mod pages;
mod presence;
mod profile;
mod public_rooms;
mod pushers;
mod pushrules;
mod query;
mod rate_limits;
mod refresh;
mod register;
mod room_keys;
mod room_summary;
mod rooms;
mod routes;
mod search;
mod send_to_device;
mod standing;
mod sticky_events;
mod sync;
mod thirdparty;
mod thread_subscriptions;
mod user;
mod user_directory;
mod users;
mod versions;
mod voip;
mod well_known;

use std::{net::IpAddr, sync::Arc};

use axum::{Router, middleware};
use engine::Engine;
use ruma::OwnedUserId;

pub use self::{
    administration::{AdministrationOptions, router as administration},
    rate_limits::page as rate_limits_page,
    routes::{Authentication, Route, route_table},
};
use self::{arguments::Arguments, error::ApiError, interactive::Sessions, rate_limits::RateLimits};

/// What the operator can choose about this door.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether clients are held to the rates of the table in `rate_limits.rs`. Off only for tests and benchmarks.
    pub rate_limits: bool,
    /// The URL that `/.well-known/matrix/client` tells clients to use. `None`: that path answers 404, because
    /// something else serves it or the operator wants no discovery.
    pub well_known_base_url: Option<String>,
    /// Users who are never told to wait, such as bots of the operator's own.
    pub rate_limits_exempt: Vec<OwnedUserId>,
    /// What new users have to accept.
    pub terms: Option<Terms>,
    /// Whether new users have to show an e-mail address.
    pub registration_requires_email: bool,
    /// Whether the directory of public rooms is shown to whoever asks, with an account or without.
    pub directory_for_everybody: bool,
    /// Whom to turn to, for `/.well-known/matrix/support`. Where all is `None`, that path answers 404.
    pub support: Support,
}

/// What new users have to accept.
#[derive(Clone, Debug)]
pub struct Terms {
    /// What it is called.
    pub name: String,
    /// Where it can be read.
    pub url: String,
    /// Which version it is.
    pub version: String,
}

/// Whom to turn to with questions about this server.
#[derive(Clone, Debug, Default)]
pub struct Support {
    /// The administrator's e-mail address.
    pub email: Option<String>,
    /// The administrator's user id.
    pub matrix_id: Option<OwnedUserId>,
    /// A page.
    pub page: Option<String>,
}

/// Where a request comes from. The listener puts it into the request's extensions, after it has looked through a
/// trusted proxy's headers. Requests without it share the limits of one unknown address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// All endpoints of the table, with CORS headers on every answer and the fallbacks for unknown paths and methods.
///
/// Whoever merges this router into another one calls [`Router::reset_fallback`] on one of the two first.
pub fn router(engine: Engine, options: Options) -> Router {
    let door = Door {
        engine,
        inner: Arc::new(Inner {
            rate_limits: RateLimits::new(options.rate_limits, &options.rate_limits_exempt),
            sessions: Sessions::new(),
            options,
        }),
    };
    routes::router()
        .fallback(async || ApiError::Unrecognized)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(middleware::from_fn(cors::cors))
        .with_state(door)
}

/// What handlers work with. Cheap to clone.
#[derive(Clone)]
struct Door {
    engine: Engine,
    inner: Arc<Inner>,
}

struct Inner {
    rate_limits: RateLimits,
    sessions: Sessions,
    options: Options,
}

impl Door {
    fn now_ms(&self) -> u64 {
        self.engine.world().clock.now_ms()
    }
}

/// What a handler answers.
type Result<T, E = ApiError> = std::result::Result<T, E>;
