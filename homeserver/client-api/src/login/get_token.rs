//! `POST /_matrix/client/v1/login/get_token`

use std::time::Duration;

use ruma::api::client::session::get_login_token::v1::{Request, Response};

use crate::{Arguments, Door, Result, error::ApiError};

pub(crate) async fn get_token(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let Arguments { requester, address, attempt, .. } = asked;
    if !door.engine.settings().accounts.login_tokens {
        return Err(ApiError::Unrecognized);
    }
    door.confirm_password(&requester, &attempt, address).await?;
    let (token, lifetime_ms) = door.engine.create_login_token(&requester.user_id).await?;
    Ok(Response::new(Duration::from_millis(lifetime_ms), token))
}
