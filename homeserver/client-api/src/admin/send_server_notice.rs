//! `POST /_synapse/admin/v1/send_server_notice` and `PUT .../send_server_notice/{txnId}`: the server says something to a
//! user.

use ruma::{OwnedUserId, api::auth_scheme::AccessToken, events::TimelineEventType};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    Arguments, Door, Result,
    delayed_events::Sent,
    error::ApiError,
    json::Json,
    own_request::{OwnRequest, own_request},
};

own_request!(
    /// Says something to a user.
    Once,
    POST "/_synapse/admin/v1/send_server_notice",
    AccessToken
);

own_request!(
    /// Says something to a user, once however often it is asked for.
    ByTransaction,
    PUT "/_synapse/admin/v1/send_server_notice/{txn_id}",
    AccessToken
);

#[derive(Deserialize)]
struct Notice {
    user_id: OwnedUserId,
    /// A message, if not said otherwise.
    #[serde(rename = "type")]
    event_type: Option<TimelineEventType>,
    content: Box<RawValue>,
}

pub(crate) async fn send(door: Door, asked: Arguments<Once>) -> Result<Json<Sent>> {
    say(&door, &asked.requester, &asked.body, None).await
}

pub(crate) async fn send_by_transaction(door: Door, asked: Arguments<ByTransaction>) -> Result<Json<Sent>> {
    let transaction_id = Some(asked.request.parameter(0).to_owned());
    say(&door, &asked.requester, &asked.body, transaction_id).await
}

async fn say(
    door: &Door,
    requester: &engine::Requester,
    body: &[u8],
    transaction_id: Option<String>,
) -> Result<Json<Sent>> {
    if !door.engine.is_admin(&requester.user_id).await? {
        return Err(ApiError::forbidden("Only administrators may do that"));
    }
    let notice: Notice = serde_json::from_slice(body).map_err(|error| ApiError::bad_json(error.to_string()))?;
    let event_type = notice.event_type.unwrap_or(TimelineEventType::RoomMessage);
    let (target, content) = (&notice.user_id, notice.content);
    let event_id = door.engine.send_server_notice(requester, target, event_type, content, transaction_id).await?;
    Ok(Json(Sent::EventId(event_id)))
}
