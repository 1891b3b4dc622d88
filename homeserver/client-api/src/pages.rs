//! Pages for browsers: logging in, confirming an e-mail address, and stages of user-interactive authentication that a client has
//! no form of its own for.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#fallback>

mod html;
mod login;

use std::{collections::HashMap, net::IpAddr};

use axum::{
    Router,
    extract::{Path, RawQuery, Request, State},
    http::StatusCode,
    routing::get,
};
use ruma::api::client::uiaa::get_uiaa_fallback_page::v3 as fallback;

pub(crate) use self::html::Page;
use self::html::{Form, page};
use crate::{
    ClientAddress, Door, Result,
    arguments::Open,
    error::ApiError,
    interactive::{Session, Stage},
    rate_limits::Class,
};

/// The largest form, in bytes.
const FORM_BYTES_MAX: usize = 16 * 1024;

/// The pages that the specification has no paths for.
pub(crate) fn router() -> Router<Door> {
    Router::new()
        .route("/_nudge/client/v1/validate_address", get(show_validation).post(validate))
        .route("/_nudge/client/v1/unsubscribe", get(show_unsubscribing).post(unsubscribe))
        .route("/_nudge/client/v1/auth/{auth_type}", axum::routing::post(pass_stage))
        .route(login::PATH, get(login::show).post(login::log_in))
}

type Parameters = HashMap<String, String>;

/// What a letter links to. Mail servers open links to look at them, so opening it is not yet to follow it.
async fn show_validation(RawQuery(query): RawQuery) -> Page {
    let query = parameters(query.as_deref().unwrap_or_default());
    let fields = ["sid", "client_secret", "token"].map(|name| (name, parameter(&query, name)));
    let form = Form { action: "", hidden: &fields, user: None, secret: None, button: "Yes, this is my address" };
    page(StatusCode::OK, "Your e-mail address", "Is this address yours?", Some(&form))
}

async fn validate(State(door): State<Door>, request: Request) -> Page {
    let Ok((form, address)) = read_form(&door, request).await else { return too_often() };
    if door.inner.rate_limits.take(Class::UnknownToken, address, door.now_ms()).is_err() {
        return too_often();
    }
    let [sid, secret, token] = ["sid", "client_secret", "token"].map(|name| parameter(&form, name));
    match door.engine.validate_address(sid, secret, token).await {
        Ok(None) => page(StatusCode::OK, "Thank you", "You can go back to your app now.", None),
        Ok(Some(next)) => html::link("Thank you", "You can go back to your app now, or go on to", &next),
        Err(_) => {
            let text = "This link is not valid any more. Ask your app for another letter.";
            page(StatusCode::BAD_REQUEST, "Too late", text, None)
        }
    }
}

/// What letters about unread messages link to. Opening it ends nothing, for the same reason.
async fn show_unsubscribing(RawQuery(query): RawQuery) -> Page {
    let query = parameters(query.as_deref().unwrap_or_default());
    let fields = [("secret", parameter(&query, "secret"))];
    let form = Form { action: "", hidden: &fields, user: None, secret: None, button: "No more letters" };
    page(StatusCode::OK, "Letters about unread messages", "Do you want no more of these letters?", Some(&form))
}

/// The secret stands in the form, or, where a mail program asks in the name of its user, in the address.
async fn unsubscribe(State(door): State<Door>, RawQuery(query): RawQuery, request: Request) -> Page {
    let Ok((form, address)) = read_form(&door, request).await else { return too_often() };
    if door.inner.rate_limits.take(Class::UnknownToken, address, door.now_ms()).is_err() {
        return too_often();
    }
    let query = parameters(query.as_deref().unwrap_or_default());
    let secret = form.get("secret").map_or_else(|| parameter(&query, "secret"), String::as_str);
    match door.engine.unsubscribe(secret).await {
        Ok(()) => page(StatusCode::OK, "Thank you", "You will get no more of these letters.", None),
        Err(_) => page(StatusCode::BAD_REQUEST, "Already done", "These letters have been ended already.", None),
    }
}

