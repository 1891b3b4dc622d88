//! Universes that must hold, and replays that must be the same.

mod replay;
mod seeds;
