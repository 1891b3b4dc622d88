//! `GET /_matrix/client/v3/account/whoami`

use ruma::api::client::account::whoami::v3::{Request, Response};

use crate::{Arguments, Door, Result};

pub(crate) async fn whoami(_: Door, asked: Arguments<Request>) -> Result<Response> {
    let mut response = Response::new(asked.requester.user_id, asked.guest);
    response.device_id = Some(asked.requester.device_id);
    Ok(response)
}
