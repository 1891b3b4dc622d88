//! Many servers in one process, one seeded network between them, seeded users who use them.
//!
//! A [`run`] builds a universe out of a number, lets its users do something step by step while the network loses,
//! repeats and delays what servers say to each other, heals the network, waits until all is quiet, and then checks what
//! must hold: the same state of each room everywhere, every event once and in order for everyone who may see it,
//! nothing for those who may not, nothing left in queues. The same number gives the same universe again.
//!
//! What the simulator does it does one after the other, on one thread, with a clock of its own; timers stand still.

#![expect(clippy::missing_panics_doc, reason = "a simulation that cannot go on has failed")]
#![expect(clippy::format_push_string, clippy::format_collect, reason = "texts for people, made once")]

mod actions;
mod check;
mod client;
mod clock;
mod dice;
mod homeserver;
mod network;
mod run;
mod settle;
mod trace;
mod universe;

use std::fmt;

pub use self::run::{Options, Report, run, run_all};

/// Something went wrong that must not, whatever the network does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure(pub(crate) String);

impl Failure {
    pub(crate) fn new(text: impl fmt::Display) -> Self {
        Self(text.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl From<engine::EngineError> for Failure {
    fn from(error: engine::EngineError) -> Self {
        Self(format!("the engine failed: {error:?}"))
    }
}

impl From<storage::StorageError> for Failure {
    fn from(error: storage::StorageError) -> Self {
        Self(format!("storage failed: {error:?}"))
    }
}
