//! The table of endpoints: one row each, with the section of the specification, ruma's request type and the handler.
//!
//! ruma's types bring method and paths, with all their versions. `docs/spec-coverage.md` is made from
//! [`route_table`], and tests walk it, so that no endpoint can forget who may ask.

mod accounts;
mod administration;
mod directories;
mod discovery;
mod encryption;
mod media;
mod push;
mod reading;
mod rooms;
mod table;
mod third_parties;
mod users;

use axum::{Router, http::Method};

pub(crate) use self::table::Endpoint;
use self::table::Table;
use crate::Door;

/// One endpoint, as tests and documentation see it.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its method.
    pub method: Method,
    /// All its paths; `{name}` stands for one segment.
    pub paths: Vec<&'static str>,
    /// Whether it asks for an access token.
    pub authentication: Authentication,
    /// Whether a user in its path is another one than the one who asks.
    pub of_others: bool,
    /// Whether its body is a file, which may be anything.
    pub takes_file: bool,
    /// Where the specification describes it, a URL, or else a page of ours.
    pub section: String,
}

/// Whether an endpoint asks for an access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// Anybody may ask.
    None,
    /// Users only.
    AccessToken,
    /// Users, and whoever shows an address of theirs.
    Optional,
}

/// What this door serves.
pub fn route_table() -> Vec<Route> {
    table().routes
}

/// The same as a router.
pub(crate) fn router() -> Router<Door> {
    table().router.merge(crate::pages::router())
}

fn table() -> Table {
    let chapters = [
        discovery::rows,
        accounts::rows,
        third_parties::rows,
        administration::rows,
        push::rows,
        users::rows,
        encryption::rows,
        directories::rows,
        rooms::rows,
        reading::rows,
        media::rows,
    ];
    chapters.into_iter().fold(Table::default(), |table, rows| rows(table))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{Authentication, route_table};

    #[test]
    fn no_row_is_there_twice() {
        let mut seen = HashSet::new();
        for route in route_table() {
            for path in route.paths {
                assert!(seen.insert((route.method.clone(), path)), "{} {path}", route.method);
            }
        }
    }

    #[test]
    fn what_anybody_may_ask_is_a_short_list() {
        let open = route_table().into_iter().filter(|route| route.authentication == Authentication::None);
        let open: Vec<_> = open.map(|route| format!("{} {}", route.method, route.paths.last().unwrap())).collect();
        let expected = [
            "GET /_matrix/client/versions",
            "GET /.well-known/matrix/client",
            "GET /.well-known/matrix/support",
            "POST /_matrix/client/v3/register",
            "GET /_matrix/client/v3/register/available",
            "GET /_matrix/client/v1/register/m.login.registration_token/validity",
            "GET /_matrix/client/v3/login",
            "POST /_matrix/client/v3/login",
            "POST /_matrix/client/v3/refresh",
            "GET /_matrix/client/v3/auth/{auth_type}/fallback/web",
            "POST /_matrix/client/v3/register/email/requestToken",
            "POST /_matrix/client/v3/register/msisdn/requestToken",
            "POST /_matrix/client/v3/account/password/email/requestToken",
            "POST /_matrix/client/v3/account/password/msisdn/requestToken",
            "POST /_matrix/client/v3/account/3pid/email/requestToken",
            "POST /_matrix/client/v3/account/3pid/msisdn/requestToken",
            "GET /_matrix/client/v3/profile/{user_id}",
            "GET /_matrix/client/v3/profile/{user_id}/{field}",
            "GET /_matrix/client/v3/directory/room/{room_alias}",
            "GET /_matrix/client/v3/directory/list/room/{room_id}",
            "POST /_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}/{action}",
            "POST /_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}",
        ];
        assert_eq!(open, expected);
    }
}
