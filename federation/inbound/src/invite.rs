//! Invites for our users.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#inviting-to-a-room>

use axum::extract::State;
use ruma::{OwnedEventId, OwnedRoomId, RoomVersionId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    Door,
    error::DoorError,
    reply::Json,
    request::{Ask, PutEvent},
    signed::Federation,
};

/// The second version of the endpoint. Other than ruma's type it leaves it to the engine which of the events of
/// `invite_room_state` are worth keeping.
pub(crate) struct Invite {
    room_id: OwnedRoomId,
    event_id: OwnedEventId,
    body: Body,
}

#[derive(Deserialize)]
struct Body {
    room_version: RoomVersionId,
    event: Box<RawValue>,
    #[serde(default)]
    invite_room_state: Option<Box<RawValue>>,
}

impl Ask for Invite {
    fn read(request: http::Request<&[u8]>, arguments: &[&str]) -> Result<Self, DoorError> {
        let PutEvent { room_id, event_id, event } = PutEvent::read(request, arguments)?;
        let body = serde_json::from_str(event.get()).map_err(|error| DoorError::from_json(&error))?;
        Ok(Self { room_id, event_id, body })
    }
}

/// The invite with our signature.
#[derive(Serialize)]
pub(crate) struct Signed {
    event: Box<RawValue>,
}

pub(crate) async fn put_v2(
    State(door): State<Door>,
    Federation { origin, body }: Federation<Invite>,
) -> Result<Json<Signed>, DoorError> {
    let Invite { room_id, event_id, body } = body;
    let state = list(body.invite_room_state.as_deref());
    let event =
        door.engine.federation_invite(&origin, &room_id, &event_id, &body.room_version, &body.event, &state).await?;
    Ok(Json(Signed { event }))
}

/// What the first version says besides the event.
#[derive(Default, Deserialize)]
struct Envelope {
    #[serde(default)]
    unsigned: Unsigned,
}

#[derive(Default, Deserialize)]
struct Unsigned {
    #[serde(default)]
    invite_room_state: Option<Box<RawValue>>,
}

/// The first version names no room version. It is for rooms of versions 1 and 2, whose events have the same form.
pub(crate) async fn put_v1(
    State(door): State<Door>,
    Federation { origin, body }: Federation<PutEvent>,
) -> Result<Json<(u16, Signed)>, DoorError> {
    let envelope: Envelope = serde_json::from_str(body.event.get()).unwrap_or_default();
    let state = list(envelope.unsigned.invite_room_state.as_deref());
    let PutEvent { room_id, event_id, event } = body;
    let event = door.engine.federation_invite(&origin, &room_id, &event_id, &RoomVersionId::V1, &event, &state).await?;
    Ok(Json((200, Signed { event })))
}

/// The events of a list; none when it is not one.
fn list(json: Option<&RawValue>) -> Vec<Box<RawValue>> {
    json.and_then(|json| serde_json::from_str(json.get()).ok()).unwrap_or_default()
}
