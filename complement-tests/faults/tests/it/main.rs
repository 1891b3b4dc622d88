//! Faults of the real binary.

mod devices;
mod kill;
