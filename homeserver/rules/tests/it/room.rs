//! Decisions about rooms.

mod advance;
mod authorise;
mod create;
mod member;
mod receive;
mod redact;
mod resolve;
mod send;
mod snapshot;
mod template;
