//! From a server name to where its server is: the six steps of the specification.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names>

pub mod well_known;

use std::{net::Ipv4Addr, sync::Arc};

use rules::world::World;
use ruma::{OwnedServerName, ServerName};

use self::well_known::{FetchWellKnown, WellKnowns};
use crate::{
    TransportError,
    egress::{
        Endpoint, Route,
        names::{Names, Service},
    },
};

/// The port of a server that names none.
const DEFAULT_PORT: u16 = 8448;

/// Finds servers. What the `.well-known` of a host says is remembered; the name servers' answers are remembered by
/// [`Names`].
pub struct Discovery {
    own_name: OwnedServerName,
    names: Arc<dyn Names>,
    well_knowns: WellKnowns,
}

/// A server name taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parts<'a> {
    hostname: &'a str,
    port: Option<u16>,
    is_address: bool,
}

impl Discovery {
    /// Discovery for the server of the given name. `fetch` gets `https://{hostname}/.well-known/matrix/server`.
    pub fn new(own_name: OwnedServerName, names: Arc<dyn Names>, fetch: FetchWellKnown, world: World) -> Self {
        Self { own_name, names, well_knowns: WellKnowns::new(fetch, world) }
    }

    /// Where the server is.
    pub async fn route(&self, server: &ServerName) -> Result<Route, TransportError> {
        let parts = parts(server)?;
        // Steps 1 and 2.
        if let Some(route) = explicit(server, parts) {
            return Ok(route);
        }
        // Step 3.
        if let Some(delegated) = self.well_knowns.delegated(parts.hostname).await {
            return self.delegated_route(&delegated).await;
        }
        // Steps 4 to 6.
        self.named_route(parts.hostname).await
    }

    async fn delegated_route(&self, delegated: &ServerName) -> Result<Route, TransportError> {
        if *delegated == *self.own_name {
            return Err(TransportError::Denied("the server claims to be this one".to_owned()));
        }
        let parts = parts(delegated)?;
        // Steps 3.1 and 3.2.
        match explicit(delegated, parts) {
            Some(route) => Ok(route),
            // Steps 3.3 to 3.5.
            None => self.named_route(parts.hostname).await,
        }
    }

    /// A host name without a port: by service record, else at the default port.
    async fn named_route(&self, hostname: &str) -> Result<Route, TransportError> {
        for service in ["_matrix-fed._tcp", "_matrix._tcp"] {
            let found = self.names.services(&format!("{service}.{hostname}")).await.unwrap_or_else(|error| {
                tracing::debug!(hostname, service, error, "service lookup failed");
                Vec::new()
            });
            if !found.is_empty() {
                return service_route(hostname, found);
            }
        }
        Ok(route(hostname, hostname, DEFAULT_PORT))
    }
}

/// An address, or a name with a port: nothing is to be looked up.
fn explicit(server: &ServerName, parts: Parts<'_>) -> Option<Route> {
    let port = match parts {
        Parts { port: Some(port), .. } => port,
        Parts { is_address: true, .. } => DEFAULT_PORT,
        _ => return None,
    };
    Some(route(server.as_str(), parts.hostname, port))
}

/// The certificate is for the name that was asked about: what DNS answers proves nothing.
fn service_route(hostname: &str, mut found: Vec<Service>) -> Result<Route, TransportError> {
    found.retain(|service| !service.hostname.is_empty() && service.port != 0);
    if found.is_empty() {
        return Err(TransportError::Unreachable("its service record says that there is no Matrix server".to_owned()));
    }
    found.sort_by_key(|service| (service.priority, std::cmp::Reverse(service.weight)));
    let endpoints = found.into_iter().map(|service| Endpoint::Host { name: service.hostname, port: service.port });
    Ok(Route { host: hostname.to_owned(), certificate_name: hostname.to_owned(), endpoints: endpoints.collect() })
}

/// The route to a server name without any discovery, for one that is overridden.
pub(crate) fn fixed_route(server: &ServerName, endpoint: Endpoint) -> Route {
    Route { host: server.as_str().to_owned(), certificate_name: server.host().to_owned(), endpoints: vec![endpoint] }
}

fn route(host: &str, hostname: &str, port: u16) -> Route {
    Route {
        host: host.to_owned(),
        certificate_name: hostname.to_owned(),
        endpoints: vec![Endpoint::Host { name: hostname.to_owned(), port }],
    }
}

fn parts(server: &ServerName) -> Result<Parts<'_>, TransportError> {
    let hostname = server.host();
    let port = match server.as_str()[hostname.len()..].strip_prefix(':') {
        Some(digits) => Some(port(digits).ok_or_else(|| TransportError::Unreachable(format!("no port: {digits:?}")))?),
        None => None,
    };
    let is_address = hostname.starts_with('[') || hostname.parse::<Ipv4Addr>().is_ok();
    Ok(Parts { hostname, port, is_address })
}

/// 1 to 65535, in digits: the grammar has no sign, and port 0 is none.
fn port(digits: &str) -> Option<u16> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten().filter(|port| *port != 0)
}
