//! What other servers send us and ask of us. Every event from outside passes [`verify`] and [`append`]: there is no
//! other way in.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/>

mod acl;
mod append;
mod asking;
mod backfill;
mod complete;
mod completing;
mod device_keys;
mod edus;
mod enter;
mod extremities;
mod hierarchy;
mod history;
mod invite;
mod join;
mod knock;
mod leave;
mod missing;
mod outliers;
mod queries;
mod receive;
mod replay;
mod replaying;
mod rescind;
mod resolution;
mod room_check;
mod set_aside;
mod state;
mod state_before;
mod third_party;
mod transaction;
mod verify;

pub(crate) use self::{
    append::Provenance,
    completing::Completing,
    invite::stripped_with,
    outliers::outlier_change,
    rescind::{rules_shown, servers_shown},
};
pub use self::{
    hierarchy::HierarchyReply,
    join::{JoinTemplate, SendJoinReply},
    room_check::{Comparison, RoomCheck, ServerCheck, StateDifference},
    state::{StateIdsReply, StateReply},
    third_party::BoundInvite,
    transaction::{PduOutcome, PduOutcomes},
};
