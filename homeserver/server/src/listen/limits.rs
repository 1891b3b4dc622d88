//! How patient and how roomy a listener is.

use std::time::Duration;

use crate::open_files::Shares;

/// Limits of one listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many connections may be open.
    pub connections_max: usize,
    /// How many of them to one address that is neither this machine nor a trusted proxy. A household or an office may
    /// share an address, and each of its clients keeps a few connections.
    pub connections_per_address_max: usize,
    /// From connecting, or from the end of the last answer, to the end of a request's head. It is also how long an
    /// idle connection is kept, since the first byte of a head cannot be told from its last by who waits for it.
    pub head_timeout: Duration,
    /// The same on connections from this machine and from trusted proxies. A proxy keeps idle connections for requests
    /// to come, and must be the one who closes them: what it sends while we close is lost, and its user sees an error.
    pub proxy_head_timeout: Duration,
    /// Between two pieces of a request's body.
    pub body_idle_timeout: Duration,
    /// For a whole request's body: a large transaction over a slow line.
    pub body_timeout: Duration,
    /// The same for a file: at 100 kB per second, 100 MB take a quarter of an hour.
    pub upload_timeout: Duration,
    /// How long the other end may leave an answer unread before the next piece of it.
    pub write_timeout: Duration,
    /// How long a request on HTTP/1 may wait before hyper's buffers are given back until there is an answer. Shorter is
    /// less memory, and more work for those who soon are answered.
    pub long_wait: Duration,
    /// How long an HTTP/2 connection is kept without a request.
    pub idle_timeout: Duration,
    /// For a TLS handshake.
    pub handshake_timeout: Duration,
    /// How long requests in flight may take to finish once the server stops.
    pub drain_timeout: Duration,
}

/// 10,000 long polls, and as many connections for all else.
const CONNECTIONS_MAX: usize = 20_000;

impl Limits {
    /// Limits for one of `listeners` that share this process's file descriptors.
    pub fn share(listeners: usize) -> Self {
        let each = Shares::of_process().callers / listeners.max(1);
        Self { connections_max: each.clamp(1, CONNECTIONS_MAX), ..Self::default() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: CONNECTIONS_MAX,
            connections_per_address_max: 256,
            head_timeout: Duration::from_secs(20),
            // Common ones keep them for one or two minutes.
            proxy_head_timeout: Duration::from_mins(3),
            body_idle_timeout: Duration::from_secs(20),
            body_timeout: Duration::from_mins(2),
            upload_timeout: Duration::from_mins(20),
            write_timeout: Duration::from_secs(30),
            long_wait: Duration::from_millis(500),
            idle_timeout: Duration::from_mins(2),
            handshake_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(8),
        }
    }
}
