//! Who is notified of what: push rules, the notifications that follow from them, and what is left unread.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#push-notifications>

mod audience;
mod counts;
mod delivery;
mod mute;
mod notifications;
mod notify;
mod preferences;
mod pushers;
mod rules;
mod upgrade;

pub(crate) use self::{
    audience::Audience,
    counts::shown,
    mute::MUTE_UNTIL,
    notify::all_read,
    preferences::Push,
    rules::{PUSH_RULES, shown_rules},
    upgrade::Movers,
};
pub use self::{
    counts::Unread,
    notifications::{NotificationsPage, NotificationsQuery, Told},
    pushers::PusherCommand,
};
