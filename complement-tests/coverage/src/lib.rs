//! How much of the specification the doors serve: `docs/spec-coverage.md`, made from their route tables.

use std::{collections::BTreeSet, fmt::Write as _};

/// Why an endpoint is not served, by its path as the list of the specification has it.
const REASONS: [(&str, &str); 7] = [
    (
        "/_matrix/client/v1/auth_metadata",
        "belongs to the chapter of the OAuth 2.0 API. Accounts are this server's own; clients learn that from the 404 \
         `M_UNRECOGNIZED`.",
    ),
    (
        "/_matrix/client/v3/events ",
        "deprecated, see `deprecated-endpoints.md`: the stream of all rooms. The one of a room that anybody may read, by \
         the same path with a `room_id`, is served.",
    ),
    ("/_matrix/client/v3/events/{eventId}", DEPRECATED),
    ("/_matrix/client/v3/initialSync", DEPRECATED),
    ("/_matrix/client/v3/login/sso/redirect", SINGLE_SIGN_ON),
    ("/_matrix/client/v3/login/sso/redirect/{idpId}", SINGLE_SIGN_ON),
    (
        "/_matrix/federation/v1/query/{queryType}",
        "a pattern, not an endpoint: the two queries that the specification defines, `directory` and `profile`, are \
         served; any other is answered 404 `M_UNRECOGNIZED`.",
    ),
];
/// What stands in the page when nobody has said why.
pub const NO_REASON: &str = "not built, for no reason that is known";
const DEPRECATED: &str = "deprecated, see `deprecated-endpoints.md`.";
const SINGLE_SIGN_ON: &str =
    "belongs to the chapter of login by single sign-on (SSO), whose place the OAuth 2.0 API takes.";

/// One endpoint of the specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `client-server`, `server-server`, ...
    pub api: &'static str,
    /// The method.
    pub method: &'static str,
    /// The path, with parameters in braces.
    pub path: &'static str,
}

/// Every endpoint that a homeserver serves by version 1.19 of the specification.
pub fn specified() -> Vec<Endpoint> {
    let lines = include_str!("../endpoints.tsv").lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let mut fields = line.split('\t');
            Some(Endpoint { api: fields.next()?, method: fields.next()?, path: fields.next()? })
        })
        .collect()
}

/// What the doors serve: method, and path with nameless parameters.
pub fn served() -> BTreeSet<(String, String)> {
    let clients = client_api::route_table().into_iter().flat_map(|route| {
        let method = route.method.to_string();
        route.paths.into_iter().map(move |path| (method.clone(), nameless(path))).collect::<Vec<_>>()
    });
    let servers = inbound::route_table();
    let servers = servers.into_iter().map(|route| (route.method.to_string(), nameless(route.path)));
    clients.chain(servers).collect()
}

/// The page.
pub fn page() -> String {
    let (specified, served) = (specified(), served());
    let is_served = |endpoint: &&Endpoint| served.contains(&(endpoint.method.to_owned(), nameless(endpoint.path)));
    let mut page = "# What of the specification is served\n\n\
        Made from the route tables of the doors; `cargo test -p complement-tests-coverage` checks it and says how to\n\
        make it anew. Specification 1.19.\n\n| API | served | specified |\n| --- | ---: | ---: |\n"
        .to_owned();
    let mut apis: Vec<&str> = specified.iter().map(|endpoint| endpoint.api).collect();
    apis.dedup();
    for api in &apis {
        let of_api = || specified.iter().filter(|endpoint| endpoint.api == *api);
        writeln!(page, "| {api} | {} | {} |", of_api().filter(is_served).count(), of_api().count()).ok();
    }
    for api in apis {
        let missing = specified.iter().filter(|endpoint| endpoint.api == api && !is_served(endpoint));
        writeln!(page, "\n## Not served: {api}\n").ok();
        for endpoint in missing {
            let reason = REASONS.iter().find(|(path, _)| *path == endpoint.path);
            let reason = reason.map_or(NO_REASON, |(_, reason)| reason);
            writeln!(page, "- `{} {}`: {reason}", endpoint.method, endpoint.path.trim_end()).ok();
        }
    }
    page
}

/// The path with `{}` for each parameter, for the specification and the route tables name them differently.
fn nameless(path: &str) -> String {
    let segment = |segment: &str| if segment.starts_with('{') { "{}".to_owned() } else { segment.to_owned() };
    path.split('/').map(segment).collect::<Vec<_>>().join("/")
}
