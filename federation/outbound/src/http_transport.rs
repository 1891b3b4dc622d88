//! x
use bytes::Bytes;
use futures_util::future::BoxFuture;
use rules::world::World;
use ruma::{OwnedServerName, ServerName};

use crate::{CallLimits, EgressError, EgressOptions, Transport, TransportError};

/// Carries requests over HTTPS, after server discovery.
pub struct HttpTransport {}

impl HttpTransport {
    /// A transport for the given server, resolving names as the system is configured to. Call within a Tokio runtime.
    pub fn new(options: EgressOptions, server_name: OwnedServerName, world: World) -> Result<Self, EgressError> {
        todo!()
    }
}

impl Transport for HttpTransport {
    fn send<'a>(
        &'a self,
        destination: &'a ServerName,
        request: http::Request<Bytes>,
        limits: CallLimits,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, TransportError>> {
        todo!()
    }
}
