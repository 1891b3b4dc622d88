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
use tokio::sync::Notify;

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
    /// It says nothing until it is to do something else, and does that then.
    Held,
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
    changed: Notify,
}

#[derive(Default)]
struct State {
    answers: BTreeMap<String, Answer>,
    told: Vec<Told>,
    asked: Vec<String>,
    faults: Vec<String>,
    /// The pushkeys of the calls that are held, by host.
    held: BTreeMap<String, Vec<String>>,
}

impl PushGateways {
    /// Gateways that deliver everything, whatever they are called.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on a gateway does this.
    pub fn answer(&self, host: &str, answer: Answer) {
        self.state().answers.insert(host.to_owned(), answer);
        self.inner.changed.notify_waiters();
    }

    /// The pushkeys for which a gateway is being called and says nothing.
    pub fn held(&self, host: &str) -> Vec<String> {
        self.state().held.get(host).cloned().unwrap_or_default()
    }

    /// Waits as long as a gateway says nothing.
    async fn hold(&self, request: &http::Request<Bytes>) {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let told: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let pushkey = told["notification"]["devices"][0]["pushkey"].as_str().unwrap_or_default().to_owned();
        let mut holding: Option<Held<'_>> = None;
        loop {
            let changed = self.inner.changed.notified();
            if !matches!(self.state().answers.get(&host), Some(Answer::Held)) {
                return;
            }
            if holding.is_none() {
                self.state().held.entry(host.clone()).or_default().push(pushkey.clone());
                holding = Some(Held { gateways: self, host: &host, pushkey: &pushkey });
            }
            changed.await;
        }
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
            Answer::Delivered | Answer::Held => Vec::new(),
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

/// A call that is held, until it is answered or given up.
struct Held<'a> {
    gateways: &'a PushGateways,
    host: &'a str,
    pushkey: &'a str,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut state = self.gateways.state();
        let held = state.held.entry(self.host.to_owned()).or_default();
        if let Some(place) = held.iter().position(|pushkey| pushkey == self.pushkey) {
            held.remove(place);
        }
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
        Box::pin(async move {
            self.hold(&request).await;
            self.receive(&request, limits)
        })
    }
}

fn reply(status: u16, body: &Value) -> http::Response<Bytes> {
    let mut reply = http::Response::new(Bytes::from(body.to_string()));
    *reply.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    reply
}
