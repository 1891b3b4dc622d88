//! What a room is, and which rooms are in it.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#spaces>

use ruma::{RoomId, ServerName};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{CallError, Federation, path::Target};
use crate::CallLimits;

/// The answer to a question about a space: nothing of it is checked.
#[derive(Clone, Debug, Deserialize)]
pub struct HierarchyAnswer {
    /// The room, with `children_state`.
    pub room: Box<RawValue>,
    /// Those of its rooms that the server knows.
    #[serde(default, deserialize_with = "ruma::serde::none_as_default")]
    pub children: Vec<Box<RawValue>>,
    /// The ids of those of its rooms that nobody will tell us of.
    #[serde(default)]
    pub inaccessible_children: Value,
}

impl Federation {
    /// Asks what a room is, and which rooms are in it.
    pub async fn hierarchy(
        &self,
        destination: &ServerName,
        room_id: &RoomId,
        suggested_only: bool,
    ) -> Result<HierarchyAnswer, CallError> {
        let target = Target::new("/_matrix/federation/v1/hierarchy").segment(room_id.as_str());
        let target = target.query("suggested_only", if suggested_only { "true" } else { "false" });
        self.get(destination, target, CallLimits::HIERARCHY).await
    }
}
