//! Joining a room through a server that is in it.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>

use rules::Pdu;
use ruma::{OwnedServerName, RoomId, RoomVersionId, ServerName, UserId};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{CallError, Federation, Template};
use crate::CallLimits;

/// The answer to `send_join`: nothing of it is checked.
#[derive(Clone, Debug, Deserialize)]
pub struct SendJoinAnswer {
    /// The state before the join.
    #[serde(deserialize_with = "ruma::serde::none_as_default")]
    pub state: Vec<Box<RawValue>>,
    /// The ancestors of the state and the join.
    #[serde(deserialize_with = "ruma::serde::none_as_default")]
    pub auth_chain: Vec<Box<RawValue>>,
    /// Our event with the other server's signature, where it gave one.
    pub event: Option<Box<RawValue>>,
    /// Whether `state` lacks members.
    #[serde(default)]
    pub members_omitted: bool,
    /// The servers in the room before the join.
    pub servers_in_room: Option<Vec<OwnedServerName>>,
}

impl Federation {
    /// Asks for the template of a join event, naming the room versions that we know.
    pub async fn make_join(
        &self,
        destination: &ServerName,
        room_id: &RoomId,
        user_id: &UserId,
        versions: &[RoomVersionId],
    ) -> Result<Template, CallError> {
        self.template(destination, "make_join", room_id, user_id, versions).await
    }

    /// Hands in a signed join event and gets the state of the room; with `omit_members` maybe without its members.
    pub async fn send_join(
        &self,
        destination: &ServerName,
        event: &Pdu,
        omit_members: bool,
    ) -> Result<SendJoinAnswer, CallError> {
        let flag = omit_members.then_some("omit_members");
        self.hand_in(destination, "send_join", event, flag, CallLimits::SEND_JOIN).await
    }
}
