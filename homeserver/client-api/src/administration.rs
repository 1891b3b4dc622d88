//! `GET` and `POST /_synapse/admin/v1/register`: operators' scripts make accounts, administrators too.
//!
//! Not of the specification, but what scripts for homeservers expect. Whoever asks proves by a MAC that they know the
//! operator's secret, which itself is never sent. A nonce of ours makes that each MAC counts once.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    http::header::{CONTENT_TYPE, HeaderName},
    routing::get,
};
use engine::{Engine, OperatorRegistration};
use hmac::{Hmac, KeyInit, Mac};
use moka::{policy::EvictionPolicy, sync::Cache};
use serde::Deserialize;
use serde_json::{Value, json};
use sha1::Sha1;

use crate::{
    ClientAddress, Result, body,
    error::ApiError,
    rate_limits::{Class, RateLimits},
};

/// Long enough for a script, and for somebody who pastes.
const NONCE_LIFETIME: Duration = Duration::from_mins(1);

/// Anybody may ask for nonces; the oldest make room.
const NONCES_MAX: u64 = 1_000;

const NONCE_LENGTH: usize = 32;

/// A name and a password.
const BODY_MAX_BYTES: usize = 16 * 1024;

/// What the operator can choose about these endpoints.
#[derive(Clone)]
pub struct AdministrationOptions {
    /// What whoever registers users must know.
    pub registration_shared_secret: String,
    /// Whether they are held to the rates of registration.
    pub rate_limits: bool,
}

#[derive(Clone)]
struct Administration {
    engine: Engine,
    secret: Arc<str>,
    nonces: Cache<String, u64>,
    rate_limits: Arc<RateLimits>,
}

/// The operators' endpoints.
pub fn router(engine: Engine, options: AdministrationOptions) -> Router {
    let administration = Administration {
        engine,
        secret: options.registration_shared_secret.into(),
        nonces: Cache::builder()
            .max_capacity(NONCES_MAX)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(NONCE_LIFETIME)
            .build(),
        rate_limits: Arc::new(RateLimits::new(options.rate_limits, &[])),
    };
    Router::new()
        .route("/_synapse/admin/v1/register", get(nonce).post(register))
        .fallback(async || ApiError::Unrecognized)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .with_state(administration)
}

type JsonAnswer = ([(HeaderName, &'static str); 1], String);

fn json_answer(value: &Value) -> JsonAnswer {
    ([(CONTENT_TYPE, "application/json")], value.to_string())
}

async fn nonce(State(administration): State<Administration>) -> JsonAnswer {
    let world = administration.engine.world();
    let nonce = world.random_string(NONCE_LENGTH);
    administration.nonces.insert(nonce.clone(), world.clock.now_ms());
    json_answer(&json!({ "nonce": nonce }))
}

#[derive(Deserialize)]
struct Wanted {
    nonce: String,
    username: String,
    password: String,
    #[serde(default)]
    admin: bool,
    user_type: Option<String>,
    #[serde(default)]
    inhibit_login: bool,
    mac: String,
}

async fn register(State(administration): State<Administration>, request: Request) -> Result<JsonAnswer> {
    let (head, body) = request.into_parts();
    let address = head.extensions.get::<ClientAddress>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |client| client.0);
    let now_ms = administration.engine.world().clock.now_ms();
    administration.rate_limits.take(Class::Register, address, now_ms)?;
    let body = body::read(&head, body, BODY_MAX_BYTES).await?;
    let wanted: Wanted = serde_json::from_slice(&body).map_err(|error| ApiError::bad_json(error.to_string()))?;
    administration.admit(&wanted)?;
    let registration = OperatorRegistration {
        username: wanted.username,
        password: wanted.password,
        admin: wanted.admin,
        inhibit_login: wanted.inhibit_login,
    };
    let registered = administration.engine.register_by_operator(registration).await?;
    let mut answer = json!({
        "user_id": registered.user_id,
        "home_server": administration.engine.server_name(),
    });
    if let Some(session) = registered.session {
        answer["access_token"] = session.access_token.into();
        answer["device_id"] = session.device_id.as_str().into();
    }
    Ok(json_answer(&answer))
}

impl Administration {
    /// A nonce is spent by its first use, right or wrong.
    fn admit(&self, wanted: &Wanted) -> Result<()> {
        if self.nonces.remove(&wanted.nonce).is_none() {
            return Err(ApiError::invalid_param("The nonce is unknown, used up or too old"));
        }
        let mut mac = Hmac::<Sha1>::new_from_slice(self.secret.as_bytes()).expect("a MAC takes keys of any length");
        let rights = if wanted.admin { "admin" } else { "notadmin" };
        let mut fields = vec![&*wanted.nonce, &*wanted.username, &*wanted.password, rights];
        fields.extend(wanted.user_type.as_deref());
        mac.update(fields.join("\0").as_bytes());
        let claimed = unhex(&wanted.mac).ok_or_else(|| ApiError::invalid_param("The MAC is not hexadecimal"))?;
        mac.verify_slice(&claimed).map_err(|_| ApiError::forbidden("The MAC is wrong"))
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |letter: u8| char::from(letter).to_digit(16);
    text.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
            _ => None,
        })
        .collect()
}
