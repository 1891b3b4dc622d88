//! Faults of the real binary.

mod kill;
