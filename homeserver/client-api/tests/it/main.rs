//! The client door as its clients see it: requests in, replies out, over an engine with a database of its own.

mod account;
mod administration;
mod bodies;
mod conversation;
mod interactive;
mod keys;
mod login;
mod parameters;
mod rates;
mod register;
mod routes;
mod server;
mod signer;
mod strangers;
