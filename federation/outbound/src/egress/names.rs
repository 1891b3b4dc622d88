//! Names to addresses: the system's resolver, behind a seam that tests fill with tables.

use std::net::IpAddr;

use futures_util::future::BoxFuture;
use hickory_resolver::{
    TokioResolver,
    config::{ResolveHosts, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::RData,
};

use super::EgressError;

/// Addresses tried for one name. More is either a mistake or a trap; a connection is tried to each in turn.
const ADDRESSES_MAX: usize = 16;
/// Service records looked at for one name, for the same reason.
const SERVICES_MAX: usize = 8;

/// A place where a service is offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Lower is to be tried first.
    pub priority: u16,
    /// Among equals, how often each is to be tried first.
    pub weight: u16,
    /// The host name, without a dot at the end; empty where the record says that there is no such service.
    pub hostname: String,
    /// The port.
    pub port: u16,
}

/// Looks names up.
pub trait Names: Send + Sync + 'static {
    /// The addresses of a host. An error is a reason for the log.
    fn addresses<'a>(&'a self, hostname: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, String>>;

    /// The SRV records of a name; none if there are none.
    fn services<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Service>, String>>;
}

/// Looks names up as the system is configured to: its hosts file first, then its name servers.
pub struct SystemNames {
    resolver: TokioResolver,
}

impl SystemNames {
    /// Reads the system's configuration. Call within a Tokio runtime.
    pub fn new() -> Result<Self, EgressError> {
        let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
            tracing::warn!(%error, "the system's resolver configuration is not readable; only the hosts file is used");
            TokioResolver::builder_with_config(ResolverConfig::default(), TokioRuntimeProvider::default())
        });
        builder.options_mut().use_hosts_file = ResolveHosts::Always;
        let resolver = builder.build().map_err(|error| EgressError::Resolver(error.to_string()))?;
        Ok(Self { resolver })
    }
}

impl Names for SystemNames {
    fn addresses<'a>(&'a self, hostname: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, String>> {
        Box::pin(async move {
            let answer = self.resolver.lookup_ip(hostname).await.map_err(|error| error.to_string())?;
            Ok(answer.iter().take(ADDRESSES_MAX).collect())
        })
    }

    fn services<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Service>, String>> {
        Box::pin(async move {
            // The dot keeps the system's search domains out.
            let answer = match self.resolver.srv_lookup(format!("{name}.")).await {
                Err(error) if none_found(&error) => return Ok(Vec::new()),
                answer => answer.map_err(|error| error.to_string())?,
            };
            let services = answer.answers().iter().filter_map(|record| match &record.data {
                RData::SRV(service) => Some(Service {
                    priority: service.priority,
                    weight: service.weight,
                    hostname: service.target.to_ascii().trim_end_matches('.').to_owned(),
                    port: service.port,
                }),
                _ => None,
            });
            Ok(services.take(SERVICES_MAX).collect())
        })
    }
}

fn none_found(error: &NetError) -> bool {
    error.is_nx_domain() || error.is_no_records_found()
}

/// The address that a host is, if it is one and not a name. IPv6 addresses stand in brackets.
pub fn host_address(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse().ok().map(IpAddr::V6),
        None => host.parse().ok().map(IpAddr::V4),
    }
}
