//! `POST /_matrix/client/v3/register`: the only way to a new account.

pub(crate) mod available;
pub(crate) mod token_validity;

use std::net::IpAddr;

use engine::{NewDevice, RegisterCommand, Registered, Registration};
use ruma::api::client::account::register::{
    LoginType, RegistrationKind,
    v3::{Request, Response},
};

use crate::{
    Door, Result, arguments::Open, error::ApiError, interactive::Attempt, login::milliseconds, rate_limits::Class,
};

pub(crate) async fn register(door: Door, asked: Open<Request>) -> Result<Response> {
    let Open { request, attempt, address, .. } = asked;
    check_kind(&request)?;
    let user_id = door.engine.registration_check(request.username.as_deref()).await?;
    let registration_token = confirm(&door, &attempt, address).await?;
    door.inner.rate_limits.take(Class::Register, address, door.now_ms())?;
    let command = RegisterCommand {
        user_id,
        password: request.password,
        device: NewDevice {
            device_id: request.device_id,
            display_name: request.initial_device_display_name,
            wants_refresh_token: request.refresh_token,
        },
        registration_token,
        guest: false,
        inhibit_login: request.inhibit_login,
    };
    Ok(reply(door.engine.register(command).await?))
}

fn check_kind(request: &Request) -> Result<()> {
    match (&request.kind, &request.login_type) {
        (RegistrationKind::User, None) => Ok(()),
        (RegistrationKind::Guest, _) => Err(ApiError::GuestForbidden),
        (RegistrationKind::User, Some(LoginType::ApplicationService)) => {
            Err(ApiError::forbidden("There are no application services here"))
        }
        _ => Err(ApiError::invalid_param("Unknown kind of registration")),
    }
}

/// The registration token, where one is asked for.
async fn confirm(door: &Door, attempt: &Attempt, address: IpAddr) -> Result<Option<String>> {
    match door.engine.settings().registration {
        Registration::Open => door.confirm_dummy(attempt).map(|()| None),
        Registration::Token => door.confirm_registration_token(attempt, address).await.map(Some),
        Registration::Closed => Err(ApiError::forbidden("Registration is disabled")),
    }
}

fn reply(registered: Registered) -> Response {
    let mut response = Response::new(registered.user_id);
    if let Some(session) = registered.session {
        response.access_token = Some(session.access_token);
        response.device_id = Some(session.device_id);
        response.refresh_token = session.refresh_token;
        response.expires_in = milliseconds(session.expires_in_ms);
    }
    response
}
