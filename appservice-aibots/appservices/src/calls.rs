//! Single calls. Each has a deadline and a limit to what it reads.
//!
//! Spec: <https://spec.matrix.org/v1.19/application-service-api/#homeserver---application-service-api>

use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder, Url, header::AUTHORIZATION};
use ruma::{RoomAliasId, UserId};
use serde_json::{Value, json};

use crate::Service;

/// How long a service may take for a transaction: a bridge may wait for the network behind it.
const TRANSACTION_DEADLINE: Duration = Duration::from_mins(1);
/// How long a service may take for whatever a client waits for.
const QUERY_DEADLINE: Duration = Duration::from_secs(10);
/// How often, within that time, a service is asked that cannot be connected to: it may be restarting.
const QUERY_ATTEMPTS: u32 = 3;
/// How long to wait before the next attempt.
const QUERY_PAUSE: Duration = Duration::from_millis(500);
/// How much of an answer is read. Lists of third-party users and locations are the largest.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// How much of an answer the asker of a ping is shown.
const PING_ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Why a call came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The service wants no calls.
    #[error("the application service has no url")]
    NoUrl,
    /// It cannot be connected to, or broke off.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// It took too long.
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// It answered with another status than 200.
    #[error("answered with status {status}")]
    Refused {
        /// The status.
        status: u16,
        /// What else it said; may hold anything.
        body: String,
    },
    /// Its answer is too large, or not what it should be.
    #[error("answered with what makes no sense: {0}")]
    Senseless(String),
}

/// What a service answered to a question whether something exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It does, and the service has made it.
    Exists,
    /// It does not.
    Unknown,
}

