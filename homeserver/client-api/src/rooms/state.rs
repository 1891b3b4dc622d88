//! `/_matrix/client/v3/rooms/{roomId}/state` and `/state/{eventType}/{stateKey}`

use engine::{DelayCommand, SendOptions};
use ruma::{
    api::client::state::{
        get_state_event_for_key::v3::{self as get_state_event, StateEventFormat},
        get_state_events::v3 as get_state_events,
        send_state_event::v3 as send_state_event,
    },
    events::AnyStateEvent,
    serde::Raw,
};
use serde_json::value::RawValue;

use super::raw;
use crate::{
    Arguments, Door, Result,
    delayed_events::{self, Sent},
    error::ApiError,
    json::{Json, Written},
    sticky_events,
};

pub(crate) async fn list(door: Door, asked: Arguments<get_state_events::Request>) -> Result<Written> {
    let state = door.engine.state(&asked.requester, &asked.request.room_id).await?;
    Written::large(&door, state.len(), move || get_state_events::Response::new(raw(state))).await
}

pub(crate) async fn get(door: Door, asked: Arguments<get_state_event::Request>) -> Result<get_state_event::Response> {
    let Arguments { request, requester, .. } = asked;
    let event = door
        .engine
        .state_event(&requester, &request.room_id, &request.event_type, &request.state_key)
        .await?
        .into_raw::<AnyStateEvent>();
    let shown = match request.format {
        StateEventFormat::Event => event.into_json(),
        StateEventFormat::Content => content(&event)?,
        _ => return Err(ApiError::invalid_param("`format` is `content` or `event`")),
    };
    Ok(get_state_event::Response::new(shown))
}

pub(crate) async fn put(door: Door, asked: Arguments<send_state_event::Request>) -> Result<Json<Sent>> {
    let origin_server_ts = asked.origin_server_ts()?;
    let Arguments { request, requester, query, .. } = asked;
    let sticky_duration_ms = sticky_events::duration_ms(&query)?;
    if let Some(delay_ms) = delayed_events::delay_ms(&query)? {
        let command = DelayCommand {
            room_id: request.room_id,
            event_type: request.event_type.to_string().into(),
            state_key: Some(request.state_key.clone()),
            content: request.body.into_json(),
            delay_ms,
            transaction_id: None,
            sticky_duration_ms,
        };
        return delayed_events::delay_event(&door, &requester, command).await;
    }
    let (room_id, event_type, state_key) = (&request.room_id, request.event_type, &request.state_key);
    let content = request.body.json();
    let options = SendOptions { sticky_duration_ms, origin_server_ts };
    let set = door.engine.set_sticky_state(&requester, room_id, event_type, state_key, content, options);
    Ok(Json(Sent::EventId(set.await?)))
}

fn content(event: &Raw<AnyStateEvent>) -> Result<Box<RawValue>> {
    let content = event.get_field::<Box<RawValue>>("content").map_err(ApiError::internal)?;
    content.ok_or_else(|| ApiError::internal("an event without content"))
}
