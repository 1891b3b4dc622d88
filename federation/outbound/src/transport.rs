//! The seam between what is said to another server and how it gets there.

use std::{io, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, stream, stream::BoxStream};
use ruma::ServerName;

/// Bytes that come piece by piece.
pub type ByteStream = BoxStream<'static, io::Result<Bytes>>;

/// Carries signed requests to other servers and their answers back.
pub trait Transport: Send + Sync + 'static {
    /// Sends one request, whose URI is a path and a query only, and reads the whole answer, of whatever status.
    /// Redirects are never followed.
    fn send<'a>(
        &'a self,
        destination: &'a ServerName,
        request: http::Request<Bytes>,
        limits: CallLimits,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, TransportError>>;

    /// Sends one request that is not signed to the `https` URL that it names, of a server that speaks another protocol,
    /// and reads the whole answer, of whatever status. Redirects are never followed. A transport that leads to Matrix
    /// servers only reaches none.
    fn send_unsigned(
        &self,
        request: http::Request<Bytes>,
        _limits: CallLimits,
    ) -> BoxFuture<'_, Result<http::Response<Bytes>, TransportError>> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        Box::pin(async move { Err(TransportError::Unreachable(format!("there is no way to {host}"))) })
    }

    /// The same, but the answer is read while it comes: for what is too large to be held in memory.
    fn stream<'a>(
        &'a self,
        destination: &'a ServerName,
        request: http::Request<Bytes>,
        limits: CallLimits,
    ) -> BoxFuture<'a, Result<http::Response<ByteStream>, TransportError>> {
        Box::pin(async move {
            let answer = self.send(destination, request, limits).await?;
            Ok(answer.map(|body| stream::once(async { Ok(body) }).boxed()))
        })
    }

    /// Asks for a page or a file of whatever server, `http:` or `https:`, without any authentication, and reads the
    /// answer while it comes. Redirects are never followed. Networks that know Matrix servers only have none.
    fn fetch<'a>(
        &'a self,
        _url: &'a str,
        _limits: CallLimits,
    ) -> BoxFuture<'a, Result<http::Response<ByteStream>, TransportError>> {
        Box::pin(async { Err(TransportError::Unreachable("there are no other servers in this network".to_owned())) })
    }

    /// Sends one request that is not signed to the URL of a push gateway, which a user has named, and reads the whole
    /// answer, of whatever status. Redirects are never followed.
    fn notify(
        &self,
        request: http::Request<Bytes>,
        limits: CallLimits,
    ) -> BoxFuture<'_, Result<http::Response<Bytes>, TransportError>> {
        self.send_unsigned(request, limits)
    }

    /// Whether there are push gateways that may be called without TLS.
    fn notifies_without_tls(&self) -> bool {
        false
    }
}

/// What one call may cost us, whatever the other side does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallLimits {
    /// The largest answer that is read.
    pub body_max_bytes: usize,
    /// From finding the server to the last byte of its answer.
    pub deadline: Duration,
}

const MIB: usize = 1024 * 1024;

impl CallLimits {
    /// A server has a handful of keys; a notary's answer for a batch of servers is some hundred kilobytes. Much waits
    /// for keys, and a server that is slow here is slow everywhere.
    pub const KEYS: Self = Self::new(MIB, 15);
    /// `{"m.server": "..."}`; the specification lets us stop at 50 KiB. It is a step of every other call, and must end
    /// before any of their deadlines, or its failure would never be remembered.
    pub const WELL_KNOWN: Self = Self::new(50 * 1024, 5);
    /// Per PDU an id and an error text. Receivers may work for a long time before they answer.
    pub const TRANSACTION: Self = Self::new(MIB, 60);
    /// One event of at most 64 KiB, in an envelope, with room for an `unsigned` that we drop.
    pub const EVENT: Self = Self::new(128 * 1024, 20);
    /// A template of one event; a client waits for it.
    pub const MAKE_MEMBERSHIP: Self = Self::new(128 * 1024, 20);
    /// The whole state of a room with its auth chain: the largest public rooms come to some hundred megabytes, and
    /// their servers need minutes to put it together.
    pub const SEND_JOIN: Self = Self::new(512 * MIB, 300);
    /// An empty object.
    pub const SEND_LEAVE: Self = Self::new(64 * 1024, 20);
    /// Some events of room state, at 64 KiB each.
    pub const SEND_KNOCK: Self = Self::new(MIB, 30);
    /// Our own event back, with one signature more.
    pub const INVITE: Self = Self::new(128 * 1024, 30);
    /// One signature. A client waits for it, and so does whoever wants to speak in the same room.
    pub const POLICY_SIGNATURE: Self = Self::new(16 * 1024, 10);
    /// At most some hundred events of at most 64 KiB, most of them far smaller.
    pub const BACKFILL: Self = Self::new(50 * MIB, 60);
    /// As backfill, but asked while a room waits for the answer.
    pub const MISSING_EVENTS: Self = Self::new(50 * MIB, 30);
    /// Two lists of ids of 44 characters, of the largest rooms: a million of them.
    pub const STATE_IDS: Self = Self::new(64 * MIB, 60);
    /// As `send_join`, which answers the same.
    pub const STATE: Self = Self::new(512 * MIB, 300);
    /// The ancestors of one event; a few hundred in practice.
    pub const EVENT_AUTH: Self = Self::new(50 * MIB, 60);
    /// Devices of some hundred users with their keys, of some kilobytes each; a client waits for it.
    pub const DEVICE_KEYS: Self = Self::new(32 * MIB, 30);
    /// A profile, or the servers of an alias; a client waits for it.
    pub const QUERY: Self = Self::new(256 * 1024, 15);

    /// A space with its rooms: thousands of stripped events for the largest. A client waits for it.
    pub const HIERARCHY: Self = Self::new(4 * MIB, 15);
    /// A few keys or ids; a client waits for it, and there are three such calls.
    pub const IDENTITY: Self = Self::new(64 * 1024, 10);
    /// Some hundred descriptions of rooms; a client waits for it.
    pub const PUBLIC_ROOMS: Self = Self::new(4 * MIB, 20);

    /// The pushkeys that a push gateway rejects, of those that it was just told of. Others wait for their turn.
    pub const PUSH: Self = Self::new(64 * 1024, 15);

    /// A page for a preview: what it says of itself stands at its beginning. A client waits for it.
    pub const PAGE: Self = Self::new(2 * MIB, 10);
    /// The image of a page.
    pub const PAGE_IMAGE: Self = Self::new(10 * MIB, 15);

    /// A medium of at most so many bytes, with what is around it. At 200 kB per second, 100 MB take eight minutes.
    pub(crate) const fn media(media_max_bytes: usize) -> Self {
        Self::new(media_max_bytes.saturating_add(128 * 1024), 600)
    }

    const fn new(body_max_bytes: usize, deadline_seconds: u64) -> Self {
        Self { body_max_bytes, deadline: Duration::from_secs(deadline_seconds) }
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum TransportError {
    /// The server was not found, cannot be connected to, shows no valid certificate, or broke off.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// The server is at an address that we do not connect to.
    #[error("{0}")]
    Denied(String),
    /// The answer is larger than the call allows.
    #[error("the answer is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// The call took too long.
    #[error("no complete answer within {} s", .0.as_secs())]
    Deadline(Duration),
}
