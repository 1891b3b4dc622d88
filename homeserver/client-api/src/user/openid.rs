//! `POST /_matrix/client/v3/user/{userId}/openid/request_token`

use std::time::Duration;

use ruma::{
    api::client::account::request_openid_token::v3::{Request, Response},
    authentication::TokenType,
};

use crate::{Arguments, Door, Result};

pub(crate) async fn request_token(door: Door, asked: Arguments<Request>) -> Result<Response> {
    let (token, lifetime_ms) = door.engine.create_open_id_token(&asked.requester.user_id).await?;
    let server_name = door.engine.server_name().to_owned();
    Ok(Response::new(token, TokenType::Bearer, server_name, Duration::from_millis(lifetime_ms)))
}
