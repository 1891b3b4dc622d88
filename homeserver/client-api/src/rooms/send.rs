//! `PUT /_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}`

use engine::{DelayCommand, SendCommand};
use ruma::api::client::message::send_message_event::v3::Request;

use crate::{
    Arguments, Door, Result,
    delayed_events::{self, Sent},
    json::Json,
};

pub(crate) async fn send(door: Door, asked: Arguments<Request>) -> Result<Json<Sent>> {
    let Arguments { request, requester, query, .. } = asked;
    let (room_id, event_type) = (request.room_id, request.event_type.into());
    let (content, transaction_id) = (request.body.into_json(), Some(request.txn_id.to_string()));
    if let Some(delay_ms) = delayed_events::delay_ms(&query)? {
        let command = DelayCommand { room_id, event_type, state_key: None, content, delay_ms, transaction_id };
        return delayed_events::delay(&door, &requester, command).await;
    }
    let command = SendCommand { room_id, event_type, content, transaction_id };
    Ok(Json(Sent::EventId(door.engine.send(&requester, command).await?)))
}
