//! x
use std::{collections::HashMap, net::SocketAddr};

use ruma::OwnedServerName;

pub mod policy;

pub use self::policy::Network;

/// How to reach the outside.
#[derive(Clone, Debug, Default)]
pub struct EgressOptions {
    /// Certificate authorities to trust besides those of the operating system, each text with one or more in PEM.
    pub extra_root_certificates_pem: Vec<Vec<u8>>,
    /// Servers to be reached at a fixed address, without discovery; the names for `Host` and certificate remain.
    pub overrides: HashMap<OwnedServerName, SocketAddr>,
    /// Ranges of addresses that would be refused otherwise, such as `10.0.0.0/8`.
    pub allow_private_addresses: Vec<Network>,
    /// What we call ourselves.
    pub user_agent: String,
}

/// Why the client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// A configured certificate authority cannot be read.
    #[error("certificate {index} of the extra root certificates is not understood: {reason}")]
    Certificate {
        /// Which text, counted from 0.
        index: usize,
        /// What is wrong.
        reason: String,
    },
    /// TLS or HTTP cannot be set up.
    #[error("cannot set up the HTTP client: {0}")]
    Client(String),
    /// The system's name resolution cannot be set up.
    #[error("cannot set up name resolution from the system's configuration: {0}")]
    Resolver(String),
}

/// The one HTTP client.
#[derive(Clone)]
pub struct Egress {}
