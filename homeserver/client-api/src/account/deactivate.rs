//! `POST /_matrix/client/v3/account/deactivate`

use engine::Requester;
use ruma::api::client::account::{
    ThirdPartyIdRemovalStatus,
    deactivate::v3::{Request, Response},
};

use crate::{Arguments, Door, Result};

pub(crate) async fn deactivate(door: Door, asked: Arguments<Request, Option<Requester>>) -> Result<Response> {
    let Arguments { request, requester, address, attempt, .. } = asked;
    let user_id = match requester {
        Some(requester) => {
            door.confirm_password(&requester, &attempt, address).await?;
            requester.user_id
        }
        None => door.confirm_address(&attempt, address).await?,
    };
    door.engine.deactivate(&user_id, request.erase).await?;
    // No address was ever made known to an identity server, so there is none to take it back from.
    Ok(Response::new(ThirdPartyIdRemovalStatus::Success))
}
