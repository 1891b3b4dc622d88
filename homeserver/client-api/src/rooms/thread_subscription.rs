//! `/_matrix/client/unstable/io.element.msc4306/rooms/{roomId}/thread/{eventId}/subscription`: whether the user follows a
//! thread.
//!
//! Proposal: <https://github.com/matrix-org/matrix-spec-proposals/pull/4306>

use engine::EngineError;
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId, api::auth_scheme::AccessToken};
use serde::{Deserialize, Serialize};

use crate::{
    Arguments, Door, Result,
    error::ApiError,
    json::Json,
    own_request::{Nothing, OwnRequest, own_request},
};

own_request!(
    /// Asks whether the user follows a thread.
    Get,
    GET "/_matrix/client/unstable/io.element.msc4306/rooms/{room_id}/thread/{event_id}/subscription",
    AccessToken
);

own_request!(
    /// Follows a thread.
    Put,
    PUT "/_matrix/client/unstable/io.element.msc4306/rooms/{room_id}/thread/{event_id}/subscription",
    AccessToken
);

own_request!(
    /// Follows a thread no more.
    Delete,
    DELETE "/_matrix/client/unstable/io.element.msc4306/rooms/{room_id}/thread/{event_id}/subscription",
    AccessToken
);

/// How a thread is followed.
#[derive(Serialize)]
pub(crate) struct Subscription {
    automatic: bool,
}

#[derive(Deserialize)]
struct Wish {
    /// The event for which a client does it of itself.
    automatic: Option<OwnedEventId>,
}

pub(crate) async fn get(door: Door, asked: Arguments<Get>) -> Result<Json<Subscription>> {
    let (room_id, thread_root) = thread(&asked.request)?;
    let automatic = door.engine.thread_subscription(&asked.requester, &room_id, &thread_root).await?;
    let text = "You do not follow this thread".to_owned();
    Ok(Json(Subscription { automatic: automatic.ok_or(EngineError::NotFound(text))? }))
}

pub(crate) async fn put(door: Door, asked: Arguments<Put>) -> Result<Json<Nothing>> {
    let (room_id, thread_root) = thread(&asked.request)?;
    let wish: Wish = serde_json::from_slice(&asked.body).map_err(|error| ApiError::bad_json(error.to_string()))?;
    let cause = wish.automatic.as_deref();
    door.engine.subscribe_to_thread(&asked.requester, &room_id, &thread_root, cause).await?;
    Ok(Json(Nothing {}))
}

pub(crate) async fn delete(door: Door, asked: Arguments<Delete>) -> Result<Json<Nothing>> {
    let (room_id, thread_root) = thread(&asked.request)?;
    door.engine.unsubscribe_from_thread(&asked.requester, &room_id, &thread_root).await?;
    Ok(Json(Nothing {}))
}

fn thread(request: &impl OwnRequest) -> Result<(OwnedRoomId, OwnedEventId)> {
    let room_id = RoomId::parse(request.parameter(0)).map_err(|error| ApiError::invalid_param(error.to_string()))?;
    let root = EventId::parse(request.parameter(1)).map_err(|error| ApiError::invalid_param(error.to_string()))?;
    Ok((room_id, root))
}
