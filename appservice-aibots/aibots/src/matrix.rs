//! The homeserver, as seen by an application service: calls on behalf of our users, tried again until they are answered.

mod calls;

pub(crate) use self::calls::text;

use std::time::Duration;

use bytes::Bytes;
use reqwest::{Method, StatusCode, Url, header};
use rules::world::World;
use serde_json::Value;

use crate::http::{self, Http, HttpFault};

/// How long one attempt may take. Joining a room of other servers takes long.
const ATTEMPT_DEADLINE: Duration = Duration::from_mins(1);

/// The largest answer that is read: the state of a room of the size that bots go into.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// For how long a call is tried: a homeserver that restarts is back by then.
const TRYING_MS: u64 = 120_000;

/// The first and the longest pause between attempts.
const PAUSE_MIN_MS: u64 = 250;
const PAUSE_MAX_MS: u64 = 10_000;

/// The longest wait that a homeserver may ask for.
const ASKED_PAUSE_MAX_MS: u64 = 60_000;

/// Why a call has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// The homeserver says no.
    #[error("the homeserver refuses: {status} {code}")]
    Refused {
        /// The status.
        status: u16,
        /// The errcode.
        code: String,
        /// The session of a refusal that asks for authentication, or else nothing.
        session: Option<String>,
    },
    /// It could not be asked, for as long as was tried.
    #[error("the homeserver is not answering: {0}")]
    Away(String),
    /// Its answer is larger than we read.
    #[error("the homeserver's answer is too large")]
    TooLarge,
    /// It gave something that is no answer to this.
    #[error("the homeserver's answer lacks {0}")]
    Strange(&'static str),
}

impl CallError {
    /// Whether the homeserver has answered, and said no.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }

    /// Whether the homeserver itself says that something is not there for who asks. What a proxy before it says, or what
    /// is said of our token, says nothing of a room.
    pub(crate) fn is_exclusion(&self) -> bool {
        let is_said = |code: &str| code.starts_with("M_") && code != "M_UNRECOGNIZED";
        matches!(self, Self::Refused { status: 403 | 404, code, .. } if is_said(code))
    }
}

/// Who calls.
#[derive(Clone, Copy, Debug)]
pub(crate) enum As<'a> {
    /// The service itself.
    Service,
    /// One of our users, in the service's name.
    User(&'a str),
    /// A device of one of our users, by its own token.
    Device(&'a str),
}

/// The homeserver.
#[derive(Clone)]
pub(crate) struct Homeserver {
    http: Http,
    base: Url,
    token: String,
    world: World,
}

impl Homeserver {
    pub(crate) fn new(http: Http, base: Url, token: String, world: World) -> Self {
        Self { http, base, token, world }
    }

    /// An address below `/_matrix/`, out of parts that are escaped each.
    fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("_matrix").extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// One attempt: the status, and the body as it came.
    async fn attempt(
        &self,
        who: As<'_>,
        method: &Method,
        url: &Url,
        body: Option<&Value>,
        deadline: Duration,
    ) -> Result<(StatusCode, Option<u64>, Bytes), HttpFault> {
        let mut url = url.clone();
        let token = match who {
            As::Device(token) => token,
            As::Service => &self.token,
            As::User(user_id) => {
                url.query_pairs_mut().append_pair("user_id", user_id);
                &self.token
            }
        };
        let mut request = self.http.request(method.clone(), url).bearer_auth(token);
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let response = http::send(request, deadline).await?;
        let status = response.status();
        let asked =
            response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let body = http::body(response, ANSWER_BYTES_MAX, deadline).await?;
        Ok((status, asked.map(|seconds| seconds * 1000), body))
    }

    /// One attempt, without a second.
    pub(crate) async fn once(
        &self,
        who: As<'_>,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
        deadline: Duration,
    ) -> Result<Value, CallError> {
        let url = self.url(path, query);
        let (status, _, bytes) = self
            .attempt(who, &method, &url, body, deadline)
            .await
            .map_err(|fault| CallError::Away(fault.to_string()))?;
        read(status, &bytes)
    }

    /// A call, tried again while the homeserver is away, in trouble, or wants us to wait.
    pub(crate) async fn call(
        &self,
        who: As<'_>,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value, CallError> {
        let url = self.url(path, query);
        let start_ms = self.world.clock.now_ms();
        let mut pause_ms = PAUSE_MIN_MS;
        loop {
            let (trouble, asked_ms) = match self.attempt(who, &method, &url, body, ATTEMPT_DEADLINE).await {
                Ok((status, _, bytes)) if status.is_success() => return read(status, &bytes),
                Ok((status, asked_ms, bytes))
                    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS =>
                {
                    (format!("status {}", status.as_u16()), asked_ms.or_else(|| asked_in_body(&bytes)))
                }
                Ok((status, _, bytes)) => return Err(refusal(status, &bytes)),
                Err(HttpFault::TooLarge) => return Err(CallError::TooLarge),
                Err(fault) => (fault.to_string(), None),
            };
            metrics::counter!("aibots_homeserver_retries_total").increment(1);
            let now_ms = self.world.clock.now_ms();
            if now_ms.saturating_sub(start_ms) >= TRYING_MS {
                return Err(CallError::Away(trouble));
            }
            let jittered = pause_ms / 2 + self.world.random_below(pause_ms);
            let wait_ms = asked_ms.map_or(jittered, |asked| asked.min(ASKED_PAUSE_MAX_MS));
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            pause_ms = (pause_ms * 2).min(PAUSE_MAX_MS);
        }
    }
}

fn asked_in_body(bytes: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Value>(bytes).ok()?.get("retry_after_ms")?.as_u64()
}

fn read(status: StatusCode, bytes: &[u8]) -> Result<Value, CallError> {
    if status.is_success() {
        return serde_json::from_slice(bytes).map_err(|_| CallError::Strange("JSON"));
    }
    Err(refusal(status, bytes))
}

fn refusal(status: StatusCode, bytes: &[u8]) -> CallError {
    let body: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let text = |field: &str| body.get(field).and_then(Value::as_str).map(str::to_owned);
    CallError::Refused { status: status.as_u16(), code: text("errcode").unwrap_or_default(), session: text("session") }
}
