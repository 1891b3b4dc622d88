//! Push rules: which events notify whom, and how.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#push-rules>

pub mod defaults;
pub mod evaluate;
pub mod event;
pub mod names;
pub mod pattern;

pub use self::{
    defaults::default_rules,
    evaluate::{Outcome, PushRules, Recipient},
    event::PushEvent,
};
