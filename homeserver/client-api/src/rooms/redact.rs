//! `PUT /_matrix/client/v3/rooms/{roomId}/redact/{eventId}/{txnId}`

use ruma::api::client::redact::redact_event::v3::{Request, Response};

use crate::{Arguments, Door, Result};

pub(crate) async fn redact(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let Arguments { request, requester, suspended, .. } = asked;
    if suspended {
        door.engine.require_own_event(&requester, &request.room_id, &request.event_id).await?;
    }
    let transaction_id = Some(request.txn_id.to_string());
    let event_id =
        door.engine.redact(&requester, &request.room_id, &request.event_id, request.reason, transaction_id).await?;
    Ok(Response::new(event_id))
}
