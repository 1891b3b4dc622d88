//! How bots converse: decisions without input or output, from what an event says and what is known of its room.

pub(crate) mod answer;
pub(crate) mod command;
pub(crate) mod event;
pub(crate) mod history;
pub(crate) mod limits;
pub(crate) mod markdown;
pub(crate) mod room;
pub(crate) mod trigger;
