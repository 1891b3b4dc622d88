//! Tests of the engine from outside: one server with a database in memory, a clock to be turned by hand, and no other
//! servers.

extern crate homeserver_engine as engine;

mod push;
mod rooms;
mod stage;
mod sync;
