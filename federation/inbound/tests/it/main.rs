//! A server under test on a database in memory, and fake homeservers that treat it badly. Each test is named after the
//! case of bad input that it tries.

#![expect(clippy::similar_names, reason = "the stage and the state of a room are what these tests are about")]
#![expect(clippy::items_after_statements, reason = "a type or an import that one case needs stands with that case")]

mod acl;
mod cut_off;
mod devices;
mod edus;
mod encoding;
mod floods;
mod graph;
mod guests;
mod history;
mod ingress;
mod invite;
mod join;
mod keys;
mod knock;
mod large;
mod media;
mod partial;
mod policy;
mod restricted;
mod room_check;
mod routes;
mod send;
mod set_aside;
mod signed;
mod spaces;
mod stage;
mod state;
mod sticky;
mod third_party;
mod times;
