//! Knocking on a room through a server that is in it.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#knocking-upon-a-room>

use http::Method;
use rules::Pdu;
use ruma::{RoomId, RoomVersionId, ServerName, UserId};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{CallError, Federation, Template, exchange::event_body, path::Target};
use crate::CallLimits;

#[derive(Deserialize)]
struct Answer {
    #[serde(default, deserialize_with = "ruma::serde::none_as_default")]
    knock_room_state: Vec<Box<RawValue>>,
}

impl Federation {
    /// Asks for the template of a knock event, naming the room versions that we know.
    pub async fn make_knock(
        &self,
        destination: &ServerName,
        room_id: &RoomId,
        user_id: &UserId,
        versions: &[RoomVersionId],
    ) -> Result<Template, CallError> {
        self.template(destination, "make_knock", room_id, user_id, versions).await
    }

    /// Hands in a signed knock event and gets what the user is shown of the room; nothing of it is checked.
    pub async fn send_knock(&self, destination: &ServerName, event: &Pdu) -> Result<Vec<Box<RawValue>>, CallError> {
        let target = Target::new("/_matrix/federation/v1/send_knock");
        let target = target.segment(event.room_id.as_str()).segment(event.event_id.as_str());
        let body = event_body(&event.json)?;
        let Answer { knock_room_state } =
            self.call(destination, Method::PUT, target, Some(body), CallLimits::SEND_KNOCK).await?;
        Ok(knock_room_state)
    }
}
