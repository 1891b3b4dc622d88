//! Buddies to chat with: an application service of its own, beside any homeserver, whose users answer with the help of a
//! language model, or by simple rules where there is none.
//!
//! What a bot says comes from a [`provider::Provider`]; everything else in this package is about when it may say it.

pub mod provider;
