//! The page by which people log in whose client knows none of our ways to log in.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#login-fallback>

use axum::{
    extract::{RawQuery, Request, State},
    http::StatusCode,
};
use engine::NewDevice;
use ruma::api::client::{
    session::login::v3::{LoginInfo, Password},
    uiaa::{MatrixUserIdentifier, UserIdentifier},
};
use serde_json::json;

use super::{
    Page, Parameters,
    html::{self, Form, page},
    parameter, parameters, read_form, too_often,
};
use crate::{Door, error::ApiError, login, rate_limits::Class};

/// Where the page is.
pub(super) const PATH: &str = "/_matrix/static/client/login/";
/// What of the query goes on to the log-in.
const DEVICE: [&str; 2] = ["device_id", "initial_device_display_name"];

pub(super) async fn show(RawQuery(query): RawQuery) -> Page {
    form_page(&parameters(query.as_deref().unwrap_or_default()), None)
}

pub(super) async fn log_in(State(door): State<Door>, request: Request) -> Page {
    let Ok((form, address)) = read_form(&door, request).await else { return too_often() };
    if door.inner.rate_limits.take(Class::Login, address, door.now_ms()).is_err() {
        return too_often();
    }
    let named = |name: &str| form.get(name).filter(|text| !text.is_empty()).cloned();
    let device = NewDevice {
        device_id: named("device_id").map(Into::into),
        display_name: named("initial_device_display_name"),
        wants_refresh_token: false,
    };
    let user = UserIdentifier::Matrix(MatrixUserIdentifier::new(parameter(&form, "user").to_owned()));
    let info = LoginInfo::Password(Password::new(user, parameter(&form, "secret").to_owned()));
    match login::log_in(&door, address, info, device).await {
        Ok(session) => {
            let session = json!({
                "user_id": session.user_id, "access_token": session.access_token, "device_id": session.device_id,
            });
            html::logged_in("Welcome", "You can go back to your app now.", &session)
        }
        Err(ApiError::LimitExceeded { .. }) => too_often(),
        Err(_) => form_page(&form, Some("That did not work.")),
    }
}

fn form_page(given: &Parameters, refusal: Option<&str>) -> Page {
    let hidden = DEVICE.map(|name| (name, parameter(given, name)));
    let hidden: Vec<_> = hidden.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    let form = Form { action: "", hidden: &hidden, user: Some("User"), secret: Some("Password"), button: "Log in" };
    let status = if refusal.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
    page(status, "Log in", refusal.unwrap_or("Give your name and your password."), Some(&form))
}
