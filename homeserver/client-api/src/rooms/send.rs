//! `PUT /_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}`

use engine::{DelayCommand, SendCommand, SendOptions};
use ruma::api::client::message::send_message_event::v3::Request;

use crate::{
    Arguments, Door, Result,
    delayed_events::{self, Sent},
    json::Json,
    sticky_events,
};

pub(crate) async fn send(door: Door, asked: Arguments<Request>) -> Result<Json<Sent>> {
    let origin_server_ts = asked.origin_server_ts()?;
    let Arguments { request, requester, query, .. } = asked;
    let (room_id, event_type) = (request.room_id, request.event_type.into());
    let (content, transaction_id) = (request.body.into_json(), Some(request.txn_id.to_string()));
    let sticky_duration_ms = sticky_events::duration_ms(&query)?;
    if let Some(delay_ms) = delayed_events::delay_ms(&query)? {
        let state_key = None;
        let command =
            DelayCommand { room_id, event_type, state_key, content, delay_ms, transaction_id, sticky_duration_ms };
        return delayed_events::delay_event(&door, &requester, command).await;
    }
    let command = SendCommand { room_id, event_type, content, transaction_id };
    let options = SendOptions { sticky_duration_ms, origin_server_ts };
    Ok(Json(Sent::EventId(door.engine.send_sticky(&requester, command, options).await?)))
}
