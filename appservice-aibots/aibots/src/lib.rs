//! Buddies to chat with: an application service of its own, beside any homeserver, whose users answer with the help of a
//! language model, or by simple rules where there is none.
//!
//! What a bot says comes from a [`provider::Provider`]; everything else in this package is about when it may say it.
//! [`providers::Completions`] asks them with patience, [`context`] decides what they are told, [`tools`] what they may do,
//! and [`budget`] what they may cost. The service itself is [`start`]ed with a [`Configuration`].

mod avatar;
mod configuration;
mod conversation;
mod devices;
mod door;
mod listen;
mod matrix;
mod metrics_page;
mod names;
mod service;
mod store;
mod work;

pub mod budget;
pub mod context;
pub mod http;
pub mod provider;
pub mod providers;
pub mod registration;
pub mod system;
pub mod tools;

pub use configuration::{
    BotSettings, Configuration, ConfigurationError, ConversationSettings, HomeserverSettings, ServiceSettings,
};
pub use metrics_page::MetricsPage;
pub use service::{CheckError, Running, StartError, check, start, start_at};
