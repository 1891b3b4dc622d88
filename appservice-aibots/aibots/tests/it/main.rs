//! The service beside a small double of a homeserver.

mod conversations;
mod double;
mod models;
