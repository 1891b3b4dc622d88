//! Invitations of e-mail addresses and the like.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#third-party-invites>

use axum::extract::State;
use engine::BoundInvite;
use ruma::{CanonicalJsonObject, OwnedRoomId, OwnedUserId};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Door,
    error::DoorError,
    reply::Json,
    request::{Ask, Open},
    signed::Federation,
};

/// The request, of which ruma's type would keep less than what was signed.
pub(crate) struct Exchange {
    room_id: OwnedRoomId,
    body: Body,
}

#[derive(Deserialize)]
struct Body {
    #[serde(rename = "type")]
    event_type: String,
    room_id: OwnedRoomId,
    sender: OwnedUserId,
    state_key: OwnedUserId,
    content: Content,
}

#[derive(Deserialize)]
struct Content {
    membership: String,
    third_party_invite: CanonicalJsonObject,
}

impl Ask for Exchange {
    fn read(request: http::Request<&[u8]>, arguments: &[&str]) -> Result<Self, DoorError> {
        let &[room_id] = arguments else {
            return Err(DoorError::Internal("the route has no room id".to_owned()));
        };
        let room_id =
            room_id.try_into().map_err(|error: ruma::IdParseError| DoorError::InvalidParam(error.to_string()))?;
        let body = serde_json::from_slice(request.body()).map_err(|error| DoorError::from_json(&error))?;
        Ok(Self { room_id, body })
    }
}

/// What an identity server tells us: an address belongs to a user of ours, and has been invited before.
#[derive(Deserialize)]
pub(crate) struct Bound {
    mxid: OwnedUserId,
    #[serde(default, deserialize_with = "ruma::serde::none_as_default")]
    invites: Vec<Invite>,
}

#[derive(Deserialize)]
struct Invite {
    room_id: OwnedRoomId,
    sender: OwnedUserId,
    signed: CanonicalJsonObject,
}

impl Ask for Bound {
    fn read(request: http::Request<&[u8]>, _: &[&str]) -> Result<Self, DoorError> {
        serde_json::from_slice(request.body()).map_err(|error| DoorError::from_json(&error))
    }
}

pub(crate) async fn bound(State(door): State<Door>, Open(asked): Open<Bound>) -> Result<Json<Value>, DoorError> {
    let invites = asked.invites.into_iter();
    let invites = invites.map(|Invite { room_id, sender, signed }| BoundInvite { room_id, sender, signed });
    door.engine.address_bound(&asked.mxid, invites.collect()).await?;
    Ok(Json(json!({})))
}

pub(crate) async fn exchange(
    State(door): State<Door>,
    Federation { origin, body }: Federation<Exchange>,
) -> Result<Json<Value>, DoorError> {
    let Exchange { room_id, body } = body;
    let Body { event_type, room_id: named, sender, state_key, content } = body;
    if event_type != "m.room.member" || content.membership != "invite" || named != room_id {
        return Err(DoorError::Refused);
    }
    let invite = &content.third_party_invite;
    let made = door.engine.federation_exchange_third_party_invite(&origin, &room_id, &sender, &state_key, invite).await;
    made.map_err(DoorError::refused)?;
    Ok(Json(json!({})))
}
