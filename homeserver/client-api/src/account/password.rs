//! `POST /_matrix/client/v3/account/password`

use engine::Requester;
use ruma::api::client::account::change_password::v3::{Request, Response};

use crate::{Arguments, Door, Result};

pub(crate) async fn password(door: Door, asked: Arguments<Request, Option<Requester>>) -> Result<Response> {
    let Arguments { request, requester, address, attempt, .. } = asked;
    let Some(requester) = requester else {
        let user_id = door.confirm_address(&attempt, address).await?;
        door.engine.change_password(&user_id, &request.new_password, None).await?;
        if request.logout_devices {
            door.engine.logout_all(&user_id).await?;
        }
        return Ok(Response::new());
    };
    door.confirm_password(&requester, &attempt, address).await?;
    let spared = request.logout_devices.then_some(&*requester.device_id);
    door.engine.change_password(&requester.user_id, &request.new_password, spared).await?;
    Ok(Response::new())
}
