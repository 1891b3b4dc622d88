//! The homeserver as one program: configuration, command line, wiring, listeners, logs, metrics, and its end.
//!
//! The binary `nudge` is [`cli::run`].

mod backup;
mod bots;
pub mod cli;
mod commands;
pub mod configuration;
pub mod data_directory;
pub mod doors;
mod greeting;
mod health;
mod housekeeping;
pub mod listen;
mod logging;
mod media;
mod metrics;
mod open_files;
mod registration_token;
mod serve;
mod services;
pub mod signing_key;
pub mod stopping;
pub mod tls;
mod wiring;
pub mod world;
