//! `PUT /_matrix/client/v3/sendToDevice/{eventType}/{txnId}`

use ruma::{api::client::to_device::send_event_to_device::v3 as send_event_to_device, serde::Raw};

use crate::{Arguments, Door, Result};

pub(crate) async fn put(
    door: Door,
    asked: Arguments<send_event_to_device::Request>,
) -> Result<send_event_to_device::Response> {
    let Arguments { request, requester, .. } = asked;
    let messages = request.messages.into_iter().map(|(user_id, devices)| {
        let devices = devices.into_iter().map(|(device, content)| (device.to_string(), Raw::into_json(content)));
        (user_id, devices.collect())
    });
    let (event_type, transaction_id) = (request.event_type.to_string(), request.txn_id.to_string());
    door.engine.send_to_device(&requester, &event_type, &transaction_id, messages.collect()).await?;
    Ok(send_event_to_device::Response::new())
}
