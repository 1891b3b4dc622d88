//! `/_matrix/client/v3/account/3pid/...`, and the `requestToken` endpoints of registration and passwords.
//!
//! No identity server is ever asked, or told: what would need one is refused.

use std::net::IpAddr;

use engine::{AddressPurpose, EngineError, LetterRequest};
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedSessionId, UInt,
    api::{
        IncomingRequest,
        auth_scheme::AccessToken,
        client::account::{
            ThirdPartyIdRemovalStatus, add_3pid::v3 as add_3pid, bind_3pid::v3 as bind_3pid,
            delete_3pid::v3 as delete_3pid, get_3pids::v3 as get_3pids,
            request_3pid_management_token_via_email::v3 as token_to_add,
            request_3pid_management_token_via_msisdn::v3 as call_to_add,
            request_password_change_token_via_email::v3 as token_for_password,
            request_password_change_token_via_msisdn::v3 as call_for_password,
            request_registration_token_via_email::v3 as token_to_register,
            request_registration_token_via_msisdn::v3 as call_to_register, unbind_3pid::v3 as unbind_3pid,
        },
        error::DeserializationError,
        metadata,
    },
    thirdparty::{ThirdPartyIdentifier, ThirdPartyIdentifierInit},
};

use crate::{Arguments, Door, Result, arguments::Open, error::ApiError, json::Json, rate_limits::Class};

pub(crate) async fn list(door: Door, asked: Arguments<get_3pids::Request>) -> Result<Json<serde_json::Value>> {
    let ids = door.engine.third_party_ids(&asked.requester.user_id).await?;
    let time = |ts| MilliSecondsSinceUnixEpoch(UInt::new_saturating(ts));
    let shown = |id: storage::ThirdPartyId| {
        let (medium, address) = (id.medium.into(), id.address);
        let (validated_at, added_at) = (time(id.validated_ts), time(id.added_ts));
        ThirdPartyIdentifier::from(ThirdPartyIdentifierInit { address, medium, validated_at, added_at })
    };
    // ruma leaves the list out where it is empty; clients read it.
    let ids: Vec<_> = ids.into_iter().map(shown).collect();
    Ok(Json(serde_json::json!({ "threepids": ids })))
}

/// The older way to add an address, for which ruma has no type. What it says makes no difference.
pub(crate) struct OlderRequest;

metadata! {
    @for OlderRequest,
    method: POST,
    rate_limited: false,
    authentication: AccessToken,
    history: {
        1.0 => "/_matrix/client/r0/account/3pid",
        1.1 => "/_matrix/client/v3/account/3pid",
    }
}

impl IncomingRequest for OlderRequest {
    type EndpointError = ruma::api::error::Error;
    type OutgoingResponse = add_3pid::Response;

    fn try_from_http_request_inner(_: http::Request<&[u8]>, _: &[&str]) -> Result<Self, DeserializationError> {
        Ok(Self)
    }
}

/// Trusts an identity server, and asks for no confirmation.
pub(crate) async fn post(_: Door, _: Arguments<OlderRequest>) -> Result<add_3pid::Response> {
    let text = "This server asks no identity servers; use /account/3pid/add";
    Err(EngineError::ThirdPartyIdAuthFailed(text.to_owned()).into())
}

pub(crate) async fn add(door: Door, asked: Arguments<add_3pid::Request>) -> Result<add_3pid::Response> {
    let Arguments { request, requester, address, attempt, .. } = asked;
    door.confirm_password(&requester, &attempt, address).await?;
    let (sid, secret) = (request.sid.as_str(), request.client_secret.as_str());
    door.engine.add_third_party_id(&requester.user_id, sid, secret).await?;
    Ok(add_3pid::Response::new())
}

pub(crate) async fn delete(door: Door, asked: Arguments<delete_3pid::Request>) -> Result<delete_3pid::Response> {
    let Arguments { request, requester, .. } = asked;
    door.engine.delete_third_party_id(&requester.user_id, request.medium.as_str(), &request.address).await?;
    Ok(delete_3pid::Response::new(ThirdPartyIdRemovalStatus::NoSupport))
}

pub(crate) async fn bind(_: Door, _: Arguments<bind_3pid::Request>) -> Result<bind_3pid::Response> {
    Err(ApiError::forbidden("This server makes no addresses known to identity servers"))
}

pub(crate) async fn unbind(_: Door, _: Arguments<unbind_3pid::Request>) -> Result<unbind_3pid::Response> {
    Ok(unbind_3pid::Response::new(ThirdPartyIdRemovalStatus::NoSupport))
}

pub(crate) async fn email_to_register(
    door: Door,
    asked: Open<token_to_register::Request>,
) -> Result<token_to_register::Response> {
    let Open { request, address, .. } = asked;
    if door.engine.settings().registration == engine::Registration::Closed {
        return Err(ApiError::forbidden("Registration is disabled"));
    }
    let letter = LetterRequest {
        purpose: AddressPurpose::Register,
        address: request.email,
        client_secret: request.client_secret.to_string(),
        send_attempt: request.send_attempt.into(),
        next_link: request.next_link,
    };
    Ok(token_to_register::Response::new(send(&door, letter, address).await?))
}

pub(crate) async fn email_for_password(
    door: Door,
    asked: Open<token_for_password::Request>,
) -> Result<token_for_password::Response> {
    let Open { request, address, .. } = asked;
    let letter = LetterRequest {
        purpose: AddressPurpose::Password,
        address: request.email,
        client_secret: request.client_secret.to_string(),
        send_attempt: request.send_attempt.into(),
        next_link: request.next_link,
    };
    Ok(token_for_password::Response::new(send(&door, letter, address).await?))
}

pub(crate) async fn email_to_add(door: Door, asked: Open<token_to_add::Request>) -> Result<token_to_add::Response> {
    let Open { request, address, .. } = asked;
    let letter = LetterRequest {
        purpose: AddressPurpose::Add,
        address: request.email,
        client_secret: request.client_secret.to_string(),
        send_attempt: request.send_attempt.into(),
        next_link: request.next_link,
    };
    Ok(token_to_add::Response::new(send(&door, letter, address).await?))
}

async fn send(door: &Door, letter: LetterRequest, address: IpAddr) -> Result<OwnedSessionId> {
    let limits = &door.inner.rate_limits;
    limits.take(Class::Letter, address, door.now_ms())?;
    limits.take(Class::LetterTo, letter.address.to_lowercase().as_str(), door.now_ms())?;
    let session_id = door.engine.request_letter(letter).await?;
    OwnedSessionId::try_from(session_id).map_err(ApiError::internal)
}

fn no_telephone() -> ApiError {
    EngineError::MediumNotSupported(
        "This server sends no text messages, so telephone numbers cannot be confirmed".to_owned(),
    )
    .into()
}

pub(crate) async fn msisdn_to_register(
    _: Door,
    _: Open<call_to_register::Request>,
) -> Result<call_to_register::Response> {
    Err(no_telephone())
}

pub(crate) async fn msisdn_for_password(
    _: Door,
    _: Open<call_for_password::Request>,
) -> Result<call_for_password::Response> {
    Err(no_telephone())
}

pub(crate) async fn msisdn_to_add(_: Door, _: Open<call_to_add::Request>) -> Result<call_to_add::Response> {
    Err(no_telephone())
}
