//! Name resolution for the HTTP client: every address passes the policy just before it is connected to.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::{names::Names, policy::AddressPolicy};

/// Where a client connects to, whatever name its URL has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Target {
    /// Wherever this name leads.
    Name(String),
    /// This address, which the operator has set.
    Address(IpAddr),
}

/// Resolves names and drops the addresses that the policy refuses.
#[derive(Clone)]
pub(super) struct PolicyResolver {
    names: Arc<dyn Names>,
    policy: Arc<AddressPolicy>,
    target: Option<Target>,
}

impl PolicyResolver {
    pub(super) fn new(names: Arc<dyn Names>, policy: Arc<AddressPolicy>, target: Option<Target>) -> Self {
        Self { names, policy, target }
    }
}

impl Resolve for PolicyResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        Box::pin(async move {
            let hostname = match this.target {
                Some(Target::Address(address)) => return Ok(with_url_port([address])),
                Some(Target::Name(hostname)) => hostname,
                None => name.as_str().to_owned(),
            };
            let found = this.names.addresses(&hostname).await?;
            let mut refusal = None;
            let keep = |address: &IpAddr| this.policy.check(*address).map_err(|denied| refusal = Some(denied)).is_ok();
            let vetted: Vec<IpAddr> = found.into_iter().filter(keep).collect();
            match refusal {
                Some(denied) if vetted.is_empty() => Err(denied.into()),
                _ => Ok(with_url_port(vetted)),
            }
        })
    }
}

/// The port of the URL takes the place of 0.
fn with_url_port<I>(addresses: I) -> Addrs
where
    I: IntoIterator<Item = IpAddr>,
    I::IntoIter: Send + 'static,
{
    Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)))
}
