//! Buddies to chat with: an application service of its own, beside any homeserver, whose users answer with the help of a
//! language model, or by simple rules where there is none.
//!
//! What a bot says comes from a [`provider::Provider`]; everything else in this package is about when it may say it.
//! [`providers::Completions`] asks them with patience, [`context`] decides what they are told, and [`budget`] what they
//! may cost.

pub mod budget;
pub mod context;
pub mod http;
pub mod provider;
pub mod providers;
