//! A server under test on a database in memory, and fake homeservers that treat it badly. Each test is named after the
//! case of bad input that it tries.

mod acl;
mod edus;
mod encoding;
mod graph;
mod history;
mod ingress;
mod invite;
mod join;
mod keys;
mod routes;
mod send;
mod signed;
mod stage;
mod state;
