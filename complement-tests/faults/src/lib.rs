//! The real binary under faults: what the tests need to start it, talk to it, and hurt it.

#![expect(clippy::missing_panics_doc, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "these calls go to the server under test, on the loopback")]

pub mod client;
pub mod database;
pub mod server;

pub use self::{
    client::{Client, Sent},
    database::Database,
    server::Server,
};
