//! The real binary under faults: what the tests need to start it, talk to it, and hurt it.

pub mod client;
pub mod database;
pub mod server;

pub use self::{
    client::{Client, Sent},
    database::Database,
    server::Server,
};
