//! Requests to other servers over HTTPS: discovery, then the one client.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use rules::world::World;
use ruma::{OwnedServerName, ServerName};

use crate::{
    ByteStream, CallLimits, Egress, EgressError, EgressOptions, Transport, TransportError,
    discovery::{Discovery, fixed_route, well_known::FetchWellKnown},
    egress::{Endpoint, Route, SystemNames, names::Names},
};

/// Carries requests over HTTPS, after server discovery.
pub struct HttpTransport {
    egress: Egress,
    discovery: Discovery,
}

impl HttpTransport {
    /// A transport for the given server, resolving names as the system is configured to. Call within a Tokio runtime.
    pub fn new(options: EgressOptions, server_name: OwnedServerName, world: World) -> Result<Self, EgressError> {
        Self::with_names(options, server_name, world, Arc::new(SystemNames::new()?))
    }

    /// As [`HttpTransport::new`], with another source of names.
    pub fn with_names(
        options: EgressOptions,
        server_name: OwnedServerName,
        world: World,
        names: Arc<dyn Names>,
    ) -> Result<Self, EgressError> {
        let egress = Egress::new(options, Arc::clone(&names))?;
        let discovery = Discovery::new(server_name, names, fetch_well_known(egress.clone()), world);
        Ok(Self { egress, discovery })
    }

    /// The client, for calls to others than Matrix servers.
    pub fn egress(&self) -> &Egress {
        &self.egress
    }

    async fn route(&self, destination: &ServerName) -> Result<Route, TransportError> {
        match self.egress.options().overrides.get(destination) {
            Some(address) => Ok(fixed_route(destination, Endpoint::Fixed(*address))),
            None => self.discovery.route(destination).await,
        }
    }

    async fn discover_and_send(
        &self,
        destination: &ServerName,
        request: http::Request<Bytes>,
        limits: CallLimits,
    ) -> Result<http::Response<Bytes>, TransportError> {
        let route = self.route(destination).await?;
        self.egress.send(&route, request, limits).await
    }
}

impl Transport for HttpTransport {
    fn send<'a>(
        &'a self,
        destination: &'a ServerName,
        request: http::Request<Bytes>,
        limits: CallLimits,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, TransportError>> {
        let call = self.discover_and_send(destination, request, limits);
        Box::pin(async move {
            tokio::time::timeout(limits.deadline, call).await.unwrap_or(Err(TransportError::Deadline(limits.deadline)))
        })
    }

    fn send_unsigned(
        &self,
        request: http::Request<Bytes>,
        limits: CallLimits,
    ) -> BoxFuture<'_, Result<http::Response<Bytes>, TransportError>> {
        Box::pin(self.egress.send_unsigned(request, limits))
    }

    fn notify(
        &self,
        request: http::Request<Bytes>,
        limits: CallLimits,
    ) -> BoxFuture<'_, Result<http::Response<Bytes>, TransportError>> {
        Box::pin(self.egress.notify(request, limits))
    }

    fn notifies_without_tls(&self) -> bool {
        !self.egress.options().allow_private_push_gateways.is_empty()
    }

    fn stream<'a>(
        &'a self,
        destination: &'a ServerName,
        request: http::Request<Bytes>,
        limits: CallLimits,
    ) -> BoxFuture<'a, Result<http::Response<ByteStream>, TransportError>> {
        Box::pin(async move {
            let route = self.route(destination).await?;
            self.egress.stream(&route, request, limits).await
        })
    }

    fn fetch<'a>(
        &'a self,
        url: &'a str,
        limits: CallLimits,
    ) -> BoxFuture<'a, Result<http::Response<ByteStream>, TransportError>> {
        Box::pin(self.egress.fetch(url, limits))
    }
}

fn fetch_well_known(egress: Egress) -> FetchWellKnown {
    Arc::new(move |hostname| {
        let egress = egress.clone();
        Box::pin(async move {
            egress.get(&format!("https://{hostname}/.well-known/matrix/server"), CallLimits::WELL_KNOWN).await
        })
    })
}
