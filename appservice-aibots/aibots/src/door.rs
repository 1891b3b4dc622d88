//! The door for the homeserver: it is told "kept" before anything is done about what it brings.
//! <https://spec.matrix.org/v1.19/application-service-api/#server---application-service-api>

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, RawQuery, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use serde_json::{Value, json};
use subtle::ConstantTimeEq;

use crate::conversation::event::Object;
use crate::names::PROTOCOL;
use crate::service::Service;

/// The largest transaction: a hundred events of the largest size, twice over for what stands beside them.
const TRANSACTION_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Whatever a homeserver may ask, below both the prefix of today and none, as it was before v1.
pub(crate) fn router(service: &Arc<Service>) -> Router {
    let mut router = Router::new();
    for prefix in ["/_matrix/app/v1", ""] {
        router = router
            .route(&format!("{prefix}/transactions/{{transaction_id}}"), put(transaction))
            .route(&format!("{prefix}/users/{{user_id}}"), get(user))
            .route(&format!("{prefix}/rooms/{{alias}}"), get(room));
    }
    router
        .route("/_matrix/app/v1/ping", post(ping))
        .route("/_matrix/app/v1/thirdparty/protocol/{protocol}", get(protocol))
        .route("/_matrix/app/v1/thirdparty/user/{protocol}", get(third_party_users))
        .route("/_matrix/app/v1/thirdparty/user", get(third_party_user))
        .fallback(unrecognized)
        .layer(middleware::from_fn_with_state(service.clone(), admit))
        .route("/health", get(async || "OK"))
        .layer(DefaultBodyLimit::max(TRANSACTION_BYTES_MAX))
        .with_state(service.clone())
}

fn refusal(status: StatusCode, code: &str, reason: &str) -> Response {
    answer(status, &json!({ "errcode": code, "error": reason }))
}

fn answer(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

fn done() -> Response {
    answer(StatusCode::OK, &json!({}))
}

/// A field of a query.
fn field(query: Option<&str>, name: &str) -> Option<String> {
    let mut fields = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    fields.find(|(field, _)| field == name).map(|(_, value)| value.into_owned())
}

async fn unrecognized() -> Response {
    refusal(StatusCode::NOT_FOUND, "M_UNRECOGNIZED", "There is nothing here.")
}

/// Lets in who shows the homeserver's token, by header or, as it was before, in the address.
async fn admit(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let header = header.and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned);
    let in_query = || field(request.uri().query(), "access_token");
    let Some(token) = header.or_else(in_query) else {
        return refusal(StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN", "The homeserver's token is missing.");
    };
    if !bool::from(token.as_bytes().ct_eq(service.hs_token().as_bytes())) {
        return refusal(StatusCode::FORBIDDEN, "M_FORBIDDEN", "This is not the homeserver's token.");
    }
    next.run(request).await
}

async fn transaction(State(service): State<Arc<Service>>, body: Bytes) -> Response {
    let Ok(body) = serde_json::from_slice::<Object>(&body) else {
        return refusal(StatusCode::BAD_REQUEST, "M_NOT_JSON", "A transaction is a JSON object.");
    };
    let events = body.get("events").and_then(Value::as_array);
    let events: Vec<_> = events.into_iter().flatten().filter_map(event).collect();
    match service.receive(&events).await {
        Ok(()) => done(),
        Err(error) => {
            tracing::error!(%error, "cannot keep a transaction");
            refusal(StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN", "It could not be kept.")
        }
    }
}

/// Ids and text of an event. One without them is nothing that could be answered.
fn event(event: &Value) -> Option<(String, String, String)> {
    let text = |field: &str| event.get(field).and_then(Value::as_str).map(str::to_owned);
    Some((text("event_id")?, text("room_id")?, event.to_string()))
}

async fn user(State(service): State<Arc<Service>>, Path(user_id): Path<String>) -> Response {
    if service.bot(&user_id).is_some() { done() } else { refusal(StatusCode::NOT_FOUND, "M_NOT_FOUND", "No such bot.") }
}

async fn room() -> Response {
    refusal(StatusCode::NOT_FOUND, "M_NOT_FOUND", "There are no rooms here.")
}

async fn ping() -> Response {
    done()
}

async fn protocol(Path(protocol): Path<String>) -> Response {
    if protocol != PROTOCOL {
        return refusal(StatusCode::NOT_FOUND, "M_NOT_FOUND", "No such protocol.");
    }
    let name = json!({ "regexp": "[a-z0-9._=/-]+", "placeholder": "friendly-assistant" });
    let instance = json!({ "network_id": PROTOCOL, "desc": "AI bots", "fields": {} });
    let protocol = json!({ "user_fields": ["name"], "location_fields": [], "icon": "",
        "field_types": { "name": name }, "instances": [instance] });
    answer(StatusCode::OK, &protocol)
}

async fn third_party_users(
    State(service): State<Arc<Service>>,
    Path(protocol): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let name = field(query.as_deref(), "name");
    let bots = service.bots().iter().filter(|bot| name.as_ref().is_none_or(|name| *name == bot.settings.localpart));
    let users: Vec<Value> = bots.map(|bot| third_party(&bot.user_id, &bot.settings.localpart)).collect();
    let users = if protocol == PROTOCOL { users } else { Vec::new() };
    answer(StatusCode::OK, &Value::Array(users))
}

async fn third_party_user(State(service): State<Arc<Service>>, RawQuery(query): RawQuery) -> Response {
    let bot = field(query.as_deref(), "userid").and_then(|user_id| service.bot(&user_id));
    let users: Vec<Value> = bot.into_iter().map(|bot| third_party(&bot.user_id, &bot.settings.localpart)).collect();
    answer(StatusCode::OK, &Value::Array(users))
}

fn third_party(user_id: &str, localpart: &str) -> Value {
    json!({ "userid": user_id, "protocol": PROTOCOL, "fields": { "name": localpart } })
}
