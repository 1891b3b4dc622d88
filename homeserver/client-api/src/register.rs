//! `POST /_matrix/client/v3/register`: the way to a new account.

pub(crate) mod available;
pub(crate) mod token_validity;

use std::net::IpAddr;

use engine::{EngineError, NewDevice, RegisterCommand, Registered, Registration, ServiceRegistration};
use ruma::{
    OwnedDeviceId, OwnedUserId,
    api::client::account::register::{LoginType, RegistrationKind, v3::Request},
};
use serde::Serialize;

use crate::{
    Door, Result,
    arguments::Open,
    error::ApiError,
    interactive::{Attempt, Flow, Owner, Proofs, Stage},
    json::Json,
    rate_limits::Class,
};

pub(crate) async fn register(door: Door, asked: Open<Request>) -> Result<Json<Reply>> {
    if (&asked.request.kind, &asked.request.login_type)
        == (&RegistrationKind::User, &Some(LoginType::ApplicationService))
    {
        return register_for_service(&door, asked).await;
    }
    let Open { request, attempt, address, .. } = asked;
    match (&request.kind, &request.login_type) {
        (RegistrationKind::User, None) => register_user(&door, request, &attempt, address).await,
        (RegistrationKind::Guest, _) => {
            door.inner.rate_limits.take(Class::Register, address, door.now_ms())?;
            Ok(reply(door.engine.register_guest(request.initial_device_display_name).await?))
        }
        _ => Err(ApiError::invalid_param("Unknown kind of registration")),
    }
}

async fn register_for_service(door: &Door, asked: Open<Request>) -> Result<Json<Reply>> {
    let service = asked.service()?;
    let request = asked.request;
    let missing = || EngineError::MissingParam("There is no `username`".to_owned());
    let registration = ServiceRegistration {
        username: request.username.ok_or_else(missing)?,
        device: NewDevice {
            device_id: request.device_id,
            display_name: request.initial_device_display_name,
            wants_refresh_token: request.refresh_token,
        },
        inhibit_login: request.inhibit_login,
    };
    Ok(reply(door.engine.register_for_service(&service, registration).await?))
}

async fn register_user(door: &Door, request: Request, attempt: &Attempt, address: IpAddr) -> Result<Json<Reply>> {
    let username = request.username.as_deref();
    let user_id = match &request.guest_access_token {
        Some(token) => door.engine.upgrade_check(username, token).await?,
        None => door.engine.registration_check(username).await?,
    };
    let proofs = confirm(door, attempt, address).await?;
    door.inner.rate_limits.take(Class::Register, address, door.now_ms())?;
    let command = RegisterCommand {
        user_id,
        password: request.password,
        device: NewDevice {
            device_id: request.device_id,
            display_name: request.initial_device_display_name,
            wants_refresh_token: request.refresh_token,
        },
        registration_token: proofs.registration_token,
        guest_access_token: request.guest_access_token,
        addresses: proofs.address.into_iter().collect(),
        inhibit_login: request.inhibit_login,
    };
    Ok(reply(door.engine.register(command).await?))
}

async fn confirm(door: &Door, attempt: &Attempt, address: IpAddr) -> Result<Proofs> {
    door.confirm(flows(door)?, Owner::Newcomer, attempt, address).await
}

/// What newcomers have to do. Where an e-mail address may be shown but need not, each flow says which it is.
fn flows(door: &Door) -> Result<Vec<Flow>> {
    let mut stages = Vec::new();
    match door.engine.settings().registration {
        Registration::Open => {}
        Registration::Token => stages.push(Stage::RegistrationToken),
        Registration::Closed => return Err(ApiError::forbidden("Registration is disabled")),
    }
    if door.inner.options.terms.is_some() {
        stages.push(Stage::Terms);
    }
    let with = |last: Stage| stages.iter().copied().chain([last]).collect::<Flow>();
    if door.inner.options.registration_requires_email {
        return Ok(vec![with(Stage::Email)]);
    }
    if door.engine.sends_letters() {
        return Ok(vec![with(Stage::Dummy), with(Stage::Email)]);
    }
    if stages.is_empty() {
        stages.push(Stage::Dummy);
    }
    Ok(vec![stages])
}

/// Who is registered, and the session if there is to be one. The type for it that we have from elsewhere writes `null`
/// for a device that there is none of.
#[derive(Serialize)]
pub(crate) struct Reply {
    user_id: OwnedUserId,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    session: Option<SessionReply>,
}

#[derive(Serialize)]
struct SessionReply {
    access_token: String,
    device_id: OwnedDeviceId,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in_ms: Option<u64>,
}

fn reply(registered: Registered) -> Json<Reply> {
    let session = registered.session.map(|session| SessionReply {
        access_token: session.access_token,
        device_id: session.device_id,
        refresh_token: session.refresh_token,
        expires_in_ms: session.expires_in_ms,
    });
    Json(Reply { user_id: registered.user_id, session })
}