/// `GET /_matrix/client/v3/auth/{authType}/fallback/web`
pub(crate) async fn fallback(door: Door, asked: Open<fallback::Request>) -> Result<Page> {
    let (stage, session) = (asked.request.auth_type, asked.request.session);
    let known = Stage::of(stage.as_str()).zip(door.session(&session));
    let Some((stage, known)) = known.filter(|(stage, known)| is_asked_for(*stage, known)) else {
        return Err(ApiError::invalid_param("There is no such session, or it does not ask for this"));
    };
    Ok(stage_page(&door, stage, &session, &known, None))
}

fn is_asked_for(stage: Stage, session: &Session) -> bool {
    stage != Stage::Email && session.flows.iter().flatten().any(|other| *other == stage)
}

fn stage_page(door: &Door, stage: Stage, id: &str, session: &Session, refusal: Option<&str>) -> Page {
    let action = format!("/_nudge/client/v1/auth/{}", stage.auth_type());
    let hidden = [("session", id)];
    let form = |secret, button| Form { action: &action, hidden: &hidden, user: None, secret, button };
    let (title, text, form) = match stage {
        Stage::Password => {
            let whose = session.owner.user_id().map_or_else(String::new, |user_id| format!("of {user_id}"));
            ("Your password", format!("Give the password {whose} to go on."), form(Some("Password"), "Go on"))
        }
        Stage::RegistrationToken => {
            ("Registration", "Give your registration token.".to_owned(), form(Some("Token"), "Go on"))
        }
        Stage::Terms => {
            let terms = door.inner.options.terms.as_ref();
            let text = terms.map_or_else(String::new, |terms| format!("{}: {}", terms.name, terms.url));
            ("Terms", format!("Please read and accept. {text}"), form(None, "I accept"))
        }
        Stage::Email | Stage::Dummy => ("Go on", "Press the button to go on.".to_owned(), form(None, "Go on")),
    };
    let text = refusal.map_or(text.clone(), |refusal| format!("{refusal}. {text}"));
    page(StatusCode::OK, title, &text, Some(&form))
}

async fn pass_stage(State(door): State<Door>, Path(auth_type): Path<String>, request: Request) -> Page {
    let Ok((form, address)) = read_form(&door, request).await else { return too_often() };
    let id = parameter(&form, "session");
    let known = Stage::of(&auth_type).zip(door.session(id));
    let Some((stage, session)) = known.filter(|(stage, session)| is_asked_for(*stage, session)) else {
        let text = "There is no such session. Go back to your app and try again.";
        return page(StatusCode::BAD_REQUEST, "Too late", text, None);
    };
    let secret = form.get("secret").cloned();
    match door.pass_in_browser(&session, stage, secret, address).await {
        Ok(Ok(())) => html::done("Thank you", "You can go back to your app now."),
        Ok(Err(refusal)) => stage_page(&door, stage, id, &session, Some(refusal)),
        Err(_) => too_often(),
    }
}

fn parameter<'a>(parameters: &'a Parameters, name: &str) -> &'a str {
    parameters.get(name).map_or("", String::as_str)
}

/// The fields of a form, and where it comes from.
async fn read_form(door: &Door, request: Request) -> Result<(Parameters, IpAddr)> {
    let (head, body) = request.into_parts();
    let unknown = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
    let address = head.extensions.get::<ClientAddress>().map_or(unknown, |address| address.0);
    door.inner.rate_limits.take(Class::Other, address, door.now_ms())?;
    let body = axum::body::to_bytes(body, FORM_BYTES_MAX).await;
    let body = body.map_err(|_| ApiError::BodyTooLarge { max_bytes: FORM_BYTES_MAX })?;
    let text = str::from_utf8(&body).map_err(|error| ApiError::NotJson(error.to_string()))?;
    Ok((parameters(text), address))
}

/// What a form and a query are written as.
fn parameters(text: &str) -> Parameters {
    form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}

fn too_often() -> Page {
    page(StatusCode::TOO_MANY_REQUESTS, "Not now", "This could not be done. Wait a moment and try again.", None)
}
