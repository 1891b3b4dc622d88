//! The decisions of the homeserver: facts in, [`Change`]s out. No IO, no async, no clock, no randomness.
//!
//! Time, random numbers and keys are arguments; iteration order is deterministic. What is decided here becomes true
//! when `storage` commits the changes.

pub mod change;
pub mod event;
pub mod keys;
pub mod pdu;
pub mod push;
pub mod room;
pub mod world;

pub use self::{
    change::Change,
    pdu::{Pdu, PduError},
    room::RoomSnapshot,
};
