//! `/_matrix/client/v3/login`

pub(crate) mod get_token;

use std::{net::IpAddr, time::Duration};

use engine::{EngineError, NewDevice, Session};
use ruma::{
    UserId,
    api::client::{
        session::{
            get_login_types::v3::{
                self as get_login_types, ApplicationServiceLoginType, LoginType, PasswordLoginType, TokenLoginType,
            },
            login::v3::{ApplicationService, LoginInfo, Password, Request, Response},
        },
        uiaa::UserIdentifier,
    },
    serde::JsonObject,
};

use crate::{Door, Result, arguments::Open, error::ApiError, rate_limits::Class};

/// Log-in with a signed token of another service, as other servers call it.
const JWT: &str = "org.matrix.login.jwt";

pub(crate) async fn types(door: Door, _: Open<get_login_types::Request>) -> Result<get_login_types::Response> {
    let accounts = &door.engine.settings().accounts;
    let mut types = vec![LoginType::Password(PasswordLoginType::new())];
    if accounts.login_tokens {
        let mut by_token = TokenLoginType::new();
        by_token.get_login_token = true;
        types.push(LoginType::Token(by_token));
    }
    if !door.engine.services().all().is_empty() {
        types.push(LoginType::ApplicationService(ApplicationServiceLoginType::new()));
    }
    if accounts.jwt.is_some() {
        types.push(LoginType::new(JWT, JsonObject::new()).map_err(ApiError::internal)?);
    }
    Ok(get_login_types::Response::new(types))
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
    let by_service = matches!(asked.request.login_info, LoginInfo::ApplicationService(_));
    let service = by_service.then(|| asked.service()).transpose()?;
    let Open { request, address, .. } = asked;
    let device = NewDevice {
        device_id: request.device_id,
        display_name: request.initial_device_display_name,
        wants_refresh_token: request.refresh_token,
    };
    let session = match (&service, &request.login_info) {
        (Some(service), LoginInfo::ApplicationService(info)) => {
            door.engine.login_for_service(service, service_user(info)?, device).await?
        }
        _ => log_in(&door, address, request.login_info, device).await?,
    };
    let mut response = Response::new(session.user_id, session.access_token, session.device_id);
    response.refresh_token = session.refresh_token;
    response.expires_in = milliseconds(session.expires_in_ms);
    Ok(response)
}

/// Logs a device in. Whoever guesses wrong is soon not listened to any more.
pub(crate) async fn log_in(door: &Door, address: IpAddr, info: LoginInfo, device: NewDevice) -> Result<Session> {
    door.inner.rate_limits.check(Class::WrongPassword, address, door.now_ms())?;
    let outcome = by_any_means(door, info, device).await;
    if let Err(ApiError::Engine(EngineError::WrongCredentials)) = outcome {
        door.inner.rate_limits.take(Class::WrongPassword, address, door.now_ms())?;
    }
    outcome
}

async fn by_any_means(door: &Door, info: LoginInfo, device: NewDevice) -> Result<Session> {
    match info {
        LoginInfo::Password(info) => by_password(door, &info, device).await,
        LoginInfo::Token(info) if door.engine.settings().accounts.login_tokens => {
            Ok(door.engine.login_token(&info.token, device).await?)
        }
        other if other.login_type() == JWT && door.engine.settings().accounts.jwt.is_some() => {
            let missing = || EngineError::MissingParam("There is no `token`".to_owned());
            let data = other.data();
            let token = data.get("token").and_then(serde_json::Value::as_str).ok_or_else(missing)?;
            Ok(door.engine.login_jwt(token, device).await?)
        }
        _ => Err(ApiError::invalid_param("There is no such type of login here")),
    }
}

async fn by_password(door: &Door, info: &Password, device: NewDevice) -> Result<Session> {
    let limits = &door.inner.rate_limits;
    match user(info)? {
        Named::User(user) => {
            // One bucket for all ways to write the name.
            if let Ok(user_id) = UserId::parse_with_server_name(user.to_ascii_lowercase(), door.engine.server_name()) {
                limits.take(Class::Account, &*user_id, door.now_ms())?;
            }
            Ok(door.engine.login_password(user, &info.password, device).await?)
        }
        Named::Address(address) => {
            limits.take(Class::Account, address.to_lowercase().as_str(), door.now_ms())?;
            Ok(door.engine.login_address("email", address, &info.password, device).await?)
        }
    }
}

/// How a user is named.
enum Named<'a> {
    User(&'a str),
    Address(&'a str),
}

fn service_user(info: &ApplicationService) -> Result<&str> {
    #[expect(deprecated, reason = "older services still send the user here")]
    match (&info.identifier, &info.user) {
        (Some(UserIdentifier::Matrix(identifier)), _) => Ok(&identifier.user),
        (None, Some(user)) => Ok(user),
        (Some(_), _) => Err(ApiError::invalid_param("Users of application services are identified by `m.id.user`")),
        (None, None) => Err(EngineError::MissingParam("There is no `identifier`".to_owned()).into()),
    }
}

fn user(info: &Password) -> Result<Named<'_>> {
    #[expect(deprecated, reason = "older clients still send the user here")]
    let (legacy_user, legacy_medium, legacy_address) = (&info.user, &info.medium, &info.address);
    match (&info.identifier, legacy_user, legacy_address) {
        (Some(UserIdentifier::Matrix(identifier)), _, _) => Ok(Named::User(&identifier.user)),
        (Some(UserIdentifier::Email(identifier)), _, _) => Ok(Named::Address(&identifier.address)),
        (Some(_), _, _) => Err(ApiError::invalid_param("Users are identified by `m.id.user` or their e-mail address")),
        (None, Some(user), _) => Ok(Named::User(user)),
        (None, None, Some(address)) if legacy_medium.as_deref() == Some("email") => Ok(Named::Address(address)),
        (None, None, _) => Err(EngineError::MissingParam("There is no `identifier`".to_owned()).into()),
    }
}

pub(crate) fn milliseconds(milliseconds: Option<u64>) -> Option<Duration> {
    milliseconds.map(Duration::from_millis)
}
