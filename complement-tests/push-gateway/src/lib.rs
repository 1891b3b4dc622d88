//! A push gateway that takes the specification at its word, and fails in all ways in which one can.
//!
//! It is a network in which there is nothing but push gateways. What it is told is judged field by field, and a fault
//! fails the test that let it happen, at the latest when the gateway is dropped.
//!
//! Spec: <https://spec.matrix.org/v1.19/push-gateway-api/#post_matrixpushv1notify>

mod judge;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use outbound::{CallLimits, Transport, TransportError};
use ruma::ServerName;
use serde_json::{Value, json};

/// The URL of a gateway, for clients.
pub fn url(host: &str) -> String {
    format!("https://{host}/_matrix/push/v1/notify")
}

/// What a gateway does when it is told something.
#[derive(Clone, Debug)]
pub enum Answer {
    /// It passes it on.
    Delivered,
    /// It passes it on, and knows these pushkeys no more.
    Rejected(Vec<String>),
    /// It answers with a status of failure.
    Status(u16),
    /// It says 200, and something that is no answer.
    Garbage,
    /// It sends its callers elsewhere.
    Redirect,
    /// It takes too long to answer, or to send all of its answer.
    Slow,
    /// Its answer is larger than anybody wants to read.
    Huge,
    /// It is not there.
    Gone,
}

/// What a gateway was told.
#[derive(Clone, Debug)]
pub struct Told {
    /// Which gateway: the host.
    pub host: String,
    /// The notification.
    pub notification: Value,
}

impl Told {
    /// The pushkey of its only device.
    pub fn pushkey(&self) -> &str {
        self.notification["devices"][0]["pushkey"].as_str().unwrap_or_default()
    }

    /// How much it says is unread; nothing where it does not.
    pub fn unread(&self) -> Option<u64> {
        self.notification["counts"]["unread"].as_u64()
    }

    /// The event, if it is about one.
    pub fn event_id(&self) -> Option<&str> {
        self.notification["event_id"].as_str()
    }
}

/// All gateways of a network. Cloning shares them.
#[derive(Clone, Default)]
pub struct PushGateways {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    answers: BTreeMap<String, Answer>,
    told: Vec<Told>,
    asked: Vec<String>,
    faults: Vec<String>,
}

impl PushGateways {
    /// Gateways that deliver everything, whatever they are called.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on a gateway does this.
    pub fn answer(&self, host: &str, answer: Answer) {
        self.state().answers.insert(host.to_owned(), answer);
    }

    /// What was delivered since this was asked last.
    pub fn take(&self) -> Vec<Told> {
        std::mem::take(&mut self.state().told)
    }

    /// How often gateways were called since this was asked last, by host, whatever came of it.
    pub fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.state().asked)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn receive(
        &self,
        request: &http::Request<Bytes>,
        limits: CallLimits,
    ) -> Result<http::Response<Bytes>, TransportError> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let mut state = self.state();
        state.asked.push(host.clone());
        let notification = match judge::notification(request) {
            Ok(notification) => notification,
            Err(fault) => {
                state.faults.push(format!("{host}: {fault}"));
                return Ok(reply(400, &json!({ "errcode": "M_BAD_JSON", "error": fault })));
            }
        };
        let rejected = match state.answers.get(&host).unwrap_or(&Answer::Delivered) {
            Answer::Delivered => Vec::new(),
            Answer::Rejected(pushkeys) => pushkeys.clone(),
            Answer::Status(status) => return Ok(reply(*status, &json!({ "errcode": "M_UNKNOWN", "error": "no" }))),
            Answer::Garbage => {
                state.told.push(Told { host, notification });
                return Ok(http::Response::new(Bytes::from_static(b"<html>ok</html>")));
            }
            Answer::Redirect => {
                let mut moved = reply(302, &json!({}));
                moved.headers_mut().insert("location", http::HeaderValue::from_static("https://10.0.0.1/"));
                return Ok(moved);
            }
            Answer::Slow => return Err(TransportError::Deadline(limits.deadline)),
            Answer::Huge => return Err(TransportError::TooLarge { limit_bytes: limits.body_max_bytes }),
            Answer::Gone => return Err(TransportError::Unreachable("connection refused".to_owned())),
        };
        state.told.push(Told { host, notification });
        Ok(reply(200, &json!({ "rejected": rejected })))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        assert!(
            state.faults.is_empty() || std::thread::panicking(),
            "push gateways were told what the specification does not allow: {:?}",
            state.faults
        );
    }
}

impl Transport for PushGateways {
    fn send<'a>(
        &'a self,
        _destination: &'a ServerName,
        _request: http::Request<Bytes>,
        _limits: CallLimits,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, TransportError>> {
        Box::pin(async { Err(TransportError::Unreachable("there are only push gateways".to_owned())) })
    }

    fn notify(
        &self,
        request: http::Request<Bytes>,
        limits: CallLimits,
    ) -> BoxFuture<'_, Result<http::Response<Bytes>, TransportError>> {
        Box::pin(async move { self.receive(&request, limits) })
    }
}

fn reply(status: u16, body: &Value) -> http::Response<Bytes> {
    let mut reply = http::Response::new(Bytes::from(body.to_string()));
    *reply.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    reply
}
