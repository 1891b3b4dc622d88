//! Faults of the real binary.

mod backup;
mod crowd;
mod database;
mod devices;
mod kill;
mod machine;
mod peers;
mod points;
mod refusals;
mod rows;
mod services;
mod tasks;
