//! `POST /_matrix/client/v3/account/deactivate`

use ruma::api::client::account::{
    ThirdPartyIdRemovalStatus,
    deactivate::v3::{Request, Response},
};

use crate::{Arguments, Door, Result};

pub(crate) async fn deactivate(door: Door, asked: Arguments<Request>) -> Result<Response> {
    door.confirm_password(&asked.requester, &asked.attempt, asked.address).await?;
    door.engine.deactivate(&asked.requester.user_id).await?;
    Ok(Response::new(ThirdPartyIdRemovalStatus::NoSupport))
}
