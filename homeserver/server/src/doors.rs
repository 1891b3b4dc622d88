//! Which router answers which path.
//!
//! The doors for clients and for other servers each have their own answers to unknown paths and methods, so their
//! routers are kept apart instead of being merged.

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};

/// Paths that only other servers ask for.
pub const FEDERATION_PATHS: &[&str] = &["/_matrix/federation/", "/_matrix/key/", "/.well-known/matrix/server"];

/// Paths that only operators' scripts ask for, without being users. What administrators ask for is at the clients' door.
pub const ADMINISTRATION_PATHS: &[&str] = &["/_synapse/admin/v1/register"];

/// Routers, each with the beginnings of the paths it answers.
#[derive(Clone)]
pub struct Doors {
    special: Vec<(&'static [&'static str], Router)>,
    otherwise: Router,
}

impl Doors {
    /// One router for everything.
    pub fn new(otherwise: Router) -> Self {
        Self { special: Vec::new(), otherwise }
    }

    /// Another router for paths that start like one of `beginnings`.
    #[must_use]
    pub fn with(mut self, beginnings: &'static [&'static str], router: Router) -> Self {
        self.special.push((beginnings, router));
        self
    }

    /// The router for a path.
    pub fn for_path(&self, path: &str) -> Router {
        let answers = |beginnings: &[&str]| beginnings.iter().any(|beginning| path.starts_with(beginning));
        let special = self.special.iter().find(|(beginnings, _)| answers(beginnings));
        special.map_or(&self.otherwise, |(_, router)| router).clone()
    }
}

/// An answer of our own, beside those of the doors.
pub(crate) fn json(status: StatusCode, value: &serde_json::Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}
