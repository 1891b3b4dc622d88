//! The real binary under faults: what the tests need to start it, talk to it, and hurt it.

#![expect(clippy::missing_panics_doc, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "these calls go to the server under test, on the loopback")]

pub mod calls;
pub mod ceiling;
pub mod client;
pub mod database;
pub mod proxy;
pub mod server;

use std::time::Duration;

pub use self::{
    calls::FailingCalls,
    ceiling::Ceiling,
    client::{Client, Sent},
    database::Database,
    proxy::{Proxy, Weather},
    server::Server,
};

/// How long a server may take to come back to itself once a fault has passed. Generous: the machine may be busy.
pub const RECOVERY: Duration = Duration::from_mins(2);

/// The variable that asks for the long form of the tests. Servers do not get to see it: they take no setting that they do
/// not know.
const LONG: &str = "NUDGE_FAULTS_LONG";

/// Whether the long form of the tests is asked for: faults as long and as many as in life.
pub fn is_long() -> bool {
    std::env::var_os(LONG).is_some()
}