/// What services are asked for about third-party networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol<'a> {
    /// What the network is.
    Itself(&'a str),
    /// Its users who have these properties.
    Users(&'a str),
    /// Its locations that have these properties.
    Locations(&'a str),
    /// The users of networks who are a Matrix user.
    UsersById,
    /// The locations of networks that are a room.
    LocationsByAlias,
}

impl Service {
    /// Delivers a transaction.
    pub async fn transaction(&self, transaction_id: &str, body: String) -> Result<(), CallError> {
        let path = ["_matrix", "app", "v1", "transactions", transaction_id];
        self.call(Method::PUT, (&path, &path[3..]), &[], Some(body), TRANSACTION_DEADLINE).await.map(drop)
    }

    /// Asks whether it is there. Says how long that took.
    pub async fn ping(&self, transaction_id: Option<&str>) -> Result<Duration, CallError> {
        let body = transaction_id.map_or_else(|| json!({}), |id| json!({ "transaction_id": id }));
        let path = ["_matrix", "app", "v1", "ping"];
        let started = Instant::now();
        let request = self.request(Method::POST, &path, &[])?.body(body.to_string());
        let answered = read(request, PING_ANSWER_BYTES_MAX);
        within(QUERY_DEADLINE, answered).await?;
        Ok(started.elapsed())
    }

    /// Asks whether a user of its exists. If so, it has made them before it answers.
    pub async fn has_user(&self, user_id: &UserId) -> Result<Answer, CallError> {
        self.exists("users", user_id.as_str()).await
    }

    /// Asks whether an alias of its exists. If so, it has made it before it answers.
    pub async fn has_alias(&self, alias: &RoomAliasId) -> Result<Answer, CallError> {
        self.exists("rooms", alias.as_str()).await
    }

    async fn exists(&self, kind: &str, identifier: &str) -> Result<Answer, CallError> {
        let path = ["_matrix", "app", "v1", kind, identifier];
        match self.ask((&path, &path[3..]), &[]).await {
            Ok(_) => Ok(Answer::Exists),
            Err(CallError::Refused { status: 404, .. }) => Ok(Answer::Unknown),
            Err(error) => Err(error),
        }
    }

    /// Asks about third-party networks. `fields` go along as they are.
    pub async fn third_party(&self, asked: Protocol<'_>, fields: &[(String, String)]) -> Result<Value, CallError> {
        let (kind, name) = match asked {
            Protocol::Itself(name) => ("protocol", Some(name)),
            Protocol::Users(name) => ("user", Some(name)),
            Protocol::Locations(name) => ("location", Some(name)),
            Protocol::UsersById => ("user", None),
            Protocol::LocationsByAlias => ("location", None),
        };
        let mut path = vec!["_matrix", "app", "v1", "thirdparty", kind];
        path.extend(name);
        let mut older = path.clone();
        older[2] = "unstable";
        let answer = self.ask((&path, &older), fields).await?;
        serde_json::from_slice(&answer).map_err(|error| CallError::Senseless(error.to_string()))
    }

    /// Asks a question, which can be asked again where there was no answer.
    async fn ask(&self, paths: (&[&str], &[&str]), query: &[(String, String)]) -> Result<Vec<u8>, CallError> {
        let asking = async {
            for _ in 1..QUERY_ATTEMPTS {
                match self.call(Method::GET, paths, query, None, QUERY_DEADLINE).await {
                    Err(CallError::Unreachable(_)) => tokio::time::sleep(QUERY_PAUSE).await,
                    outcome => return outcome,
                }
            }
            self.call(Method::GET, paths, query, None, QUERY_DEADLINE).await
        };
        within(QUERY_DEADLINE, asking).await
    }

    /// One call; at the older path too, where the service is one that may know that only.
    async fn call(
        &self,
        method: Method,
        (path, older_path): (&[&str], &[&str]),
        query: &[(String, String)],
        body: Option<String>,
        deadline: Duration,
    ) -> Result<Vec<u8>, CallError> {
        let once = async |path: &[&str]| {
            let mut request = self.request(method.clone(), path, query)?;
            if let Some(body) = &body {
                request = request.body(body.clone());
            }
            read(request, ANSWER_BYTES_MAX).await
        };
        let calling = async {
            match once(path).await {
                Err(CallError::Refused { status: 404 | 405 | 501, .. }) if self.options.legacy => {
                    once(older_path).await
                }
                outcome => outcome,
            }
        };
        within(deadline, calling).await
    }

    fn request(&self, method: Method, path: &[&str], query: &[(String, String)]) -> Result<RequestBuilder, CallError> {
        let mut url = self.registration.url.clone().ok_or(CallError::NoUrl)?;
        extend(&mut url, path)?;
        let hs_token = &self.registration.hs_token;
        if !query.is_empty() || self.options.legacy {
            let mut pairs = url.query_pairs_mut();
            pairs.extend_pairs(query);
            if self.options.legacy {
                pairs.append_pair("access_token", hs_token);
            }
        }
        let request = self.client.request(method, url).header(AUTHORIZATION, format!("Bearer {hs_token}"));
        Ok(request.header("Content-Type", "application/json"))
    }
}

fn extend(url: &mut Url, path: &[&str]) -> Result<(), CallError> {
    let mut segments = url.path_segments_mut().map_err(|()| CallError::NoUrl)?;
    segments.pop_if_empty().extend(path);
    Ok(())
}

async fn within<T>(deadline: Duration, call: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
    tokio::time::timeout(deadline, call).await.unwrap_or(Err(CallError::TimedOut(deadline)))
}

async fn read(request: RequestBuilder, bytes_max: usize) -> Result<Vec<u8>, CallError> {
    let mut response = request.send().await.map_err(|error| unreachable(&error))?;
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| unreachable(&error))? {
        if body.len() + piece.len() > bytes_max {
            return Err(CallError::Senseless(format!("more than {bytes_max} bytes")));
        }
        body.extend_from_slice(&piece);
    }
    if response.status().as_u16() == 200 {
        return Ok(body);
    }
    let body = String::from_utf8_lossy(&body).into_owned();
    Err(CallError::Refused { status: response.status().as_u16(), body })
}

/// Without the URL, in which a token may stand.
fn unreachable(error: &reqwest::Error) -> CallError {
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    CallError::Unreachable(text)
}
