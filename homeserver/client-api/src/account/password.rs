//! `POST /_matrix/client/v3/account/password`

use ruma::api::client::account::change_password::v3::{Request, Response};

use crate::{Arguments, Door, Result};

pub(crate) async fn password(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let Arguments { request, requester, address, attempt } = asked;
    door.confirm_password(&requester, &attempt, address).await?;
    let spared = request.logout_devices.then_some(&*requester.device_id);
    door.engine.change_password(&requester.user_id, &request.new_password, spared).await?;
    Ok(Response::new())
}
