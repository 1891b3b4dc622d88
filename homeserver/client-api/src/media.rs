//! `/_matrix/client/v1/media/...`, `/_matrix/media/...`
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#content-repository>

pub(crate) mod config;
pub(crate) mod download;
pub(crate) mod preview_url;
mod range;
mod serve;
pub(crate) mod thumbnail;
pub(crate) mod upload;

use engine::{MediaAsker, Requester};

pub(crate) use self::upload::Upload;

/// A user, for whom media are fetched from other servers.
fn user(requester: &Requester) -> MediaAsker {
    MediaAsker::User(requester.user_id.clone())
}

/// Whoever asks at the old endpoints.
fn anybody(requester: Option<&Requester>, allow_remote: bool) -> MediaAsker {
    match requester {
        Some(requester) if allow_remote => user(requester),
        Some(_) => MediaAsker::WithoutFetching,
        None => MediaAsker::Anybody,
    }
}
