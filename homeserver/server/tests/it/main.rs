//! The server as operators and strangers meet it.

mod binary;
mod configuration;
mod data_directory;
mod listen;
mod scene;
mod signing_key;
mod tls;
