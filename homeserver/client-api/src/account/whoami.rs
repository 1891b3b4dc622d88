//! `GET /_matrix/client/v3/account/whoami`

use ruma::api::client::account::whoami::v3::{Request, Response};

use crate::{Arguments, Door, Result};

pub(crate) async fn whoami(_: Door, asked: Arguments<Request>) -> Result<Response> {
    let device_id = asked.requester.has_device().then_some(asked.requester.device_id);
    let mut response = Response::new(asked.requester.user_id, asked.guest);
    response.device_id = device_id;
    Ok(response)
}
