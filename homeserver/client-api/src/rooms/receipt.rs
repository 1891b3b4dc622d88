//! `POST /_matrix/client/v3/rooms/{roomId}/receipt/{receiptType}/{eventId}`

use ruma::{
    api::client::receipt::create_receipt::v3::{ReceiptType as Type, Request, Response},
    events::receipt::ReceiptType,
};

use crate::{Arguments, Door, Result, error::ApiError};

pub(crate) async fn receipt(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let Arguments { request, requester, .. } = asked;
    let (engine, room_id, event_id) = (&door.engine, &request.room_id, &request.event_id);
    let receipt_type = match request.receipt_type {
        Type::Read => ReceiptType::Read,
        Type::ReadPrivate => ReceiptType::ReadPrivate,
        Type::FullyRead => {
            engine.read_markers(&requester, room_id, Some(request.event_id), None, None).await?;
            return Ok(Response::new());
        }
        _ => return Err(ApiError::invalid_param("Unknown type of receipt")),
    };
    let thread_id = request.thread.as_str().map(ToOwned::to_owned);
    engine.receipt(&requester, room_id, receipt_type, event_id, thread_id).await?;
    Ok(Response::new())
}
