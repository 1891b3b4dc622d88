//! `POST /_matrix/client/v1/appservice/{appserviceId}/ping`: whether we reach the application service that asks.

use ruma::api::client::appservice::request_ping::v1::{Request, Response};

use crate::{Arguments, Door, Result, error::ApiError};

pub(crate) async fn ping(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let refuse = || ApiError::forbidden("The access token is not that of an application service");
    let service = asked.service.ok_or_else(refuse)?;
    let transaction_id = asked.request.transaction_id.as_ref().map(|id| id.as_str());
    let duration = door.engine.ping_service(&service, &asked.request.appservice_id, transaction_id).await?;
    Ok(Response::new(duration))
}
