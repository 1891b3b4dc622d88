//! The client door as its clients see it: requests in, replies out, over an engine with a database of its own.

mod account;
mod admin;
mod administration;
mod bodies;
mod calls;
mod conversation;
mod delayed;
mod guests;
mod interactive;
mod keys;
mod login;
mod mail;
mod parameters;
mod presence;
mod profile;
mod rates;
mod register;
mod relations;
mod routes;
mod search;
mod server;
mod signer;
mod strangers;
mod user_data;
