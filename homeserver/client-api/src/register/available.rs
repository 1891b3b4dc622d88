//! `GET /_matrix/client/v3/register/available`

use ruma::api::client::account::get_username_availability::v3::{Request, Response};

use crate::{Door, Result, arguments::Open};

pub(crate) async fn available(door: Door, asked: Open<Request>) -> Result<Response> {
    door.engine.registration_check(Some(&asked.request.username)).await?;
    Ok(Response::new(true))
}
