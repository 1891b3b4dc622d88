//! `PUT /_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}`

use engine::SendCommand;
use ruma::api::client::message::send_message_event::v3::{Request, Response};

use crate::{Arguments, Door, Result};

pub(crate) async fn send(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let request = asked.request;
    let command = SendCommand {
        room_id: request.room_id,
        event_type: request.event_type.into(),
        content: request.body.into_json(),
        transaction_id: Some(request.txn_id.to_string()),
    };
    Ok(Response::new(door.engine.send(&asked.requester, command).await?))
}
