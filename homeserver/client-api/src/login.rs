//! `/_matrix/client/v3/login`

use std::time::Duration;

use engine::{EngineError, NewDevice};
use ruma::{
    UserId,
    api::client::{
        session::{
            get_login_types::v3 as get_login_types,
            login::v3::{LoginInfo, Password, Request, Response},
        },
        uiaa::UserIdentifier,
    },
    serde::JsonObject,
};

use crate::{Door, Result, arguments::Open, error::ApiError, rate_limits::Class};

pub(crate) async fn types(_: Door, _: Open<get_login_types::Request>) -> Result<get_login_types::Response> {
    let password = get_login_types::LoginType::Password(get_login_types::PasswordLoginType::new());
    Ok(get_login_types::Response::new(vec![password]))
}

/// ruma panics where there is no `type`.
pub(crate) fn require_type(body: &mut JsonObject) -> Result<()> {
    if body.contains_key("type") {
        Ok(())
    } else {
        Err(EngineError::MissingParam("There is no `type` of login".to_owned()).into())
    }
}

pub(crate) async fn login(door: Door, asked: Open<Request>) -> Result<Response> {
    let Open { request, address, .. } = asked;
    let LoginInfo::Password(info) = request.login_info else {
        return Err(ApiError::invalid_param("There is no such type of login here"));
    };
    let user = user(&info)?;
    let limits = &door.inner.rate_limits;
    limits.check(Class::WrongPassword, address, door.now_ms())?;
    // One bucket for all ways to write the name.
    if let Ok(user_id) = UserId::parse_with_server_name(user.to_ascii_lowercase(), door.engine.server_name()) {
        limits.take(Class::Account, &*user_id, door.now_ms())?;
    }
    let device = NewDevice {
        device_id: request.device_id,
        display_name: request.initial_device_display_name,
        wants_refresh_token: request.refresh_token,
    };
    let session = match door.engine.login_password(user, &info.password, device).await {
        Err(EngineError::WrongCredentials) => {
            limits.take(Class::WrongPassword, address, door.now_ms())?;
            return Err(EngineError::WrongCredentials.into());
        }
        outcome => outcome?,
    };
    let mut response = Response::new(session.user_id, session.access_token, session.device_id);
    response.refresh_token = session.refresh_token;
    response.expires_in = milliseconds(session.expires_in_ms);
    Ok(response)
}

fn user(info: &Password) -> Result<&str> {
    #[expect(deprecated, reason = "older clients still send the user here")]
    let legacy = &info.user;
    match (&info.identifier, legacy) {
        (Some(UserIdentifier::Matrix(identifier)), _) => Ok(&identifier.user),
        (Some(_), _) => Err(ApiError::invalid_param("Users are identified by `m.id.user` only")),
        (None, Some(user)) => Ok(user),
        (None, None) => Err(EngineError::MissingParam("There is no `identifier`".to_owned()).into()),
    }
}

pub(crate) fn milliseconds(milliseconds: Option<u64>) -> Option<Duration> {
    milliseconds.map(Duration::from_millis)
}
