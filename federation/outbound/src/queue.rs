//! x
use ruma::{OwnedServerName, ServerName};
use serde_json::value::RawValue;
use storage::StorageError;

use crate::Federation;

/// How patient the sender is.
#[derive(Clone, Copy, Debug)]
pub struct SenderOptions {
    /// How long to wait after the first failure; doubles with each further one.
    pub backoff_base_ms: u64,
    /// The longest wait.
    pub backoff_max_ms: u64,
    /// How many destinations are sent to at the same time.
    pub workers_max: usize,
}

impl Default for SenderOptions {
    fn default() -> Self {
        // A restart of the other server is over within seconds; one that is gone costs a connection attempt an hour.
        Self { backoff_base_ms: 2_000, backoff_max_ms: 3_600_000, workers_max: 256 }
    }
}

/// An ephemeral message as it stands in a transaction.
#[derive(Clone, Debug)]
pub struct EduJson {
    /// Such as `m.typing`.
    pub edu_type: String,
    /// The content.
    pub content: Box<RawValue>,
}

/// What became of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushOutcome {
    /// A transaction was delivered.
    Sent {
        /// Whether something is left to be sent.
        more: bool,
    },
    /// There is nothing to send.
    Idle,
    /// It is too early to try again.
    BackingOff {
        /// When to try again, in milliseconds since the epoch.
        until_ms: u64,
    },
    /// The attempt failed.
    Failed,
}

/// Delivers what the log has for other servers. Cloning shares it.
#[derive(Clone)]
pub struct Sender {}

impl Sender {
    /// Starts nothing; see [`Sender::run`].
    pub fn new(federation: Federation, options: SenderOptions) -> Self {
        todo!()
    }

    /// Follows the log and delivers until `shutdown` is done. What is in flight then is sent again after the restart,
    /// under the same transaction id.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        todo!()
    }

    /// Makes exactly one attempt to send one transaction to a server.
    pub async fn flush(&self, destination: &ServerName) -> Result<FlushOutcome, StorageError> {
        todo!()
    }

    /// The servers that something is waiting for.
    pub async fn pending(&self) -> Result<Vec<OwnedServerName>, StorageError> {
        todo!()
    }

    /// Hears that a server has made an authenticated request: if we were waiting to try it again, now is the time.
    pub async fn contact(&self, server: &ServerName) {
        todo!()
    }

    /// Sends something that is worth nothing later, at most once. A later one with the same key replaces it.
    pub fn queue_ephemeral(&self, servers: Vec<OwnedServerName>, key: String, edu: EduJson) {
        todo!()
    }
}
