//! Faults of the real binary.

mod backup;
mod devices;
mod kill;
mod machine;
mod services;
