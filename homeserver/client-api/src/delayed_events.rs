//! `/_matrix/client/unstable/org.matrix.msc4140/delayed_events`: events that are sent later.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4140>

use engine::{DelayAction, DelayCommand};
use ruma::api::auth_scheme::{AccessToken, NoAccessToken};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use storage::DelayedEvent;

use crate::{
    Arguments, Door, Result,
    arguments::Open,
    body::DELAY,
    error::ApiError,
    json::Json,
    own_request::{Nothing, OwnRequest, own_request},
    query, sticky_events,
};

/// What is sent now has an id already; what is sent later has the name by which to prevent it.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sent {
    /// The event.
    EventId(ruma::OwnedEventId),
    /// The event that waits.
    DelayId(String),
}

/// All of a user's events that wait.
#[derive(Serialize)]
pub(crate) struct Waiting {
    delayed_events: Vec<WaitingEvent>,
}

/// An event that waits.
#[derive(Serialize)]
pub(crate) struct WaitingEvent {
    delay_id: String,
    room_id: ruma::OwnedRoomId,
    #[serde(rename = "type")]
    event_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_key: Option<String>,
    content: Box<RawValue>,
    delay: u64,
    running_since: u64,
}

impl From<DelayedEvent> for WaitingEvent {
    fn from(event: DelayedEvent) -> Self {
        Self {
            delay_id: event.delay_id,
            room_id: event.room_id,
            event_type: event.event_type,
            state_key: event.state_key,
            content: event.content,
            delay: event.delay_ms,
            running_since: event.running_since_ts,
        }
    }
}

/// How long an event is to wait, in milliseconds, if it is.
pub(crate) fn delay_ms(query: &str) -> Result<Option<u64>> {
    let delay = query::parameter(query, DELAY)?;
    let delay = delay.map(|delay| delay.parse().map_err(|_| ApiError::invalid_param(format!("{DELAY} is no number"))));
    delay.transpose()
}

/// Keeps an event for later.
pub(crate) async fn delay_event(
    door: &Door,
    requester: &engine::Requester,
    command: DelayCommand,
) -> Result<Json<Sent>> {
    Ok(Json(Sent::DelayId(door.engine.delay(requester, command).await?)))
}

own_request!(
    /// Which events of the asker wait?
    List,
    GET "/_matrix/client/unstable/org.matrix.msc4140/delayed_events",
    AccessToken
);

own_request!(
    /// What of one event of the asker that waits?
    One,
    GET "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}",
    AccessToken
);

own_request!(
    /// Does something with an event that waits.
    Update,
    POST "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}/{action}",
    NoAccessToken
);

own_request!(
    /// Does something with an event that waits, as earlier drafts of the proposal had it.
    UpdateByBody,
    POST "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}",
    NoAccessToken
);

own_request!(
    /// Sends an event later, as later drafts of the proposal have it.
    Send,
    PUT "/_matrix/client/unstable/org.matrix.msc4140/rooms/{room_id}/delayed_event/{event_type}/{txn_id}",
    AccessToken
);

/// An event to be sent later.
#[derive(Deserialize)]
struct Later {
    delay: u64,
    state_key: Option<String>,
    content: Box<RawValue>,
}

#[derive(Deserialize)]
struct Action {
    action: String,
}

pub(crate) async fn list(door: Door, asked: Arguments<List>) -> Result<Json<Waiting>> {
    let events = door.engine.delayed_events(&asked.requester).await?;
    Ok(Json(Waiting { delayed_events: events.into_iter().map(Into::into).collect() }))
}

pub(crate) async fn one(door: Door, asked: Arguments<One>) -> Result<Json<WaitingEvent>> {
    Ok(Json(door.engine.delayed_event(&asked.requester, asked.request.parameter(0)).await?.into()))
}

pub(crate) async fn send(door: Door, asked: Arguments<Send>) -> Result<Json<Sent>> {
    let Arguments { request, requester, query, body, .. } = asked;
    let Later { delay, state_key, content } =
        serde_json::from_slice(&body).map_err(|error| ApiError::bad_json(error.to_string()))?;
    let room_id = request.parameter(0).try_into();
    let command = DelayCommand {
        room_id: room_id.map_err(|error: ruma::IdParseError| ApiError::invalid_param(error.to_string()))?,
        event_type: request.parameter(1).into(),
        state_key,
        content,
        delay_ms: delay,
        transaction_id: Some(request.parameter(2).to_owned()),
        sticky_duration_ms: sticky_events::duration_ms(&query)?,
    };
    delay_event(&door, &requester, command).await
}

pub(crate) async fn update(door: Door, asked: Open<Update>) -> Result<Json<Nothing>> {
    let action = action(asked.request.parameter(1)).ok_or(ApiError::Unrecognized)?;
    door.engine.update_delayed_event(asked.request.parameter(0), action).await?;
    Ok(Json(Nothing {}))
}

pub(crate) async fn update_by_body(door: Door, asked: Open<UpdateByBody>) -> Result<Json<Nothing>> {
    let asked_for: Action =
        serde_json::from_slice(&asked.body).map_err(|error| ApiError::bad_json(error.to_string()))?;
    let unknown = || ApiError::invalid_param("`action` is `cancel`, `restart` or `send`");
    let action = action(&asked_for.action).ok_or_else(unknown)?;
    door.engine.update_delayed_event(asked.request.parameter(0), action).await?;
    Ok(Json(Nothing {}))
}

fn action(name: &str) -> Option<DelayAction> {
    match name {
        "cancel" => Some(DelayAction::Cancel),
        "restart" => Some(DelayAction::Restart),
        "send" => Some(DelayAction::Send),
        _ => None,
    }
}
