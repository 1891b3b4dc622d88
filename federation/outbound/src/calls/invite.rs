//! Inviting a user of another server.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#inviting-to-a-room>

use http::Method;
use rules::Pdu;
use ruma::{CanonicalJsonObject, CanonicalJsonValue, RoomVersionId, ServerName};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    CallError, Federation,
    exchange::event_body,
    membership::{WithStatus, canonical},
    path::Target,
};
use crate::CallLimits;

#[derive(Deserialize)]
struct Answer {
    event: Box<RawValue>,
}

impl Federation {
    /// Hands an invite for one of its users to a server, and gets it back with that server's signature.
    pub async fn invite(
        &self,
        destination: &ServerName,
        event: &Pdu,
        room_version: &RoomVersionId,
        invite_room_state: &[Box<RawValue>],
    ) -> Result<Box<RawValue>, CallError> {
        let state: Vec<_> = invite_room_state.iter().map(|event| canonical(event)).collect::<Result<_, _>>()?;
        let state = CanonicalJsonValue::Array(state);
        let body = event_body(&event.json)?;
        match self.invite_v2(destination, event, room_version, body.clone(), state.clone()).await {
            Err(error) if error.is_unknown_endpoint() && has_v1(room_version) => {
                self.invite_v1(destination, event, body, state).await
            }
            answer => answer,
        }
    }

    async fn invite_v2(
        &self,
        destination: &ServerName,
        event: &Pdu,
        room_version: &RoomVersionId,
        event_body: CanonicalJsonObject,
        state: CanonicalJsonValue,
    ) -> Result<Box<RawValue>, CallError> {
        let body = CanonicalJsonObject::from([
            ("room_version".to_owned(), CanonicalJsonValue::String(room_version.to_string())),
            ("event".to_owned(), CanonicalJsonValue::Object(event_body)),
            ("invite_room_state".to_owned(), state),
        ]);
        let answer: Answer =
            self.call(destination, Method::PUT, target("v2", event), Some(body), CallLimits::INVITE).await?;
        Ok(answer.event)
    }

    /// The body is the event itself, with the state in its `unsigned`.
    async fn invite_v1(
        &self,
        destination: &ServerName,
        event: &Pdu,
        mut body: CanonicalJsonObject,
        state: CanonicalJsonValue,
    ) -> Result<Box<RawValue>, CallError> {
        let unsigned = CanonicalJsonObject::from([("invite_room_state".to_owned(), state)]);
        body.insert("unsigned".to_owned(), CanonicalJsonValue::Object(unsigned));
        let WithStatus(_, answer): WithStatus<Answer> =
            self.call(destination, Method::PUT, target("v1", event), Some(body), CallLimits::INVITE).await?;
        Ok(answer.event)
    }
}

/// Version 1 of the endpoint does not say which version the room has.
fn has_v1(room_version: &RoomVersionId) -> bool {
    matches!(room_version, RoomVersionId::V1 | RoomVersionId::V2)
}

fn target(version: &str, event: &Pdu) -> Target {
    let path = Target::new(&format!("/_matrix/federation/{version}/invite"));
    path.segment(event.room_id.as_str()).segment(event.event_id.as_str())
}
