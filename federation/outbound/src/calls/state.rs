//! The state of a room before an event.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#retrieving-events>

use ruma::{EventId, OwnedEventId, RoomId, ServerName};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{CallError, Federation, path::Target};
use crate::CallLimits;

/// The answer to `state_ids`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct StateIdsAnswer {
    /// The state before the event.
    #[serde(deserialize_with = "ruma::serde::none_as_default")]
    pub pdu_ids: Vec<OwnedEventId>,
    /// Its ancestors.
    #[serde(deserialize_with = "ruma::serde::none_as_default")]
    pub auth_chain_ids: Vec<OwnedEventId>,
}

/// The answer to `state`.
#[derive(Clone, Debug, Deserialize)]
pub struct StateAnswer {
    /// The state before the event.
    #[serde(deserialize_with = "ruma::serde::none_as_default")]
    pub pdus: Vec<Box<RawValue>>,
    /// Its ancestors.
    #[serde(deserialize_with = "ruma::serde::none_as_default")]
    pub auth_chain: Vec<Box<RawValue>>,
}

impl Federation {
    /// The ids of the state before an event.
    pub async fn state_ids(
        &self,
        destination: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<StateIdsAnswer, CallError> {
        let target = Target::new("/_matrix/federation/v1/state_ids").segment(room_id.as_str());
        self.get(destination, target.query("event_id", event_id.as_str()), CallLimits::STATE_IDS).await
    }

    /// The state before an event.
    pub async fn state(
        &self,
        destination: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<StateAnswer, CallError> {
        let target = Target::new("/_matrix/federation/v1/state").segment(room_id.as_str());
        self.get(destination, target.query("event_id", event_id.as_str()), CallLimits::STATE).await
    }
}
