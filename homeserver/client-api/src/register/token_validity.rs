//! `GET /_matrix/client/v1/register/m.login.registration_token/validity`

use engine::Registration;
use ruma::api::client::account::check_registration_token_validity::v1::{Request, Response};

use crate::{Door, Result, arguments::Open, error::ApiError};

pub(crate) async fn token_validity(door: Door, asked: Open<Request>) -> Result<Response> {
    if door.engine.settings().registration != Registration::Token {
        return Err(ApiError::forbidden("Registration with tokens is disabled"));
    }
    Ok(Response::new(door.engine.registration_token_valid(&asked.request.token).await?))
}
