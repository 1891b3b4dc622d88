//! `/_matrix/client/v3/rooms/{roomId}/...`

pub(crate) mod aliases;
pub(crate) mod ban;
pub(crate) mod context;
pub(crate) mod event;
pub(crate) mod forget;
pub(crate) mod hierarchy;
pub(crate) mod initial_sync;
pub(crate) mod invite;
pub(crate) mod join;
pub(crate) mod joined_members;
pub(crate) mod kick;
pub(crate) mod leave;
pub(crate) mod members;
pub(crate) mod messages;
pub(crate) mod read_markers;
pub(crate) mod receipt;
pub(crate) mod redact;
pub(crate) mod relations;
pub(crate) mod report;
pub(crate) mod send;
pub(crate) mod state;
pub(crate) mod thread_subscription;
pub(crate) mod threads;
pub(crate) mod timestamp_to_event;
pub(crate) mod typing;
pub(crate) mod unban;
pub(crate) mod upgrade;

use engine::ClientEvent;
use ruma::serde::Raw;

fn raw<T>(events: Vec<ClientEvent>) -> Vec<Raw<T>> {
    events.into_iter().map(ClientEvent::into_raw).collect()
}
